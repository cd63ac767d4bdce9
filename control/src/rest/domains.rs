//! `/v1/domains`: the names below which a tenant may publish.

use imp_core::domain::{Challenge, Domain, DomainSpec, DomainStatus};
use imp_core::hostname::{Reserved, reserved, reserved_fault};
use imp_core::role::{Action, Kind};
use imp_core::scope::TenantScope;
use imp_core::{DomainId, Meta};
use imp_store::domain::{self as table, DomainFilter};

use crate::flows::{Write, domain as flow};
use crate::problem::Problem;
use crate::rest::actions::{self, act};
use crate::rest::body::Json;
use crate::rest::call::Call;
use crate::rest::crud;
use crate::rest::entity::{Entity, Made, Stored as _, stored};
use crate::rest::query::Query;
use crate::rest::reply::Reply;
use crate::rest::routes::Routes;
use crate::state::State;

stored!(Domain, domain, DomainId, DomainFilter);

impl Entity for Domain {
    type Spec = DomainSpec;
    type View = Self;

    const KIND: Kind = Kind::Domain;
    const PATH: &'static str = "domains";
    const NOUN: &'static str = "domain";
    const IMMUTABLE: &'static [&'static str] = &["name"];
    const FILTERS: &'static [&'static str] = &["tenant_id", "name", "status"];

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

    async fn create(call: &Call, mut body: Json) -> Result<Made<Self>, Problem> {
        let (tenant_id, scope) = call.owner(body.take_tenant()?).await?;
        let spec: DomainSpec = body.into_spec()?;
        let by_operator = call.principal.tenant_id.is_none();
        if reserved(&spec.name) == Some(Reserved::Local) && !by_operator {
            let fault = reserved_fault();
            return Err(Problem::invalid("/name", fault.code, fault.detail));
        }
        let mut write = Write::begin(call, scope).await?;
        let domain = Self {
            id: DomainId::new(),
            tenant_id,
            challenge: Challenge::new(&spec.name),
            spec,
            status: DomainStatus::Pending,
            held_since: None,
            meta: Meta::new(write.now),
        };
        table::insert(&mut write.tx, &domain).await?;
        write.finish::<Self>("create", domain.id).await?;
        Ok(domain.into())
    }

    /// Its only field is immutable, so no change gets here.
    async fn edit(_: &mut Write<'_>, current: Self, _: DomainSpec) -> Result<Self, Problem> {
        Ok(current)
    }

    async fn remove(write: &mut Write<'_>, current: Self) -> Result<(), Problem> {
        flow::release(write, current).await
    }

    async fn views(_: &State, items: Vec<Self>) -> Result<Vec<Self>, Problem> {
        Ok(items)
    }
}

/// DNS is asked before the transaction opens, so that no connection waits for it.
async fn verify(call: Call) -> Result<Reply, Problem> {
    call.no_body()?;
    let (scope, id) = crud::locate::<Domain>(&call).await?;
    let domain = Domain::get(&call.state.store, &scope, id).await?;
    let domain = domain.ok_or_else(|| Problem::not_found(Domain::NOUN))?;
    call.precondition(&domain.meta)?;
    if domain.status.is_held() {
        return crud::show(&call, domain).await;
    }
    call.state.dns.prove(&domain).await?;
    let (mut write, current) = crud::open::<Domain>(&call).await?;
    let next = flow::verify(&mut write, current).await?;
    write.finish::<Domain>("verify", next.id).await?;
    crud::show(&call, next).await
}

pub fn mount(routes: &mut Routes) {
    crud::mount::<Domain>(routes);
    let view = actions::view::<Domain>(routes);
    routes.add(actions::step::<Domain>(Action::Write, "verify", view), verify);
    act!(routes, Domain, Action::Decide, "grant", flow::grant);
}
