-- Hostnames are proven or granted and one tenant's on the whole platform; ports of a cluster are
-- claimed. The former release does not know these tables: what it claims while both run is entered
-- here by the next change of the publish.

-- held_name is the name once the domain is verified or granted, so that one tenant holds it.
CREATE TABLE domains (
    id BLOB NOT NULL PRIMARY KEY,
    tenant_id BLOB NOT NULL,
    name TEXT NOT NULL,
    status TEXT NOT NULL CONSTRAINT ck_domains__status CHECK (status <> ''),
    token TEXT NOT NULL,
    held_name TEXT,
    held_since TEXT,
    version INTEGER NOT NULL,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    CONSTRAINT key_domains__id UNIQUE (tenant_id, id),
    CONSTRAINT uq_domains__name UNIQUE (tenant_id, name),
    CONSTRAINT uq_domains__held_name UNIQUE (held_name),
    CONSTRAINT fk_domains__tenant_id FOREIGN KEY (tenant_id) REFERENCES tenants (id)
) STRICT;

-- Whose a hostname is, over all clusters. free_at is set when nothing claims it any more: until then
-- only the former tenant takes it. No foreign key: the time also runs when the tenant is gone.
CREATE TABLE hostname_holders (
    hostname TEXT NOT NULL,
    tenant_id BLOB NOT NULL,
    free_at TEXT,
    CONSTRAINT uq_hostname_holders__hostname PRIMARY KEY (hostname)
) STRICT;
CREATE INDEX ix_hostname_holders__free_at ON hostname_holders (free_at);

-- What the listeners on a port of a cluster have in common, as JSON.
CREATE TABLE listener_ports (
    cluster_id BLOB NOT NULL,
    address TEXT NOT NULL,
    port INTEGER NOT NULL,
    settings TEXT NOT NULL,
    CONSTRAINT uq_listener_ports__port PRIMARY KEY (cluster_id, address, port),
    CONSTRAINT key_listener_ports__settings UNIQUE (cluster_id, address, port, settings),
    CONSTRAINT fk_listener_ports__cluster_id
        FOREIGN KEY (cluster_id) REFERENCES clusters (id) ON DELETE CASCADE
) STRICT;

CREATE TABLE port_claims (
    gateway_id BLOB NOT NULL,
    tenant_id BLOB NOT NULL,
    cluster_id BLOB NOT NULL,
    address TEXT NOT NULL,
    port INTEGER NOT NULL,
    settings TEXT NOT NULL,
    CONSTRAINT uq_port_claims__port PRIMARY KEY (gateway_id, cluster_id, address, port),
    CONSTRAINT fk_port_claims__port
        FOREIGN KEY (cluster_id, address, port, settings)
        REFERENCES listener_ports (cluster_id, address, port, settings),
    CONSTRAINT fk_port_claims__gateway_id
        FOREIGN KEY (gateway_id, tenant_id) REFERENCES gateways (id, tenant_id) ON DELETE CASCADE,
    CONSTRAINT fk_port_claims__cluster_id
        FOREIGN KEY (cluster_id) REFERENCES clusters (id) ON DELETE CASCADE
) STRICT;
CREATE INDEX ix_port_claims__cluster_id ON port_claims (cluster_id, address, port);

ALTER TABLE clusters ADD COLUMN port_ranges TEXT NOT NULL DEFAULT
    '[{"first":80,"last":80},{"first":443,"last":443},{"first":1024,"last":65535}]';

-- What was published before goes on: each hostname is the oldest tenant's that has it, and granted.
INSERT INTO hostname_holders (hostname, tenant_id)
    SELECT hostname, min(tenant_id) FROM hostname_owners GROUP BY hostname;

INSERT INTO domains (id, tenant_id, name, status, token, held_name, held_since, version, created_at,
        updated_at)
    SELECT randomblob(16), tenant_id, hostname, 'granted', lower(hex(randomblob(16))), hostname,
        strftime('%Y-%m-%dT%H:%M:%f+00:00', 'now'), 1,
        strftime('%Y-%m-%dT%H:%M:%f+00:00', 'now'), strftime('%Y-%m-%dT%H:%M:%f+00:00', 'now')
    FROM hostname_holders;

-- The former release knew HTTP only.
INSERT INTO listener_ports (cluster_id, address, port, settings)
    SELECT DISTINCT p.cluster_id, '*', json_extract(l.value, '$.port'), '{"protocol":"HTTP"}'
    FROM product_publishes p JOIN gateways g ON g.id = p.gateway_id, json_each(g.listeners) l;

INSERT INTO port_claims (gateway_id, tenant_id, cluster_id, address, port, settings)
    SELECT DISTINCT g.id, g.tenant_id, p.cluster_id, '*', json_extract(l.value, '$.port'),
        '{"protocol":"HTTP"}'
    FROM product_publishes p JOIN gateways g ON g.id = p.gateway_id, json_each(g.listeners) l;
