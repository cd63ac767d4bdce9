//! `/v1/plans`: price and limits of a product.

use imp_core::ProductId;
use imp_core::plan::{Plan, PlanSpec};
use imp_core::product::CatalogStatus;
use imp_core::role::Action;
use imp_core::scope::TenantScope;
use imp_store::plan::PlanFilter;

use crate::flows::{Created, plan as flow};
use crate::operation::Transaction;
use crate::problem::Problem;
use crate::refusal::Refusal;
use crate::rest::actions::act;
use crate::rest::body::Json;
use crate::rest::call::Call;
use crate::rest::crud;
use crate::rest::entity::{Entity, Extra, OWNER, uuid_schema};
use crate::rest::param::{NAME, Param, TENANT};
use crate::rest::products::{INITIAL, Initial};
use crate::rest::query::Query;
use crate::rest::routes::Routes;

impl Entity for Plan {
    type Spec = PlanSpec;
    type View = Self;

    const FILTERS: &'static [Param] =
        &[TENANT, Param::of::<ProductId>("product_id"), NAME, Param::of::<CatalogStatus>("status")];
    const EXTRAS: &'static [Extra] =
        &[OWNER, INITIAL, Extra { name: "product_id", required: true, schema: uuid_schema }];

    fn spec(&self) -> PlanSpec {
        self.spec.clone()
    }

    fn filter(query: &mut Query) -> Result<PlanFilter, Problem> {
        let product_id = query.take("product_id")?;
        let (name, status) = (query.take("name")?, query.take("status")?);
        Ok(PlanFilter { product_id, name, status })
    }

    fn named(scope: &TenantScope, name: &str) -> Option<PlanFilter> {
        scope.tenant()?;
        Some(PlanFilter { name: Some(name.to_owned()), ..PlanFilter::default() })
    }

    async fn create(call: &Call, mut body: Json) -> Result<Created<Self>, Problem> {
        let scope = call.within(body.take_tenant()?)?;
        let status = Initial::take(&mut body)?;
        let product_id = body.require("product_id")?;
        let spec = body.into_spec()?;
        Ok(flow::create(&call.operation, scope, product_id, status, spec).await?.into())
    }

    async fn edit(
        tx: &mut Transaction<'_>,
        current: Self,
        spec: PlanSpec,
    ) -> Result<Self, Refusal> {
        flow::edit(tx, current, spec).await
    }

    async fn remove(tx: &mut Transaction<'_>, current: Self) -> Result<(), Refusal> {
        flow::delete(tx, current).await
    }
}

pub fn mount(routes: &mut Routes) {
    crud::mount::<Plan>(routes);
    act!(routes, Plan, Action::Write, "activate", flow::activate);
    act!(routes, Plan, Action::Write, "deprecate", flow::deprecate);
    act!(routes, Plan, Action::Write, "close", flow::close);
}
