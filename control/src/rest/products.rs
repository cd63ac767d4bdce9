//! `/v1/products`: API services bundled for sale.

use imp_core::product::{CatalogStatus, Product, ProductSpec};
use imp_core::role::Action;
use imp_core::scope::TenantScope;
use imp_store::product::ProductFilter;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::flows::{Created, product as flow};
use crate::operation::Transaction;
use crate::problem::Problem;
use crate::refusal::Refusal;
use crate::rest::actions::act;
use crate::rest::body::Json;
use crate::rest::call::Call;
use crate::rest::crud;
use crate::rest::entity::{Entity, Extra, OWNER};
use crate::rest::param::{NAME, Param, TENANT};
use crate::rest::query::Query;
use crate::rest::routes::Routes;

/// `status` at creation of products and plans: on sale at once, or a draft.
pub const INITIAL: Extra = Extra { name: "status", required: false, schema: initial_schema };

fn initial_schema() -> Value {
    json!({ "type": "string", "enum": ["draft", "active"], "default": "active" })
}

/// The initial status of a product or plan.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Initial {
    Draft,
    Active,
}

impl Initial {
    pub fn take(body: &mut Json) -> Result<CatalogStatus, Problem> {
        Ok(match body.take("status")? {
            Some(Self::Draft) => CatalogStatus::Draft,
            Some(Self::Active) | None => CatalogStatus::Active,
        })
    }
}

impl Entity for Product {
    type Spec = ProductSpec;
    type View = Self;

    const FILTERS: &'static [Param] = &[TENANT, NAME, Param::of::<CatalogStatus>("status")];
    const EXTRAS: &'static [Extra] = &[OWNER, INITIAL];

    fn spec(&self) -> ProductSpec {
        self.spec.clone()
    }

    fn filter(query: &mut Query) -> Result<ProductFilter, Problem> {
        let (name, status) = (query.take("name")?, query.take("status")?);
        Ok(ProductFilter { name, status, ..ProductFilter::default() })
    }

    fn named(scope: &TenantScope, name: &str) -> Option<ProductFilter> {
        scope.tenant()?;
        Some(ProductFilter { name: Some(name.to_owned()), ..ProductFilter::default() })
    }

    async fn create(call: &Call, mut body: Json) -> Result<Created<Self>, Problem> {
        let (tenant_id, scope) = call.owner(body.take_tenant()?).await?;
        let status = Initial::take(&mut body)?;
        let spec = body.into_spec()?;
        Ok(flow::create(&call.operation, scope, tenant_id, status, spec).await?.into())
    }

    async fn edit(
        tx: &mut Transaction<'_>,
        current: Self,
        spec: ProductSpec,
    ) -> Result<Self, Refusal> {
        flow::edit(tx, current, spec).await
    }
}

pub fn mount(routes: &mut Routes) {
    crud::mount::<Product>(routes);
    act!(routes, Product, Action::Write, "activate", flow::activate);
    act!(routes, Product, Action::Write, "deprecate", flow::deprecate);
    act!(routes, Product, Action::Write, "close", flow::close);
}
