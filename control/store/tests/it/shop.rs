//! One tenant that sells one API to one customer, as rows.

use chrono::{TimeDelta, Utc};
use imp_core::api_service::{ApiService, ApiServiceStatus};
use imp_core::api_token::ApiToken;
use imp_core::client_app::{ClientApp, ClientAppSpec};
use imp_core::cluster::{Agent, AgentNode, AgentStatus, Cluster, RegistrationToken};
use imp_core::consumer::{Consumer, ConsumerSpec};
use imp_core::credential::{Credential, CredentialStatus};
use imp_core::customer::{Customer, CustomerSpec};
use imp_core::domain::{Challenge, Domain, DomainSpec, DomainStatus};
use imp_core::gateway::Gateway;
use imp_core::plan::Plan;
use imp_core::product::{CatalogStatus, Product};
use imp_core::product_publish::{
    Environment, FrozenApiService, NodeCounts, ProductPublish, PublishRevision, PublishStatus,
};
use imp_core::role::Role;
use imp_core::scope::{Principal, TenantScope};
use imp_core::secret::{Secret, SecretHash, SecretKind};
use imp_core::subscription::{Subscription, SubscriptionStatus};
use imp_core::tenant::{Tenant, TenantSpec};
use imp_core::{
    AgentId, ApiServiceId, ApiTokenId, ClientAppId, ClusterId, ConsumerId, CredentialId,
    CustomerId, DomainId, GatewayId, Meta, PlanId, ProductId, ProductPublishId,
    RegistrationTokenId, SubscriptionId, TenantId,
};
use imp_store::Writable as _;
use imp_store::product_publish::{Claim, ClaimTime};
use imp_store::testing::{Database, Kind};
use imp_store::{Result, Store, Tx, credential, plan, product_publish};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// A database with its tables.
pub async fn store(kind: Kind) -> (Database, Store) {
    let database = Database::fresh(kind).await.unwrap();
    let store = database.open().await.unwrap();
    (database, store)
}

/// Runs writes in a transaction, which is rolled back if they fail.
pub async fn write<T>(store: &Store, writes: impl AsyncFnOnce(&mut Tx) -> Result<T>) -> Result<T> {
    let mut tx = store.begin().await?;
    let done = writes(&mut tx).await?;
    tx.commit().await?;
    Ok(done)
}

pub fn all() -> TenantScope {
    TenantScope::platform()
}

pub fn hash(text: &str) -> SecretHash {
    SecretHash::of(text)
}

fn spec<T: DeserializeOwned>(json: Value) -> T {
    serde_json::from_value(json).unwrap()
}

/// All of it, each object referring to the others.
#[derive(Clone)]
pub struct Shop {
    pub tenant: Tenant,
    pub cluster: Cluster,
    pub service: ApiService,
    pub gateway: Gateway,
    pub product: Product,
    pub plan: Plan,
    pub publish: ProductPublish,
    pub customer: Customer,
    pub subscription: Subscription,
    pub app: ClientApp,
    pub consumer: Consumer,
    pub credential: Credential,
}

impl Shop {
    /// Only builds the values; [`Self::stock`] stores them.
    pub fn new(slug: &str) -> Self {
        let meta = Meta::new(Utc::now());
        let tenant = Tenant {
            id: TenantId::new(),
            spec: TenantSpec { name: slug.to_owned(), slug: slug.to_owned() },
            meta,
        };
        let cluster = cluster(&format!("{slug}-cluster"));
        let (service, gateway) = (service(tenant.id), gateway(tenant.id));
        let product = product(tenant.id, &[service.id]);
        let plan = plan(tenant.id, product.id);
        let customer = Customer {
            id: CustomerId::new(),
            tenant_id: tenant.id,
            spec: CustomerSpec { name: "Shop Ltd".to_owned() },
            meta,
        };
        let app = ClientApp {
            id: ClientAppId::new(),
            tenant_id: tenant.id,
            spec: ClientAppSpec { customer_id: customer.id, name: "web shop".to_owned() },
            meta,
        };
        let subscription = Subscription {
            id: SubscriptionId::new(),
            tenant_id: tenant.id,
            customer_id: customer.id,
            product_id: product.id,
            environment: Environment::Prod,
            product_publish_id: None,
            ordinal: 0,
            plan_id: plan.id,
            plan_version: 1,
            status: SubscriptionStatus::Active,
            reason: String::new(),
            ends_at: None,
            activated_at: None,
            plan_change: None,
            meta,
        };
        let consumer = Consumer {
            id: ConsumerId::new(),
            tenant_id: tenant.id,
            customer_id: customer.id,
            spec: ConsumerSpec { subscription_id: subscription.id, client_app_id: app.id },
            meta,
        };
        let publish = publish(&product, &gateway, &cluster, &format!("{slug}.example.com"));
        let credential = credential(&consumer);
        Self {
            tenant,
            cluster,
            service,
            gateway,
            product,
            plan,
            publish,
            customer,
            subscription,
            app,
            consumer,
            credential,
        }
    }

