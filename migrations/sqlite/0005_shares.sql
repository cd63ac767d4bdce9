-- What a tenant has of everything: how many objects, and what its publishes take of a cluster.

-- Kept by the triggers below, so that an insert need not count rows, and so that it is right whoever
-- writes. `kind` is the table.
CREATE TABLE object_counts (
    tenant_id BLOB NOT NULL,
    kind TEXT NOT NULL,
    objects INTEGER NOT NULL,
    CONSTRAINT uq_object_counts__kind PRIMARY KEY (tenant_id, kind)
) STRICT;

-- Of the desired revision, as a gateway holds it; 0 in rows of the former release until they are
-- deployed again.
ALTER TABLE product_publishes ADD COLUMN served_bytes INTEGER NOT NULL DEFAULT 0;
ALTER TABLE product_publishes ADD COLUMN regexes INTEGER NOT NULL DEFAULT 0;
-- Covers the sum.
CREATE INDEX ix_product_publishes__served_bytes
    ON product_publishes (tenant_id, cluster_id, id, served_bytes, regexes);

INSERT INTO object_counts (tenant_id, kind, objects)
    SELECT tenant_id, 'api_services', COUNT(*) FROM api_services GROUP BY tenant_id;
CREATE TRIGGER count_api_services_up AFTER INSERT ON api_services BEGIN
    INSERT INTO object_counts (tenant_id, kind, objects) VALUES (NEW.tenant_id, 'api_services', 1)
        ON CONFLICT (tenant_id, kind) DO UPDATE SET objects = objects + 1;
END;
CREATE TRIGGER count_api_services_down AFTER DELETE ON api_services BEGIN
    UPDATE object_counts SET objects = objects - 1
        WHERE tenant_id = OLD.tenant_id AND kind = 'api_services';
END;

INSERT INTO object_counts (tenant_id, kind, objects)
    SELECT tenant_id, 'gateways', COUNT(*) FROM gateways GROUP BY tenant_id;
CREATE TRIGGER count_gateways_up AFTER INSERT ON gateways BEGIN
    INSERT INTO object_counts (tenant_id, kind, objects) VALUES (NEW.tenant_id, 'gateways', 1)
        ON CONFLICT (tenant_id, kind) DO UPDATE SET objects = objects + 1;
END;
CREATE TRIGGER count_gateways_down AFTER DELETE ON gateways BEGIN
    UPDATE object_counts SET objects = objects - 1
        WHERE tenant_id = OLD.tenant_id AND kind = 'gateways';
END;

INSERT INTO object_counts (tenant_id, kind, objects)
    SELECT tenant_id, 'products', COUNT(*) FROM products GROUP BY tenant_id;
CREATE TRIGGER count_products_up AFTER INSERT ON products BEGIN
    INSERT INTO object_counts (tenant_id, kind, objects) VALUES (NEW.tenant_id, 'products', 1)
        ON CONFLICT (tenant_id, kind) DO UPDATE SET objects = objects + 1;
END;
CREATE TRIGGER count_products_down AFTER DELETE ON products BEGIN
    UPDATE object_counts SET objects = objects - 1
        WHERE tenant_id = OLD.tenant_id AND kind = 'products';
END;

INSERT INTO object_counts (tenant_id, kind, objects)
    SELECT tenant_id, 'plans', COUNT(*) FROM plans GROUP BY tenant_id;
CREATE TRIGGER count_plans_up AFTER INSERT ON plans BEGIN
    INSERT INTO object_counts (tenant_id, kind, objects) VALUES (NEW.tenant_id, 'plans', 1)
        ON CONFLICT (tenant_id, kind) DO UPDATE SET objects = objects + 1;
END;
CREATE TRIGGER count_plans_down AFTER DELETE ON plans BEGIN
    UPDATE object_counts SET objects = objects - 1
        WHERE tenant_id = OLD.tenant_id AND kind = 'plans';
END;

INSERT INTO object_counts (tenant_id, kind, objects)
    SELECT tenant_id, 'product_publishes', COUNT(*) FROM product_publishes GROUP BY tenant_id;
CREATE TRIGGER count_product_publishes_up AFTER INSERT ON product_publishes BEGIN
    INSERT INTO object_counts (tenant_id, kind, objects) VALUES (NEW.tenant_id, 'product_publishes', 1)
        ON CONFLICT (tenant_id, kind) DO UPDATE SET objects = objects + 1;
END;
CREATE TRIGGER count_product_publishes_down AFTER DELETE ON product_publishes BEGIN
    UPDATE object_counts SET objects = objects - 1
        WHERE tenant_id = OLD.tenant_id AND kind = 'product_publishes';
END;

INSERT INTO object_counts (tenant_id, kind, objects)
    SELECT tenant_id, 'customers', COUNT(*) FROM customers GROUP BY tenant_id;
