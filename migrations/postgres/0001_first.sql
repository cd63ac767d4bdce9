-- Everything of the first release. Conventions: migrations/README.md.

-- The platform's own ----------------------------------------------------------------------------

CREATE TABLE tenants (
    id UUID NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    slug TEXT NOT NULL,
    version BIGINT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    CONSTRAINT uq_tenants__slug UNIQUE (slug)
);

CREATE TABLE clusters (
    id UUID NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    region TEXT NOT NULL,
    cloud_provider TEXT NOT NULL,
    labels JSONB NOT NULL,
    version BIGINT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    CONSTRAINT uq_clusters__name UNIQUE (name)
);

-- Tokens and agents go with their cluster; publishes keep it from going.
CREATE TABLE registration_tokens (
    id UUID NOT NULL PRIMARY KEY,
    cluster_id UUID NOT NULL,
    description TEXT NOT NULL,
    prefix TEXT NOT NULL,
    secret_hash BYTEA NOT NULL,
    expires_at TIMESTAMPTZ NOT NULL,
    used_at TIMESTAMPTZ,
    version BIGINT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    CONSTRAINT uq_registration_tokens__secret_hash UNIQUE (secret_hash),
    CONSTRAINT fk_registration_tokens__cluster_id
        FOREIGN KEY (cluster_id) REFERENCES clusters (id) ON DELETE CASCADE
);
CREATE INDEX ix_registration_tokens__cluster_id ON registration_tokens (cluster_id, id);

CREATE TABLE agents (
    id UUID NOT NULL PRIMARY KEY,
    cluster_id UUID NOT NULL,
    agent_version TEXT NOT NULL,
    hostname TEXT NOT NULL,
    last_seen_at TIMESTAMPTZ,
    nodes JSONB NOT NULL,
    revoked_at TIMESTAMPTZ,
    version BIGINT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    CONSTRAINT fk_agents__cluster_id
        FOREIGN KEY (cluster_id) REFERENCES clusters (id) ON DELETE CASCADE
);
CREATE INDEX ix_agents__cluster_id ON agents (cluster_id, id);

-- What a provider defines -----------------------------------------------------------------------

CREATE TABLE api_services (
    id UUID NOT NULL PRIMARY KEY,
    tenant_id UUID NOT NULL,
    status TEXT NOT NULL CONSTRAINT ck_api_services__status CHECK (status <> ''),
    revision BIGINT NOT NULL,
    name TEXT NOT NULL,
    api_version TEXT NOT NULL,
    description TEXT NOT NULL,
    routes JSONB NOT NULL,
    backends JSONB NOT NULL,
    policies JSONB NOT NULL,
    version BIGINT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    CONSTRAINT key_api_services__id UNIQUE (tenant_id, id),
    CONSTRAINT uq_api_services__name UNIQUE (tenant_id, api_version, name),
    CONSTRAINT fk_api_services__tenant_id FOREIGN KEY (tenant_id) REFERENCES tenants (id)
);

CREATE TABLE gateways (
    id UUID NOT NULL PRIMARY KEY,
    tenant_id UUID NOT NULL,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    gateway_class TEXT NOT NULL CONSTRAINT ck_gateways__gateway_class CHECK (gateway_class <> ''),
    listeners JSONB NOT NULL,
    version BIGINT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    CONSTRAINT key_gateways__id UNIQUE (tenant_id, id),
    CONSTRAINT uq_gateways__name UNIQUE (tenant_id, name),
    CONSTRAINT fk_gateways__tenant_id FOREIGN KEY (tenant_id) REFERENCES tenants (id)
);

