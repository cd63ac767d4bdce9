-- Hostnames are proven or granted and one tenant's on the whole platform; ports of a cluster are
-- claimed. The former release does not know these tables: what it claims while both run is entered
-- here by the next change of the publish.

-- held_name is the name once the domain is verified or granted, so that one tenant holds it.
CREATE TABLE domains (
    id UUID NOT NULL PRIMARY KEY,
    tenant_id UUID NOT NULL,
    name TEXT NOT NULL,
    status TEXT NOT NULL CONSTRAINT ck_domains__status CHECK (status <> ''),
    token TEXT NOT NULL,
    held_name TEXT,
    held_since TIMESTAMPTZ,
    version BIGINT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    CONSTRAINT key_domains__id UNIQUE (tenant_id, id),
    CONSTRAINT uq_domains__name UNIQUE (tenant_id, name),
    CONSTRAINT uq_domains__held_name UNIQUE (held_name),
    CONSTRAINT fk_domains__tenant_id FOREIGN KEY (tenant_id) REFERENCES tenants (id)
);

-- Whose a hostname is, over all clusters. free_at is set when nothing claims it any more: until then
-- only the former tenant takes it. No foreign key: the time also runs when the tenant is gone.
CREATE TABLE hostname_holders (
    hostname TEXT NOT NULL,
    tenant_id UUID NOT NULL,
    free_at TIMESTAMPTZ,
    CONSTRAINT uq_hostname_holders__hostname PRIMARY KEY (hostname)
);
CREATE INDEX ix_hostname_holders__free_at ON hostname_holders (free_at);

-- What the listeners on a port of a cluster have in common, as JSON (text: it is compared as such).
CREATE TABLE listener_ports (
    cluster_id UUID NOT NULL,
    address TEXT NOT NULL,
    port BIGINT NOT NULL,
    settings TEXT NOT NULL,
    CONSTRAINT uq_listener_ports__port PRIMARY KEY (cluster_id, address, port),
    CONSTRAINT key_listener_ports__settings UNIQUE (cluster_id, address, port, settings),
    CONSTRAINT fk_listener_ports__cluster_id
        FOREIGN KEY (cluster_id) REFERENCES clusters (id) ON DELETE CASCADE
);

CREATE TABLE port_claims (
    gateway_id UUID NOT NULL,
    tenant_id UUID NOT NULL,
    cluster_id UUID NOT NULL,
    address TEXT NOT NULL,
    port BIGINT NOT NULL,
    settings TEXT NOT NULL,
    CONSTRAINT uq_port_claims__port PRIMARY KEY (gateway_id, cluster_id, address, port),
    CONSTRAINT fk_port_claims__port
        FOREIGN KEY (cluster_id, address, port, settings)
        REFERENCES listener_ports (cluster_id, address, port, settings),
    CONSTRAINT fk_port_claims__gateway_id
        FOREIGN KEY (gateway_id, tenant_id) REFERENCES gateways (id, tenant_id) ON DELETE CASCADE,
    CONSTRAINT fk_port_claims__cluster_id
        FOREIGN KEY (cluster_id) REFERENCES clusters (id) ON DELETE CASCADE
);
CREATE INDEX ix_port_claims__cluster_id ON port_claims (cluster_id, address, port);

ALTER TABLE clusters ADD COLUMN port_ranges JSONB NOT NULL DEFAULT
    '[{"first":80,"last":80},{"first":443,"last":443},{"first":1024,"last":65535}]';

-- What was published before goes on: each hostname is the oldest tenant's that has it, and granted.
INSERT INTO hostname_holders (hostname, tenant_id)
    SELECT DISTINCT ON (hostname) hostname, tenant_id FROM hostname_owners
    ORDER BY hostname, tenant_id;

INSERT INTO domains (id, tenant_id, name, status, token, held_name, held_since, version, created_at,
        updated_at)
    SELECT gen_random_uuid(), tenant_id, hostname, 'granted',
        replace(gen_random_uuid()::text, '-', ''), hostname, now(), 1, now(), now()
    FROM hostname_holders;

-- The former release knew HTTP only.
INSERT INTO listener_ports (cluster_id, address, port, settings)
    SELECT DISTINCT p.cluster_id, '*', (l ->> 'port')::bigint, '{"protocol":"HTTP"}'
    FROM product_publishes p JOIN gateways g ON g.id = p.gateway_id,
        jsonb_array_elements(g.listeners) l;

INSERT INTO port_claims (gateway_id, tenant_id, cluster_id, address, port, settings)
    SELECT DISTINCT g.id, g.tenant_id, p.cluster_id, '*', (l ->> 'port')::bigint,
        '{"protocol":"HTTP"}'
    FROM product_publishes p JOIN gateways g ON g.id = p.gateway_id,
        jsonb_array_elements(g.listeners) l;
