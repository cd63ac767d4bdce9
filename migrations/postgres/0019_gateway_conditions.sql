-- Why the agents of a cluster or their Envoys refuse a gateway; without a row, nobody has said that they do.
CREATE TABLE gateway_conditions (
    gateway_id UUID NOT NULL,
    tenant_id UUID NOT NULL,
    cluster_id UUID NOT NULL,
    last_error JSONB NOT NULL,
    since TIMESTAMPTZ NOT NULL,
    CONSTRAINT uq_gateway_conditions__gateway_id PRIMARY KEY (gateway_id, cluster_id),
    CONSTRAINT fk_gateway_conditions__gateway_id
        FOREIGN KEY (gateway_id, tenant_id) REFERENCES gateways (id, tenant_id) ON DELETE CASCADE,
    CONSTRAINT fk_gateway_conditions__cluster_id
        FOREIGN KEY (cluster_id) REFERENCES clusters (id) ON DELETE CASCADE
);
CREATE INDEX ix_gateway_conditions__cluster_id ON gateway_conditions (cluster_id);
