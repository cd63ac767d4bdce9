-- A host and base path of a cluster is one publish's on each gateway, no longer on all of them. SQLite
-- cannot change a key, so the table is copied; nothing refers to it. The former release leaves gateway_id
-- out, and refuses more than this one.
CREATE TABLE product_publish_claims_0018 (
    cluster_id BLOB NOT NULL,
    hostname TEXT NOT NULL,
    base_path TEXT NOT NULL,
    product_publish_id BLOB NOT NULL,
    tenant_id BLOB NOT NULL,
    gateway_id BLOB,
    CONSTRAINT key_product_publish_claims__hostname PRIMARY KEY (product_publish_id, hostname),
    CONSTRAINT uq_product_publish_claims__hostname
        UNIQUE (cluster_id, gateway_id, base_path, hostname),
    CONSTRAINT fk_product_publish_claims__hostname
        FOREIGN KEY (cluster_id, hostname, tenant_id)
        REFERENCES hostname_owners (cluster_id, hostname, tenant_id),
    CONSTRAINT fk_product_publish_claims__product_publish_id
        FOREIGN KEY (product_publish_id, tenant_id) REFERENCES product_publishes (id, tenant_id)
) STRICT;
INSERT INTO product_publish_claims_0018
        (cluster_id, hostname, base_path, product_publish_id, tenant_id, gateway_id)
    SELECT c.cluster_id, c.hostname, c.base_path, c.product_publish_id, c.tenant_id, p.gateway_id
    FROM product_publish_claims c JOIN product_publishes p ON p.id = c.product_publish_id;
DROP TABLE product_publish_claims;
ALTER TABLE product_publish_claims_0018 RENAME TO product_publish_claims;
CREATE INDEX ix_product_publish_claims__product_publish_id
    ON product_publish_claims (product_publish_id);
CREATE INDEX ix_product_publish_claims__hostname ON product_publish_claims (hostname);
