//! Products and plans: their life cycle and the versions of a plan's terms.

use imp_core::plan::{Plan, PlanSpec};
use imp_core::product::{CatalogStatus, Product};
use imp_core::{Meta, PlanId};
use imp_store::outbox::Subject;
use imp_store::plan;

use crate::flows::Write;
use crate::problem::Problem;

/// A plan with the first version of its terms.
pub async fn create_plan(
    write: &mut Write<'_>,
    product: &Product,
    status: CatalogStatus,
    spec: PlanSpec,
) -> Result<Plan, Problem> {
    if product.status == CatalogStatus::Closed {
        let detail = "the product is closed: no new plans";
        return Err(Problem::conflict("invalid_transition", detail));
    }
    let plan = Plan {
        id: PlanId::new(),
        tenant_id: product.tenant_id,
        product_id: product.id,
        status,
        plan_version: 1,
        spec,
        meta: Meta::new(write.now),
    };
    plan::insert(&mut write.tx, &plan).await?;
    plan::insert_version(&mut write.tx, plan.id, plan.plan_version, &plan.spec).await?;
    Ok(plan)
}

/// New limits are a new version of the terms; who subscribed before keeps the old ones.
pub async fn edit_plan(
    write: &mut Write<'_>,
    mut plan: Plan,
    spec: PlanSpec,
) -> Result<Plan, Problem> {
    let expected = plan.meta.version;
    let new_terms = plan.spec.all_limits() != spec.all_limits();
    plan.spec = spec;
    if new_terms {
        plan.plan_version += 1;
    }
    plan.meta.touch(write.now);
    plan::update(&mut write.tx, &plan, expected).await?;
    if new_terms {
        plan::insert_version(&mut write.tx, plan.id, plan.plan_version, &plan.spec).await?;
        write.note(Subject::Plan(plan.id)).await?;
    }
    Ok(plan)
}
