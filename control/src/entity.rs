//! The objects of the product as the database keeps them: what flows and REST need of every kind.

use std::fmt::Display;
use std::future::Future;

use imp_core::Meta;
use imp_core::api_service::ApiService;
use imp_core::api_token::ApiToken;
use imp_core::client_app::ClientApp;
use imp_core::cluster::Cluster;
use imp_core::consumer::Consumer;
use imp_core::credential::Credential;
use imp_core::customer::Customer;
use imp_core::domain::Domain;
use imp_core::gateway::Gateway;
use imp_core::plan::Plan;
use imp_core::product::Product;
use imp_core::product_publish::ProductPublish;
use imp_core::role::Kind;
use imp_core::scope::TenantScope;
use imp_core::subscription::Subscription;
use imp_core::tenant::Tenant;
use imp_store::{Page, Store, StoreError, Tx};
use uuid::Uuid;

/// An object with a table of its own. Implemented by [`stored!`], which forwards to the store's
/// module.
pub trait Stored: Sized + Clone + Send + Sync + 'static {
    type Id: Copy + From<Uuid> + Into<Uuid> + Display + Send + Sync;
    type Filter: Default + Send + Sync;

    /// In the table of roles.
    const KIND: Kind;
    /// The table's name, and the first word of operations: `api_services.create`.
    const TABLE: &'static str;
    /// In messages.
    const NOUN: &'static str;

    fn id(&self) -> Self::Id;
    fn meta(&self) -> &Meta;
    fn get(
        store: &Store,
        scope: &TenantScope,
        id: Self::Id,
    ) -> impl Future<Output = Result<Option<Self>, StoreError>> + Send;
    fn get_in(
        tx: &mut Tx,
        scope: &TenantScope,
        id: Self::Id,
    ) -> impl Future<Output = Result<Option<Self>, StoreError>> + Send;
    fn list(
        store: &Store,
        scope: &TenantScope,
        filter: &Self::Filter,
        page: Page,
    ) -> impl Future<Output = Result<Vec<Self>, StoreError>> + Send;
    fn delete(
        tx: &mut Tx,
        scope: &TenantScope,
        id: Self::Id,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;
}

/// The name of an operation in the OpenAPI document and in audit rows: `api_services.create`.
pub fn operation<E: Stored>(verb: &str) -> String {
    format!("{}.{verb}", E::TABLE)
}

macro_rules! stored {
    ($entity:ident, $module:ident, $id:ident, $filter:ident, $table:literal, $noun:literal) => {
        impl Stored for $entity {
            type Id = imp_core::$id;
            type Filter = imp_store::$module::$filter;

            const KIND: Kind = Kind::$entity;
            const TABLE: &'static str = $table;
            const NOUN: &'static str = $noun;

            fn id(&self) -> Self::Id {
                self.id
            }

            fn meta(&self) -> &Meta {
                &self.meta
            }

            async fn get(
                store: &Store,
                scope: &TenantScope,
                id: Self::Id,
            ) -> Result<Option<Self>, StoreError> {
                imp_store::$module::get(store, scope, id).await
            }

            async fn get_in(
                tx: &mut Tx,
                scope: &TenantScope,
                id: Self::Id,
            ) -> Result<Option<Self>, StoreError> {
                imp_store::$module::get_in(tx, scope, id).await
            }

            async fn list(
                store: &Store,
                scope: &TenantScope,
                filter: &Self::Filter,
                page: Page,
            ) -> Result<Vec<Self>, StoreError> {
                imp_store::$module::list(store, scope, filter, page).await
            }

            async fn delete(
                tx: &mut Tx,
                scope: &TenantScope,
                id: Self::Id,
            ) -> Result<bool, StoreError> {
                imp_store::$module::delete(tx, scope, id).await
            }
        }
    };
}

stored!(ApiService, api_service, ApiServiceId, ApiServiceFilter, "api_services", "API service");
stored!(ApiToken, api_token, ApiTokenId, ApiTokenFilter, "api_tokens", "API token");
stored!(ClientApp, client_app, ClientAppId, ClientAppFilter, "client_apps", "client app");
stored!(Cluster, cluster, ClusterId, ClusterFilter, "clusters", "cluster");
stored!(Consumer, consumer, ConsumerId, ConsumerFilter, "consumers", "consumer");
stored!(Credential, credential, CredentialId, CredentialFilter, "credentials", "credential");
stored!(Customer, customer, CustomerId, CustomerFilter, "customers", "customer");
stored!(Domain, domain, DomainId, DomainFilter, "domains", "domain");
stored!(Gateway, gateway, GatewayId, GatewayFilter, "gateways", "gateway");
stored!(Plan, plan, PlanId, PlanFilter, "plans", "plan");
stored!(Product, product, ProductId, ProductFilter, "products", "product");
stored!(
    ProductPublish,
    product_publish,
    ProductPublishId,
    ProductPublishFilter,
    "product_publishes",
    "product publish"
);
stored!(
    Subscription,
    subscription,
    SubscriptionId,
    SubscriptionFilter,
    "subscriptions",
    "subscription"
);
stored!(Tenant, tenant, TenantId, TenantFilter, "tenants", "tenant");
