-- A host and base path of a cluster is one publish's on each gateway, no longer on all of them. The
-- former release leaves gateway_id out, and refuses more than this one.
ALTER TABLE product_publish_claims ADD COLUMN gateway_id UUID;
UPDATE product_publish_claims c SET gateway_id = p.gateway_id
    FROM product_publishes p WHERE p.id = c.product_publish_id;
ALTER TABLE product_publish_claims DROP CONSTRAINT uq_product_publish_claims__hostname;
ALTER TABLE product_publish_claims
    ADD CONSTRAINT key_product_publish_claims__hostname PRIMARY KEY (product_publish_id, hostname);
ALTER TABLE product_publish_claims
    ADD CONSTRAINT uq_product_publish_claims__hostname
        UNIQUE (cluster_id, gateway_id, base_path, hostname);