CREATE TABLE products (
    id UUID NOT NULL PRIMARY KEY,
    tenant_id UUID NOT NULL,
    status TEXT NOT NULL CONSTRAINT ck_products__status CHECK (status <> ''),
    name TEXT NOT NULL,
    product_version TEXT NOT NULL,
    description TEXT NOT NULL,
    categories JSONB NOT NULL,
    visibility TEXT NOT NULL CONSTRAINT ck_products__visibility CHECK (visibility <> ''),
    api_services JSONB NOT NULL,
    version BIGINT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    CONSTRAINT key_products__id UNIQUE (tenant_id, id),
    CONSTRAINT uq_products__name UNIQUE (tenant_id, product_version, name),
    CONSTRAINT fk_products__tenant_id FOREIGN KEY (tenant_id) REFERENCES tenants (id)
);

CREATE TABLE product_api_services (
    product_id UUID NOT NULL,
    api_service_id UUID NOT NULL,
    tenant_id UUID NOT NULL,
    PRIMARY KEY (product_id, api_service_id),
    CONSTRAINT fk_product_api_services__product_id
        FOREIGN KEY (product_id, tenant_id) REFERENCES products (id, tenant_id) ON DELETE CASCADE,
    CONSTRAINT fk_product_api_services__api_service_id
        FOREIGN KEY (api_service_id, tenant_id) REFERENCES api_services (id, tenant_id)
);
CREATE INDEX ix_product_api_services__api_service_id ON product_api_services (api_service_id);

CREATE TABLE plans (
    id UUID NOT NULL PRIMARY KEY,
    tenant_id UUID NOT NULL,
    product_id UUID NOT NULL,
    status TEXT NOT NULL CONSTRAINT ck_plans__status CHECK (status <> ''),
    plan_version BIGINT NOT NULL,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    rate_limit JSONB,
    quota JSONB,
    limits JSONB NOT NULL,
    auto_approve BOOLEAN NOT NULL,
    version BIGINT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    CONSTRAINT key_plans__id UNIQUE (tenant_id, id),
    CONSTRAINT uq_plans__name UNIQUE (product_id, name),
    CONSTRAINT fk_plans__product_id
        FOREIGN KEY (product_id, tenant_id) REFERENCES products (id, tenant_id)
);

CREATE TABLE plan_versions (
    plan_id UUID NOT NULL,
    plan_version BIGINT NOT NULL,
    tenant_id UUID NOT NULL,
    terms JSONB NOT NULL,
    CONSTRAINT uq_plan_versions__plan_version PRIMARY KEY (plan_id, plan_version),
    CONSTRAINT fk_plan_versions__plan_id
        FOREIGN KEY (plan_id, tenant_id) REFERENCES plans (id, tenant_id) ON DELETE CASCADE
);

-- What is served where --------------------------------------------------------------------------

CREATE TABLE product_publishes (
    id UUID NOT NULL PRIMARY KEY,
    tenant_id UUID NOT NULL,
    status TEXT NOT NULL CONSTRAINT ck_product_publishes__status CHECK (status <> ''),
    desired_revision BIGINT NOT NULL,
    acked_revision BIGINT NOT NULL,
    nodes JSONB NOT NULL,
    last_error JSONB,
    activated_at TIMESTAMPTZ,
    product_id UUID NOT NULL,
    api_services JSONB NOT NULL,
    gateway_id UUID NOT NULL,
    cluster_id UUID NOT NULL,
    environment TEXT NOT NULL CONSTRAINT ck_product_publishes__environment CHECK (environment <> ''),
    auth_mode TEXT NOT NULL CONSTRAINT ck_product_publishes__auth_mode CHECK (auth_mode <> ''),
    hostnames JSONB NOT NULL,
    base_path TEXT NOT NULL,
    delivery TEXT NOT NULL CONSTRAINT ck_product_publishes__delivery CHECK (delivery <> ''),
    version BIGINT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    CONSTRAINT key_product_publishes__id UNIQUE (tenant_id, id),
    CONSTRAINT fk_product_publishes__product_id
        FOREIGN KEY (product_id, tenant_id) REFERENCES products (id, tenant_id),
    CONSTRAINT fk_product_publishes__gateway_id
        FOREIGN KEY (gateway_id, tenant_id) REFERENCES gateways (id, tenant_id),
    CONSTRAINT fk_product_publishes__cluster_id FOREIGN KEY (cluster_id) REFERENCES clusters (id)
);
CREATE INDEX ix_product_publishes__product_id ON product_publishes (product_id, id);
CREATE INDEX ix_product_publishes__gateway_id ON product_publishes (gateway_id, id);
CREATE INDEX ix_product_publishes__cluster_id ON product_publishes (cluster_id, id);

