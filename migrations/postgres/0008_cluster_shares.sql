-- What a tenant's publishes take of a cluster, as one row, so that a publish need not add up all the
-- others. Kept by the triggers, so that it is right whoever writes.
CREATE TABLE cluster_shares (
    tenant_id UUID NOT NULL,
    cluster_id UUID NOT NULL,
    served_bytes BIGINT NOT NULL,
    regexes BIGINT NOT NULL,
    CONSTRAINT uq_cluster_shares__cluster_id PRIMARY KEY (tenant_id, cluster_id)
);

-- A new row takes nothing until it has been measured, in the same transaction.
CREATE FUNCTION share_cluster() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' THEN
        INSERT INTO cluster_shares (tenant_id, cluster_id, served_bytes, regexes)
            VALUES (NEW.tenant_id, NEW.cluster_id,
                NEW.served_bytes - OLD.served_bytes, NEW.regexes - OLD.regexes)
            ON CONFLICT (tenant_id, cluster_id) DO UPDATE SET
                served_bytes = cluster_shares.served_bytes + excluded.served_bytes,
                regexes = cluster_shares.regexes + excluded.regexes;
    ELSE
        UPDATE cluster_shares
            SET served_bytes = served_bytes - OLD.served_bytes, regexes = regexes - OLD.regexes
            WHERE tenant_id = OLD.tenant_id AND cluster_id = OLD.cluster_id;
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER share_changes AFTER UPDATE OF served_bytes, regexes ON product_publishes
    FOR EACH ROW EXECUTE FUNCTION share_cluster();
CREATE TRIGGER share_goes AFTER DELETE ON product_publishes
    FOR EACH ROW EXECUTE FUNCTION share_cluster();

-- Behind the triggers: they hold the table, so that no write of the former release is missed.
INSERT INTO cluster_shares (tenant_id, cluster_id, served_bytes, regexes)
    SELECT tenant_id, cluster_id, SUM(served_bytes), SUM(regexes)
    FROM product_publishes GROUP BY tenant_id, cluster_id;

-- It covered the sum.
DROP INDEX ix_product_publishes__served_bytes;