    /// Builds and stores all rows.
    pub async fn open(store: &Store, slug: &str) -> Self {
        let shop = Self::new(slug);
        write(store, async |tx| shop.stock(tx).await).await.unwrap();
        shop
    }

    pub async fn stock(&self, tx: &mut Tx) -> Result<()> {
        self.tenant.insert(tx).await?;
        self.cluster.insert(tx).await?;
        self.service.insert(tx).await?;
        self.gateway.insert(tx).await?;
        self.product.insert(tx).await?;
        self.plan.insert(tx).await?;
        plan::insert_version(tx, self.plan.id, 1, &self.plan.spec).await?;
        self.publish.insert(tx).await?;
        product_publish::insert_revision(tx, &self.revision(1)).await?;
        product_publish::replace_claims(tx, &self.publish, &claims(&self.publish), day()).await?;
        self.customer.insert(tx).await?;
        self.subscription.insert(tx).await?;
        self.app.insert(tx).await?;
        self.consumer.insert(tx).await?;
        let key = hash(&self.credential.id.to_string());
        credential::insert(tx, &self.credential, &key).await
    }

    pub fn revision(&self, revision: i64) -> PublishRevision {
        PublishRevision {
            product_publish_id: self.publish.id,
            revision,
            content_hash: format!("{revision:064}"),
            spec: self.publish.spec.clone(),
            api_services: vec![FrozenApiService {
                id: self.service.id,
                revision: 1,
                spec: self.service.spec.clone(),
            }],
            created_at: self.publish.meta.created_at,
        }
    }

    /// Another publish of the product.
    pub fn another_publish(&self, hostname: &str, base_path: &str) -> ProductPublish {
        let mut another = publish(&self.product, &self.gateway, &self.cluster, hostname);
        another.spec.base_path = base_path.to_owned();
        another
    }

    /// The tenant's scope.
    pub fn scope(&self) -> TenantScope {
        all().within(self.tenant.id).unwrap()
    }

    /// The customer's scope.
    pub fn customer_scope(&self) -> TenantScope {
        let principal = Principal {
            token_id: ApiTokenId::new(),
            tenant_id: Some(self.tenant.id),
            customer_id: Some(self.customer.id),
            roles: vec![Role::CustomerAdmin],
        };
        principal.own_scope()
    }
}

/// Now, with a cool-down of a day.
pub fn day() -> ClaimTime {
    ClaimTime { now: Utc::now(), cooldown: TimeDelta::days(1) }
}

pub fn claims(publish: &ProductPublish) -> Vec<Claim> {
    let claim = |hostname: &String| Claim {
        publish_id: publish.id,
        tenant_id: publish.tenant_id,
        gateway_id: publish.spec.gateway_id,
        hostname: hostname.clone(),
        base_path: publish.spec.base_path.clone(),
    };
    publish.spec.hostnames.iter().map(claim).collect()
}

pub fn cluster(name: &str) -> Cluster {
    Cluster {
        id: ClusterId::new(),
        spec: spec(json!({
            "name": name, "region": "ap-northeast-2", "labels": { "zone": "a", "env": "prod" },
        })),
        meta: Meta::new(Utc::now()),
    }
}

pub fn service(tenant_id: TenantId) -> ApiService {
    ApiService {
        id: ApiServiceId::new(),
        tenant_id,
        status: ApiServiceStatus::Published,
        revision: 1,
        spec: spec(json!({
            "name": "payment-service",
            "backends": [{ "name": "svc", "endpoints": [{ "host": "10.0.0.1", "port": 9000 }] }],
            "routes": [{ "name": "pay", "path": { "prefix": "/pay" }, "backend_id": "svc" }],
            "policies": [{ "name": "limit", "type": "rate_limit",
                "config": { "requests": 9_007_199_254_740_993_u64, "per": "minute" } }],
        })),
        meta: Meta::new(Utc::now()),
    }
}