-- The services that a publish names itself.
CREATE TABLE product_publish_api_services (
    product_publish_id UUID NOT NULL,
    api_service_id UUID NOT NULL,
    tenant_id UUID NOT NULL,
    PRIMARY KEY (product_publish_id, api_service_id),
    CONSTRAINT fk_product_publish_api_services__product_publish_id
        FOREIGN KEY (product_publish_id, tenant_id) REFERENCES product_publishes (id, tenant_id)
        ON DELETE CASCADE,
    CONSTRAINT fk_product_publish_api_services__api_service_id
        FOREIGN KEY (api_service_id, tenant_id) REFERENCES api_services (id, tenant_id)
);
CREATE INDEX ix_product_publish_api_services__api_service_id
    ON product_publish_api_services (api_service_id);

CREATE TABLE product_publish_revisions (
    product_publish_id UUID NOT NULL,
    revision BIGINT NOT NULL,
    content_hash TEXT NOT NULL,
    spec JSONB NOT NULL,
    api_services JSONB NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    CONSTRAINT uq_product_publish_revisions__revision PRIMARY KEY (product_publish_id, revision),
    CONSTRAINT fk_product_publish_revisions__product_publish_id
        FOREIGN KEY (product_publish_id) REFERENCES product_publishes (id) ON DELETE CASCADE
);

-- A host of a cluster is one tenant's as long as anything of it claims the host.
CREATE TABLE hostname_owners (
    cluster_id UUID NOT NULL,
    hostname TEXT NOT NULL,
    tenant_id UUID NOT NULL,
    CONSTRAINT uq_hostname_owners__hostname PRIMARY KEY (cluster_id, hostname),
    CONSTRAINT key_hostname_owners__hostname UNIQUE (cluster_id, hostname, tenant_id),
    CONSTRAINT fk_hostname_owners__cluster_id FOREIGN KEY (cluster_id) REFERENCES clusters (id),
    CONSTRAINT fk_hostname_owners__tenant_id FOREIGN KEY (tenant_id) REFERENCES tenants (id)
);
CREATE INDEX ix_hostname_owners__tenant_id ON hostname_owners (tenant_id);

CREATE TABLE product_publish_claims (
    cluster_id UUID NOT NULL,
    hostname TEXT NOT NULL,
    base_path TEXT NOT NULL,
    product_publish_id UUID NOT NULL,
    tenant_id UUID NOT NULL,
    CONSTRAINT uq_product_publish_claims__hostname PRIMARY KEY (cluster_id, hostname, base_path),
    CONSTRAINT fk_product_publish_claims__hostname
        FOREIGN KEY (cluster_id, hostname, tenant_id)
        REFERENCES hostname_owners (cluster_id, hostname, tenant_id),
    CONSTRAINT fk_product_publish_claims__product_publish_id
        FOREIGN KEY (product_publish_id, tenant_id) REFERENCES product_publishes (id, tenant_id)
);
CREATE INDEX ix_product_publish_claims__product_publish_id
    ON product_publish_claims (product_publish_id);
CREATE INDEX ix_product_publish_claims__hostname ON product_publish_claims (hostname);

-- Who buys --------------------------------------------------------------------------------------

