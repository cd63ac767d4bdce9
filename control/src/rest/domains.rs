//! `/v1/domains`: the domains below which a tenant may publish.

use imp_core::domain::{Domain, DomainSpec, DomainStatus};
use imp_core::role::Action;
use imp_core::scope::TenantScope;
use imp_store::Record as _;
use imp_store::domain::DomainFilter;

use crate::entity::Stored as _;
use crate::flows::{Created, domain as flow};
use crate::operation::Transaction;
use crate::problem::Problem;
use crate::refusal::Refusal;
use crate::rest::actions::{self, act};
use crate::rest::body::Json;
use crate::rest::call::Call;
use crate::rest::crud;
use crate::rest::entity::Entity;
use crate::rest::param::{NAME, Param, TENANT};
use crate::rest::query::Query;
use crate::rest::reply::Reply;
use crate::rest::routes::Routes;

impl Entity for Domain {
    type Spec = DomainSpec;
    type View = Self;

    const IMMUTABLE: &'static [&'static str] = &["name"];
    const FILTERS: &'static [Param] = &[TENANT, NAME, Param::of::<DomainStatus>("status")];

    fn spec(&self) -> DomainSpec {
        self.spec.clone()
    }

    fn filter(query: &mut Query) -> Result<DomainFilter, Problem> {
        Ok(DomainFilter { name: query.take("name")?, status: query.take("status")? })
    }

    fn named(scope: &TenantScope, name: &str) -> Option<DomainFilter> {
        scope.tenant()?;
        Some(DomainFilter { name: Some(name.to_owned()), ..DomainFilter::default() })
    }

    async fn create(call: &Call, mut body: Json) -> Result<Created<Self>, Problem> {
        let (tenant_id, scope) = call.owner(body.take_tenant()?).await?;
        let spec = body.into_spec()?;
        Ok(flow::create(&call.operation, scope, tenant_id, spec).await?.into())
    }

    async fn remove(tx: &mut Transaction<'_>, current: Self) -> Result<(), Refusal> {
        flow::release(tx, current).await
    }
}

/// Queries DNS before the transaction opens, so that no connection waits for it.
async fn verify(call: Call) -> Result<Reply, Problem> {
    call.no_body()?;
    let (scope, id) = crud::locate::<Domain>(&call).await?;
    let domain = Domain::get(&call.state.store, &scope, id).await?;
    let domain = domain.ok_or_else(|| Problem::not_found(Domain::NOUN))?;
    call.precondition(&domain.meta)?;
    if domain.status.is_held() {
        return crud::show_unchanged(&call, domain).await;
    }
    call.state.dns.prove(&domain).await?;
    let (mut tx, current) = crud::open::<Domain>(&call).await?;
    let next = flow::verify(&mut tx, current).await?;
    tx.finish::<Domain>("verify", next.id).await?;
    crud::show_written(&call, next).await
}

pub fn mount(routes: &mut Routes) {
    crud::mount::<Domain>(routes);
    let view = actions::view::<Domain>(routes);
    routes.add(actions::step::<Domain>(Action::Write, "verify", view), verify);
    act!(routes, Domain, Action::Decide, "grant", flow::grant);
}
