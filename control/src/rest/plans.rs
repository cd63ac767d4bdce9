//! `/v1/plans`: price and limits of a product.

use imp_core::plan::{Plan, PlanSpec};
use imp_core::product::Product;
use imp_core::role::{Action, Kind};
use imp_core::scope::TenantScope;
use imp_core::{PlanId, ProductId};
use imp_store::plan::{self as table, PlanFilter};
use imp_store::subscription::{self, SubscriptionFilter};

use crate::flows::{Write, catalog};
use crate::problem::Problem;
use crate::rest::actions::act;
use crate::rest::body::Json;
use crate::rest::call::Call;
use crate::rest::crud;
use crate::rest::entity::{Entity, Extra, Made, OWNER, stored, uuid_schema};
use crate::rest::products::{INITIAL, Initial, refuse_closed, refuse_while_subscribed};
use crate::rest::query::Query;
use crate::rest::routes::Routes;
use crate::state::State;

stored!(Plan, plan, PlanId, PlanFilter);

impl Entity for Plan {
    type Spec = PlanSpec;
    type View = Self;

    const KIND: Kind = Kind::Plan;
    const PATH: &'static str = "plans";
    const NOUN: &'static str = "plan";
    const FILTERS: &'static [&'static str] = &["tenant_id", "product_id", "name", "status"];
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

    async fn create(call: &Call, mut body: Json) -> Result<Made<Self>, Problem> {
        let scope = call.within(body.take_tenant()?)?;
        let status = Initial::take(&mut body)?;
        let product_id: ProductId = body.require("product_id")?;
        let spec: PlanSpec = body.into_spec()?;
        let mut write = Write::begin(call, scope).await?;
        let product = write.refer::<Product>(product_id, "/product_id").await?;
        write.within(product.tenant_id)?;
        let plan = catalog::create_plan(&mut write, &product, status, spec).await?;
        write.finish::<Self>("create", plan.id).await?;
        Ok(plan.into())
    }

    async fn edit(write: &mut Write<'_>, current: Self, spec: PlanSpec) -> Result<Self, Problem> {
        refuse_closed(Self::NOUN, current.status)?;
        catalog::edit_plan(write, current, spec).await
    }

    async fn remove(write: &mut Write<'_>, current: Self) -> Result<(), Problem> {
        refuse_awaited(write, current.id).await?;
        table::delete(&mut write.tx, &write.scope, current.id).await?;
        Ok(())
    }

    async fn views(_: &State, items: Vec<Self>) -> Result<Vec<Self>, Problem> {
        Ok(items)
    }
}

/// Somebody is to move to it at the period's end.
async fn refuse_awaited(write: &mut Write<'_>, plan: PlanId) -> Result<(), Problem> {
    if subscription::awaits(&mut write.tx, plan).await? {
        let detail = "subscriptions are to move to it; take these changes back first";
        return Err(Problem::conflict("in_use", detail));
    }
    Ok(())
}

async fn save(write: &mut Write<'_>, mut plan: Plan) -> Result<Plan, Problem> {
    let expected = plan.meta.version;
    plan.meta.touch(write.now);
    table::update(&mut write.tx, &plan, expected).await?;
    Ok(plan)
}

async fn activate(write: &mut Write<'_>, plan: Plan) -> Result<Plan, Problem> {
    let status = plan.status.activate(Plan::NOUN)?;
    save(write, Plan { status, ..plan }).await
}

async fn deprecate(write: &mut Write<'_>, plan: Plan) -> Result<Plan, Problem> {
    let status = plan.status.deprecate(Plan::NOUN)?;
    save(write, Plan { status, ..plan }).await
}

async fn close(write: &mut Write<'_>, plan: Plan) -> Result<Plan, Problem> {
    let status = plan.status.close(Plan::NOUN)?;
    let of_it = SubscriptionFilter { plan_id: Some(plan.id), ..SubscriptionFilter::default() };
    refuse_while_subscribed(write, of_it).await?;
    refuse_awaited(write, plan.id).await?;
    save(write, Plan { status, ..plan }).await
}

pub fn mount(routes: &mut Routes) {
    crud::mount::<Plan>(routes);
    act!(routes, Plan, Action::Write, "activate", activate);
    act!(routes, Plan, Action::Write, "deprecate", deprecate);
    act!(routes, Plan, Action::Write, "close", close);
}