pub fn gateway(tenant_id: TenantId) -> Gateway {
    Gateway {
        id: GatewayId::new(),
        tenant_id,
        spec: spec(json!({
            "name": "public", "gateway_class": "envoy-gateway",
            "listeners": [{ "name": "http", "port": 8080, "protocol": "HTTP" }],
        })),
        meta: Meta::new(Utc::now()),
    }
}

pub fn product(tenant_id: TenantId, services: &[ApiServiceId]) -> Product {
    Product {
        id: ProductId::new(),
        tenant_id,
        status: CatalogStatus::Active,
        spec: spec(json!({
            "name": "Payment API", "description": "한국어 \" ' ; --", "categories": ["pay", "a"],
            "visibility": "private", "api_services": services,
        })),
        meta: Meta::new(Utc::now()),
    }
}

pub fn plan(tenant_id: TenantId, product_id: ProductId) -> Plan {
    Plan {
        id: PlanId::new(),
        tenant_id,
        product_id,
        status: CatalogStatus::Active,
        plan_version: 1,
        spec: spec(json!({
            "name": "gold", "auto_approve": true, "rate_limit": { "requests": 60, "per": "minute" },
            "limits": [{ "name": "burst", "amount": 5, "window": "second" }],
        })),
        meta: Meta::new(Utc::now()),
    }
}

fn publish(
    product: &Product,
    gateway: &Gateway,
    cluster: &Cluster,
    hostname: &str,
) -> ProductPublish {
    ProductPublish {
        id: ProductPublishId::new(),
        tenant_id: product.tenant_id,
        status: PublishStatus::Pending,
        desired_revision: 1,
        acked_revision: 0,
        nodes: NodeCounts::default(),
        last_error: None,
        conditions: Vec::new(),
        activated_at: None,
        spec: spec(json!({
            "product_id": product.id, "gateway_id": gateway.id, "cluster_id": cluster.id,
            "environment": "prod", "auth_mode": "api_key", "hostnames": [hostname],
        })),
        meta: Meta::new(Utc::now()),
    }
}

pub fn domain(tenant_id: TenantId, name: &str) -> Domain {
    Domain {
        id: DomainId::new(),
        tenant_id,
        spec: DomainSpec { name: name.to_owned() },
        status: DomainStatus::Pending,
        challenge: Challenge::new(name),
        held_since: None,
        meta: Meta::new(Utc::now()),
    }
}

pub fn credential(consumer: &Consumer) -> Credential {
    let secret = Secret::new(SecretKind::ApiKey);
    Credential {
        id: CredentialId::new(),
        tenant_id: consumer.tenant_id,
        customer_id: consumer.customer_id,
        spec: spec(json!({ "consumer_id": consumer.id, "expires_at": "2100-01-01T00:00:00.5Z" })),
        prefix: secret.prefix().to_owned(),
        last4: secret.last4().to_owned(),
        status: CredentialStatus::Active,
        meta: Meta::new(Utc::now()),
    }
}

pub fn api_token(tenant_id: Option<TenantId>, customer_id: Option<CustomerId>) -> ApiToken {
    ApiToken {
        id: ApiTokenId::new(),
        tenant_id,
        spec: spec(json!({ "name": "ci", "roles": ["org-admin"], "customer_id": customer_id })),
        prefix: "imp_x".to_owned(),
        revoked_at: None,
        meta: Meta::new(Utc::now()),
    }
}

pub fn registration_token(cluster_id: ClusterId) -> RegistrationToken {
    let meta = Meta::new(Utc::now());
    RegistrationToken {
        id: RegistrationTokenId::new(),
        cluster_id,
        spec: spec(json!({ "description": "first agent" })),
        prefix: "imp_r".to_owned(),
        expires_at: meta.created_at + RegistrationToken::LIFETIME,
        used_at: None,
        meta,
    }
}

pub fn agent(cluster_id: ClusterId) -> Agent {
    let meta = Meta::new(Utc::now());
    let node = AgentNode {
        id: "envoy-1".to_owned(),
        gateway_id: None,
        envoy_version: "1.40.0".to_owned(),
        connected_at: meta.created_at,
    };
    Agent {
        id: AgentId::new(),
        cluster_id,
        status: AgentStatus::Connected,
        agent_version: "0.1.0".to_owned(),
        hostname: "node-1".to_owned(),
        last_seen_at: Some(meta.created_at),
        nodes: vec![node],
        duplicate_seen_at: None,
        capabilities: None,
        meta,
    }
}