CREATE TRIGGER count_customers_up AFTER INSERT ON customers BEGIN
    INSERT INTO object_counts (tenant_id, kind, objects) VALUES (NEW.tenant_id, 'customers', 1)
        ON CONFLICT (tenant_id, kind) DO UPDATE SET objects = objects + 1;
END;
CREATE TRIGGER count_customers_down AFTER DELETE ON customers BEGIN
    UPDATE object_counts SET objects = objects - 1
        WHERE tenant_id = OLD.tenant_id AND kind = 'customers';
END;

INSERT INTO object_counts (tenant_id, kind, objects)
    SELECT tenant_id, 'subscriptions', COUNT(*) FROM subscriptions GROUP BY tenant_id;
CREATE TRIGGER count_subscriptions_up AFTER INSERT ON subscriptions BEGIN
    INSERT INTO object_counts (tenant_id, kind, objects) VALUES (NEW.tenant_id, 'subscriptions', 1)
        ON CONFLICT (tenant_id, kind) DO UPDATE SET objects = objects + 1;
END;
CREATE TRIGGER count_subscriptions_down AFTER DELETE ON subscriptions BEGIN
    UPDATE object_counts SET objects = objects - 1
        WHERE tenant_id = OLD.tenant_id AND kind = 'subscriptions';
END;

INSERT INTO object_counts (tenant_id, kind, objects)
    SELECT tenant_id, 'client_apps', COUNT(*) FROM client_apps GROUP BY tenant_id;
CREATE TRIGGER count_client_apps_up AFTER INSERT ON client_apps BEGIN
    INSERT INTO object_counts (tenant_id, kind, objects) VALUES (NEW.tenant_id, 'client_apps', 1)
        ON CONFLICT (tenant_id, kind) DO UPDATE SET objects = objects + 1;
END;
CREATE TRIGGER count_client_apps_down AFTER DELETE ON client_apps BEGIN
    UPDATE object_counts SET objects = objects - 1
        WHERE tenant_id = OLD.tenant_id AND kind = 'client_apps';
END;

INSERT INTO object_counts (tenant_id, kind, objects)
    SELECT tenant_id, 'consumers', COUNT(*) FROM consumers GROUP BY tenant_id;
CREATE TRIGGER count_consumers_up AFTER INSERT ON consumers BEGIN
    INSERT INTO object_counts (tenant_id, kind, objects) VALUES (NEW.tenant_id, 'consumers', 1)
        ON CONFLICT (tenant_id, kind) DO UPDATE SET objects = objects + 1;
END;
CREATE TRIGGER count_consumers_down AFTER DELETE ON consumers BEGIN
    UPDATE object_counts SET objects = objects - 1
        WHERE tenant_id = OLD.tenant_id AND kind = 'consumers';
END;

INSERT INTO object_counts (tenant_id, kind, objects)
    SELECT tenant_id, 'credentials', COUNT(*) FROM credentials GROUP BY tenant_id;
CREATE TRIGGER count_credentials_up AFTER INSERT ON credentials BEGIN
    INSERT INTO object_counts (tenant_id, kind, objects) VALUES (NEW.tenant_id, 'credentials', 1)
        ON CONFLICT (tenant_id, kind) DO UPDATE SET objects = objects + 1;
END;
CREATE TRIGGER count_credentials_down AFTER DELETE ON credentials BEGIN
    UPDATE object_counts SET objects = objects - 1
        WHERE tenant_id = OLD.tenant_id AND kind = 'credentials';
END;

INSERT INTO object_counts (tenant_id, kind, objects)
    SELECT tenant_id, 'api_tokens', COUNT(*) FROM api_tokens WHERE tenant_id IS NOT NULL GROUP BY tenant_id;
CREATE TRIGGER count_api_tokens_up AFTER INSERT ON api_tokens WHEN NEW.tenant_id IS NOT NULL BEGIN
    INSERT INTO object_counts (tenant_id, kind, objects) VALUES (NEW.tenant_id, 'api_tokens', 1)
        ON CONFLICT (tenant_id, kind) DO UPDATE SET objects = objects + 1;
END;
CREATE TRIGGER count_api_tokens_down AFTER DELETE ON api_tokens WHEN OLD.tenant_id IS NOT NULL BEGIN
    UPDATE object_counts SET objects = objects - 1
        WHERE tenant_id = OLD.tenant_id AND kind = 'api_tokens';
END;

INSERT INTO object_counts (tenant_id, kind, objects)
    SELECT tenant_id, 'domains', COUNT(*) FROM domains GROUP BY tenant_id;
CREATE TRIGGER count_domains_up AFTER INSERT ON domains BEGIN
    INSERT INTO object_counts (tenant_id, kind, objects) VALUES (NEW.tenant_id, 'domains', 1)
        ON CONFLICT (tenant_id, kind) DO UPDATE SET objects = objects + 1;
END;
CREATE TRIGGER count_domains_down AFTER DELETE ON domains BEGIN
    UPDATE object_counts SET objects = objects - 1
        WHERE tenant_id = OLD.tenant_id AND kind = 'domains';
END;
