//! The entity types, as the domain rules see them.

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
use imp_core::subscription::Subscription;
use imp_core::tenant::Tenant;
use imp_store::Record;
use imp_store::outbox::Subject;

/// An entity with a table of its own, with its names for roles and messages.
pub trait Stored: Record {
    /// Its kind in the table of roles.
    const KIND: Kind;
    /// Its name in messages.
    const NOUN: &'static str;

    /// The outbox subject of changes to this entity; `None` if gateways serve nothing of it, or not
    /// on every change.
    fn subject(_id: Self::Id) -> Option<Subject> {
        None
    }
}

/// The name of an operation in the OpenAPI document and in audit rows: `api_services.create`.
pub fn operation<E: Stored>(verb: &str) -> String {
    format!("{}.{verb}", E::TABLE)
}

macro_rules! nouns {
    ($($entity:ident: $noun:literal $(=> $subject:ident)?),* $(,)?) => {
        $(impl Stored for $entity {
            const KIND: Kind = Kind::$entity;
            const NOUN: &'static str = $noun;

            $(fn subject(id: Self::Id) -> Option<Subject> {
                Some(Subject::$subject(id))
            })?
        })*
    };
}

nouns! {
    ApiService: "API service",
    ApiToken: "API token",
    ClientApp: "client app",
    Cluster: "cluster" => Cluster,
    Consumer: "consumer",
    Credential: "credential" => Credential,
    Customer: "customer",
    Domain: "domain",
    Gateway: "gateway" => Gateway,
    Plan: "plan",
    Product: "product",
    ProductPublish: "product publish" => ProductPublish,
    Subscription: "subscription" => Subscription,
    Tenant: "tenant",
}
