-- What a tenant has of everything: how many objects, and what its publishes take of a cluster.

-- Kept by the triggers below, so that an insert need not count rows, and so that it is right whoever
-- writes. `kind` is the table.
CREATE TABLE object_counts (
    tenant_id UUID NOT NULL,
    kind TEXT NOT NULL,
    objects BIGINT NOT NULL,
    CONSTRAINT uq_object_counts__kind PRIMARY KEY (tenant_id, kind)
);

-- Of the desired revision, as a gateway holds it; 0 in rows of the former release until they are
-- deployed again.
ALTER TABLE product_publishes ADD COLUMN served_bytes BIGINT NOT NULL DEFAULT 0;
ALTER TABLE product_publishes ADD COLUMN regexes BIGINT NOT NULL DEFAULT 0;
-- Covers the sum.
CREATE INDEX ix_product_publishes__served_bytes
    ON product_publishes (tenant_id, cluster_id, id, served_bytes, regexes);

CREATE FUNCTION count_object() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO object_counts (tenant_id, kind, objects)
            VALUES (NEW.tenant_id, TG_TABLE_NAME, 1)
            ON CONFLICT (tenant_id, kind) DO UPDATE SET objects = object_counts.objects + 1;
    ELSE
        UPDATE object_counts SET objects = objects - 1
            WHERE tenant_id = OLD.tenant_id AND kind = TG_TABLE_NAME;
    END IF;
    RETURN NULL;
END
$$;

INSERT INTO object_counts (tenant_id, kind, objects)
    SELECT tenant_id, 'api_services', COUNT(*) FROM api_services GROUP BY tenant_id;
CREATE TRIGGER count_api_services AFTER INSERT OR DELETE ON api_services
    FOR EACH ROW EXECUTE FUNCTION count_object();

INSERT INTO object_counts (tenant_id, kind, objects)
    SELECT tenant_id, 'gateways', COUNT(*) FROM gateways GROUP BY tenant_id;
CREATE TRIGGER count_gateways AFTER INSERT OR DELETE ON gateways
    FOR EACH ROW EXECUTE FUNCTION count_object();

INSERT INTO object_counts (tenant_id, kind, objects)
    SELECT tenant_id, 'products', COUNT(*) FROM products GROUP BY tenant_id;
CREATE TRIGGER count_products AFTER INSERT OR DELETE ON products
    FOR EACH ROW EXECUTE FUNCTION count_object();

INSERT INTO object_counts (tenant_id, kind, objects)
    SELECT tenant_id, 'plans', COUNT(*) FROM plans GROUP BY tenant_id;
CREATE TRIGGER count_plans AFTER INSERT OR DELETE ON plans
    FOR EACH ROW EXECUTE FUNCTION count_object();

INSERT INTO object_counts (tenant_id, kind, objects)
    SELECT tenant_id, 'product_publishes', COUNT(*) FROM product_publishes GROUP BY tenant_id;
CREATE TRIGGER count_product_publishes AFTER INSERT OR DELETE ON product_publishes
    FOR EACH ROW EXECUTE FUNCTION count_object();

INSERT INTO object_counts (tenant_id, kind, objects)
    SELECT tenant_id, 'customers', COUNT(*) FROM customers GROUP BY tenant_id;
CREATE TRIGGER count_customers AFTER INSERT OR DELETE ON customers
    FOR EACH ROW EXECUTE FUNCTION count_object();

INSERT INTO object_counts (tenant_id, kind, objects)
    SELECT tenant_id, 'subscriptions', COUNT(*) FROM subscriptions GROUP BY tenant_id;
CREATE TRIGGER count_subscriptions AFTER INSERT OR DELETE ON subscriptions
    FOR EACH ROW EXECUTE FUNCTION count_object();

INSERT INTO object_counts (tenant_id, kind, objects)
    SELECT tenant_id, 'client_apps', COUNT(*) FROM client_apps GROUP BY tenant_id;
CREATE TRIGGER count_client_apps AFTER INSERT OR DELETE ON client_apps
    FOR EACH ROW EXECUTE FUNCTION count_object();

INSERT INTO object_counts (tenant_id, kind, objects)
    SELECT tenant_id, 'consumers', COUNT(*) FROM consumers GROUP BY tenant_id;
CREATE TRIGGER count_consumers AFTER INSERT OR DELETE ON consumers
    FOR EACH ROW EXECUTE FUNCTION count_object();

INSERT INTO object_counts (tenant_id, kind, objects)
    SELECT tenant_id, 'credentials', COUNT(*) FROM credentials GROUP BY tenant_id;
CREATE TRIGGER count_credentials AFTER INSERT OR DELETE ON credentials
    FOR EACH ROW EXECUTE FUNCTION count_object();

INSERT INTO object_counts (tenant_id, kind, objects)
    SELECT tenant_id, 'api_tokens', COUNT(*) FROM api_tokens WHERE tenant_id IS NOT NULL GROUP BY tenant_id;
CREATE TRIGGER count_api_tokens_up AFTER INSERT ON api_tokens
    FOR EACH ROW WHEN (NEW.tenant_id IS NOT NULL) EXECUTE FUNCTION count_object();
CREATE TRIGGER count_api_tokens_down AFTER DELETE ON api_tokens
    FOR EACH ROW WHEN (OLD.tenant_id IS NOT NULL) EXECUTE FUNCTION count_object();

INSERT INTO object_counts (tenant_id, kind, objects)
    SELECT tenant_id, 'domains', COUNT(*) FROM domains GROUP BY tenant_id;
CREATE TRIGGER count_domains AFTER INSERT OR DELETE ON domains
    FOR EACH ROW EXECUTE FUNCTION count_object();
