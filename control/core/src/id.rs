//! One id type per entity, all UUIDv7, so that an id of one kind cannot be passed for another.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
        #[serde(transparent)]
        #[schema(value_type = Uuid)]
        pub struct $name(pub Uuid);

        impl $name {
            /// Creates an id; ids sort by creation time.
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::new()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }

        impl From<Uuid> for $name {
            fn from(id: Uuid) -> Self {
                Self(id)
            }
        }

        impl From<$name> for Uuid {
            fn from(id: $name) -> Self {
                id.0
            }
        }
    )*};
}

ids! {
    /// A [`crate::tenant::Tenant`].
    TenantId,
    /// An [`crate::api_token::ApiToken`].
    ApiTokenId,
    /// An [`crate::api_service::ApiService`].
    ApiServiceId,
    /// A [`crate::route::Route`].
    RouteId,
    /// A [`crate::route::Backend`].
    BackendId,
    /// A [`crate::policy::Policy`].
    PolicyId,
    /// A [`crate::gateway::Gateway`].
    GatewayId,
    /// A [`crate::domain::Domain`].
    DomainId,
    /// A [`crate::product::Product`].
    ProductId,
    /// A [`crate::plan::Plan`].
    PlanId,
    /// A [`crate::product_publish::ProductPublish`].
    ProductPublishId,
    /// A [`crate::cluster::Cluster`].
    ClusterId,
    /// A [`crate::cluster::Agent`].
    AgentId,
    /// A [`crate::cluster::RegistrationToken`].
    RegistrationTokenId,
    /// A [`crate::customer::Customer`].
    CustomerId,
    /// A [`crate::subscription::Subscription`].
    SubscriptionId,
    /// A [`crate::client_app::ClientApp`].
    ClientAppId,
    /// A [`crate::consumer::Consumer`].
    ConsumerId,
    /// A [`crate::credential::Credential`].
    CredentialId,
}
