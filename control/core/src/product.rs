//! A product: API services bundled for sale.

use imp_grammar::caps;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::stored::states;
use crate::{ApiServiceId, Check, Meta, ProductId, TenantId, Transition, Violations, grammar};

/// What a caller writes of a product.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProductSpec {
    /// With the version, unique in the tenant.
    #[schema(example = "Payment API")]
    pub name: String,
    /// The product's version, not the object's.
    #[serde(default = "first")]
    #[schema(example = "v1.0")]
    pub product_version: String,
    /// For people.
    #[serde(default)]
    pub description: String,
    /// To find it by.
    #[serde(default)]
    #[schema(example = json!(["payments", "fintech"]))]
    pub categories: Vec<String>,
    /// Who sees it.
    #[serde(default)]
    pub visibility: Visibility,
    /// What is in it; a publish may name a part of it.
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
        /// The provider only.
        #[default]
        Private,
        /// Every customer of the tenant.
        Public,
    }
}

impl Visibility {
    /// As in JSON.
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
    /// Its id.
    pub id: ProductId,
    /// Its owner.
    pub tenant_id: TenantId,
    /// Where it stands.
    pub status: CatalogStatus,
    /// What was written.
    #[serde(flatten)]
    pub spec: ProductSpec,
    /// Times and version.
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
        /// No new subscriptions.
        Deprecated,
        /// Over.
        Closed,
    }
}

impl CatalogStatus {
    /// As in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Newer(word) => word.as_str(),
            Self::Draft => "draft",
            Self::Active => "active",
            Self::Deprecated => "deprecated",
            Self::Closed => "closed",
        }
    }

    /// On sale.
    pub fn activate(self, kind: &'static str) -> Result<Self, Transition> {
        self.step(kind, &[Self::Draft], Self::Active)
    }

    /// No new subscriptions.
    pub fn deprecate(self, kind: &'static str) -> Result<Self, Transition> {
        self.step(kind, &[Self::Active], Self::Deprecated)
    }

    /// Over; the caller makes sure that nobody subscribes to it.
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
