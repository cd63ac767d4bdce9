//! A product: API services bundled for sale.

use imp_grammar::caps;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::stored::states;
use crate::{ApiServiceId, Check, Meta, ProductId, TenantId, Transition, Violations, grammar};

/// The writable fields of a product.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProductSpec {
    /// Unique in the tenant together with `version`.
    #[schema(example = "Payment API")]
    pub name: String,
    /// The product's version, not the object's.
    #[serde(default = "first")]
    #[schema(example = "v1.0")]
    pub product_version: String,
    /// A description for people.
    #[serde(default)]
    pub description: String,
    /// Categories to search by.
    #[serde(default)]
    #[schema(example = json!(["payments", "fintech"]))]
    pub categories: Vec<String>,
    /// Who sees it in the catalogue.
    #[serde(default)]
    pub visibility: Visibility,
    /// The services in it; a publish may serve a part of them.
    #[serde(default)]
    pub api_services: Vec<ApiServiceId>,
}

fn first() -> String {
    "v1.0".to_owned()
}

states! {
    /// Who sees a product in the catalogue.
    #[derive(Default)]
    pub enum Visibility {
        /// Only the provider.
        #[default]
        Private,
        /// Every customer of the tenant.
        Public,
    }
}

impl Visibility {
    /// The word in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Private => "private",
            Self::Public => "public",
            Self::Newer(word) => word.as_str(),
        }
    }
}

impl Check for ProductSpec {
    fn check(&self, v: &mut Violations) {
        v.take("name", grammar::name(&self.name));
        v.take("product_version", grammar::name(&self.product_version));
        v.take("description", grammar::description(&self.description));
        v.at_most("categories", self.categories.len(), &caps::CATEGORIES_PER_PRODUCT);
        v.each("categories", &self.categories, |v, category| {
            v.take("", grammar::name(category));
        });
        v.at_most("api_services", self.api_services.len(), &caps::SERVICES_PER_PUBLISH);
    }
}

/// A product.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Product {
    /// The product's unique id.
    pub id: ProductId,
    /// The tenant that owns it.
    pub tenant_id: TenantId,
    /// Its state in the life cycle.
    pub status: CatalogStatus,
    #[serde(flatten)]
    pub spec: ProductSpec,
    #[serde(flatten)]
    pub meta: Meta,
}

states! {
    /// The life cycle of products and plans: draft -> active -> deprecated -> closed.
    pub enum CatalogStatus {
        /// Not on sale yet.
        Draft,
        /// On sale.
        Active,
        /// Existing subscriptions stay; no new ones.
        Deprecated,
        /// Closed; final.
        Closed,
    }
}

impl CatalogStatus {
    /// The word in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Newer(word) => word.as_str(),
            Self::Draft => "draft",
            Self::Active => "active",
            Self::Deprecated => "deprecated",
            Self::Closed => "closed",
        }
    }

    /// Puts it on sale.
    pub fn activate(self, kind: &'static str) -> Result<Self, Transition> {
        self.step(kind, &[Self::Draft], Self::Active)
    }

    /// Stops new subscriptions.
    pub fn deprecate(self, kind: &'static str) -> Result<Self, Transition> {
        self.step(kind, &[Self::Active], Self::Deprecated)
    }

    /// Closes it; the caller ensures that nobody is subscribed.
    pub fn close(self, kind: &'static str) -> Result<Self, Transition> {
        self.step(kind, &[Self::Draft, Self::Deprecated], Self::Closed)
    }

    fn step(self, kind: &'static str, from: &[Self], to: Self) -> Result<Self, Transition> {
        if from.contains(&self) {
            Ok(to)
        } else {
            Err(Transition { kind, from: self.as_str(), to: to.as_str() })
        }
    }
}