CREATE TABLE customers (
    id UUID NOT NULL PRIMARY KEY,
    tenant_id UUID NOT NULL,
    name TEXT NOT NULL,
    version BIGINT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    CONSTRAINT key_customers__id UNIQUE (tenant_id, id),
    CONSTRAINT uq_customers__name UNIQUE (tenant_id, name),
    CONSTRAINT fk_customers__tenant_id FOREIGN KEY (tenant_id) REFERENCES tenants (id)
);

-- Without a tenant: an operator's.
CREATE TABLE api_tokens (
    id UUID NOT NULL PRIMARY KEY,
    tenant_id UUID,
    customer_id UUID,
    name TEXT NOT NULL,
    roles JSONB NOT NULL,
    prefix TEXT NOT NULL,
    secret_hash BYTEA NOT NULL,
    expires_at TIMESTAMPTZ,
    revoked_at TIMESTAMPTZ,
    version BIGINT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    -- A foreign key with a NULL in it is not looked at.
    CONSTRAINT ck_api_tokens__customer_id CHECK (customer_id IS NULL OR tenant_id IS NOT NULL),
    CONSTRAINT uq_api_tokens__secret_hash UNIQUE (secret_hash),
    CONSTRAINT fk_api_tokens__tenant_id FOREIGN KEY (tenant_id) REFERENCES tenants (id),
    CONSTRAINT fk_api_tokens__customer_id
        FOREIGN KEY (customer_id, tenant_id) REFERENCES customers (id, tenant_id)
);
CREATE INDEX ix_api_tokens__tenant_id ON api_tokens (tenant_id, id);
CREATE INDEX ix_api_tokens__customer_id ON api_tokens (customer_id, id);

CREATE TABLE subscriptions (
    id UUID NOT NULL PRIMARY KEY,
    tenant_id UUID NOT NULL,
    customer_id UUID NOT NULL,
    product_id UUID NOT NULL,
    environment TEXT NOT NULL CONSTRAINT ck_subscriptions__environment CHECK (environment <> ''),
    product_publish_id UUID,
    plan_id UUID NOT NULL,
    plan_version BIGINT NOT NULL,
    status TEXT NOT NULL CONSTRAINT ck_subscriptions__status CHECK (status <> ''),
    reason TEXT NOT NULL,
    ends_at TIMESTAMPTZ,
    version BIGINT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    CONSTRAINT key_subscriptions__id UNIQUE (tenant_id, customer_id, id),
    CONSTRAINT fk_subscriptions__customer_id
        FOREIGN KEY (customer_id, tenant_id) REFERENCES customers (id, tenant_id),
    CONSTRAINT fk_subscriptions__product_id
        FOREIGN KEY (product_id, tenant_id) REFERENCES products (id, tenant_id),
    CONSTRAINT fk_subscriptions__product_publish_id
        FOREIGN KEY (product_publish_id, tenant_id) REFERENCES product_publishes (id, tenant_id),
    CONSTRAINT fk_subscriptions__plan_id
        FOREIGN KEY (plan_id, tenant_id) REFERENCES plans (id, tenant_id),
    CONSTRAINT fk_subscriptions__plan_version
        FOREIGN KEY (plan_id, plan_version) REFERENCES plan_versions (plan_id, plan_version)
);
CREATE INDEX ix_subscriptions__tenant_id ON subscriptions (tenant_id, id);
CREATE INDEX ix_subscriptions__product_id ON subscriptions (product_id, id);
CREATE INDEX ix_subscriptions__product_publish_id ON subscriptions (product_publish_id);
CREATE INDEX ix_subscriptions__plan_id ON subscriptions (plan_id, plan_version);

CREATE TABLE client_apps (
    id UUID NOT NULL PRIMARY KEY,
    tenant_id UUID NOT NULL,
    customer_id UUID NOT NULL,
    name TEXT NOT NULL,
    version BIGINT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    CONSTRAINT key_client_apps__id UNIQUE (tenant_id, customer_id, id),
    CONSTRAINT uq_client_apps__name UNIQUE (customer_id, name),
    CONSTRAINT fk_client_apps__customer_id
        FOREIGN KEY (customer_id, tenant_id) REFERENCES customers (id, tenant_id)
);
CREATE INDEX ix_client_apps__tenant_id ON client_apps (tenant_id, id);

-- Subscription and app are of one customer.
CREATE TABLE consumers (
    id UUID NOT NULL PRIMARY KEY,
    tenant_id UUID NOT NULL,
    customer_id UUID NOT NULL,
    subscription_id UUID NOT NULL,
    client_app_id UUID NOT NULL,
    version BIGINT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    CONSTRAINT key_consumers__id UNIQUE (tenant_id, customer_id, id),
    CONSTRAINT uq_consumers__client_app_id UNIQUE (subscription_id, client_app_id),
    CONSTRAINT fk_consumers__subscription_id
        FOREIGN KEY (subscription_id, customer_id, tenant_id)
        REFERENCES subscriptions (id, customer_id, tenant_id),
    CONSTRAINT fk_consumers__client_app_id
        FOREIGN KEY (client_app_id, customer_id, tenant_id)
        REFERENCES client_apps (id, customer_id, tenant_id)
);
CREATE INDEX ix_consumers__tenant_id ON consumers (tenant_id, id);
CREATE INDEX ix_consumers__client_app_id ON consumers (client_app_id);

CREATE TABLE credentials (
    id UUID NOT NULL PRIMARY KEY,
    tenant_id UUID NOT NULL,
    customer_id UUID NOT NULL,
    consumer_id UUID NOT NULL,
    kind TEXT NOT NULL CONSTRAINT ck_credentials__kind CHECK (kind <> ''),
    prefix TEXT NOT NULL,
    last4 TEXT NOT NULL,
    secret_hash BYTEA NOT NULL,
    status TEXT NOT NULL CONSTRAINT ck_credentials__status CHECK (status <> ''),
    expires_at TIMESTAMPTZ,
    version BIGINT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    CONSTRAINT uq_credentials__secret_hash UNIQUE (secret_hash),
    CONSTRAINT fk_credentials__consumer_id
        FOREIGN KEY (consumer_id, customer_id, tenant_id)
        REFERENCES consumers (id, customer_id, tenant_id)
);
CREATE INDEX ix_credentials__tenant_id ON credentials (tenant_id, id);
CREATE INDEX ix_credentials__customer_id ON credentials (customer_id, id);
CREATE INDEX ix_credentials__consumer_id ON credentials (consumer_id, id);

-- What happened. No foreign keys: these outlive what they are about -------------------------------

-- `xact` stands before `seq`, and so gets its value first: a transaction that holds a number has an
-- id by then, which is how the tail knows when a missing number can no longer appear.
CREATE TABLE outbox (
    xact XID8 NOT NULL DEFAULT pg_current_xact_id(),
    seq BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind TEXT NOT NULL,
    subject UUID NOT NULL,
    at TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX ix_outbox__at ON outbox (at);

CREATE TABLE audit (
    seq BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at TIMESTAMPTZ NOT NULL,
    token_id UUID NOT NULL,
    tenant_id UUID,
    operation TEXT NOT NULL,
    object_id UUID NOT NULL
);
CREATE INDEX ix_audit__object_id ON audit (object_id, seq);

-- Agents count cumulatively per run (epoch); an absent id is the nil UUID, so that it can be in the
-- key. The order of the key serves the reading by subscription.
CREATE TABLE usage_counters (
    subscription_id UUID NOT NULL,
    hour TIMESTAMPTZ NOT NULL,
    product_publish_id UUID NOT NULL,
    consumer_id UUID NOT NULL,
    agent_id UUID NOT NULL,
    epoch TEXT NOT NULL,
    allowed BIGINT NOT NULL,
    limited BIGINT NOT NULL,
    PRIMARY KEY (subscription_id, hour, product_publish_id, consumer_id, agent_id, epoch)
);
