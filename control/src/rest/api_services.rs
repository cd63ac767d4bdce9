//! `/v1/api-services`: blueprints of APIs, with their routes, backends and policies inside.

use std::collections::HashSet;

use imp_core::api_service::{ApiService, ApiServiceSpec, ApiServiceStatus};
use imp_core::check::Violations;
use imp_core::role::{Action, Kind};
use imp_core::scope::TenantScope;
use imp_core::{ApiServiceId, Meta, Transition};
use imp_store::StoreError;
use imp_store::api_service::{self as table, ApiServiceFilter, Hold};

use crate::flows::{Write, share};
use crate::problem::Problem;
use crate::rest::actions::act;
use crate::rest::body::{Json, fault};
use crate::rest::call::Call;
use crate::rest::crud;
use crate::rest::entity::{Entity, Made, stored};
use crate::rest::query::Query;
use crate::rest::routes::Routes;
use crate::state::State;

stored!(ApiService, api_service, ApiServiceId, ApiServiceFilter);

impl Entity for ApiService {
    type Spec = ApiServiceSpec;
    type View = Self;

    const KIND: Kind = Kind::ApiService;
    const PATH: &'static str = "api-services";
    const NOUN: &'static str = "API service";
    // A quarter of a megabyte each, at most.
    const PORTION: i64 = 8;
    const FILTERS: &'static [&'static str] = &["tenant_id", "name", "status"];

    fn spec(&self) -> ApiServiceSpec {
        self.spec.clone()
    }

    fn hint(body: &Json) -> Result<(), Problem> {
        refuse_gateway(body)
    }

    fn filter(query: &mut Query) -> Result<ApiServiceFilter, Problem> {
        let (name, status) = (query.take("name")?, query.take("status")?);
        Ok(ApiServiceFilter { name, status, ..ApiServiceFilter::default() })
    }

    fn named(scope: &TenantScope, name: &str) -> Option<ApiServiceFilter> {
        scope.tenant()?;
        Some(ApiServiceFilter { name: Some(name.to_owned()), ..ApiServiceFilter::default() })
    }

    async fn create(call: &Call, mut body: Json) -> Result<Made<Self>, Problem> {
        let (tenant_id, scope) = call.owner(body.take_tenant()?).await?;
        let spec: ApiServiceSpec = body.into_spec()?;
        check(&call.state, &spec)?;
        let mut write = Write::begin(call, scope).await?;
        let service = Self {
            id: ApiServiceId::new(),
            tenant_id,
            status: ApiServiceStatus::Draft,
            revision: 1,
            spec,
            meta: Meta::new(write.now),
        };
        table::insert(&mut write.tx, &service).await?;
        write.finish::<Self>("create", service.id).await?;
        Ok(service.into())
    }

    fn keep(spec: &mut ApiServiceSpec, current: &Self) {
        spec.keep_ids(&current.spec);
    }

    /// What is published keeps serving its frozen copy until it is redeployed.
    async fn edit(
        write: &mut Write<'_>,
        current: Self,
        spec: ApiServiceSpec,
    ) -> Result<Self, Problem> {
        if current.status == ApiServiceStatus::Retired {
            let refused = Transition { kind: Self::NOUN, from: "retired", to: "changed" };
            return Err(refused.into());
        }
        check(&write.call.state, &spec)?;
        let revision = current.revision + 1;
        save(write, Self { spec, revision, ..current }).await
    }

    async fn remove(write: &mut Write<'_>, current: Self) -> Result<(), Problem> {
        refuse_served(write, &current).await?;
        table::delete(&mut write.tx, &write.scope, current.id).await?;
        Ok(())
    }

    async fn views(_: &State, items: Vec<Self>) -> Result<Vec<Self>, Problem> {
        Ok(items)
    }
}

/// v1 clients send it.
fn refuse_gateway(body: &Json) -> Result<(), Problem> {
    if !body.0.contains_key("gateway_id") {
        return Ok(());
    }
    let hint = "API services have been independent of gateways since v2 (PRD section 9); \
                publish them to a gateway with product-publishes";
    Err(fault("/gateway_id", "unknown_field", hint.to_owned()))
}

/// What needs the deployment's rules, or all parts together.
fn check(state: &State, spec: &ApiServiceSpec) -> Result<(), Problem> {
    let mut v = Violations::new();
    spec.check_upstreams(&state.upstreams, &mut v);
    let parts = [
        ("routes", spec.routes.iter().map(|part| part.id.0).collect::<Vec<_>>()),
        ("backends", spec.backends.iter().map(|part| part.id.0).collect()),
        ("policies", spec.policies.iter().map(|part| part.id.0).collect()),
    ];
    for (list, ids) in parts {
        let mut seen = HashSet::new();
        v.each(list, &ids, |v, id| {
            if !seen.insert(*id) {
                v.add("id", "duplicate_id", "another one has this id");
            }
        });
    }
    v.into_result()?;
    share::check_service(spec)
}

async fn save(write: &mut Write<'_>, mut service: ApiService) -> Result<ApiService, Problem> {
    let expected = service.meta.version;
    service.meta.touch(write.now);
    table::update(&mut write.tx, &service, expected).await?;
    Ok(service)
}

async fn deprecate(write: &mut Write<'_>, service: ApiService) -> Result<ApiService, Problem> {
    let status = service.status.deprecate()?;
    save(write, ApiService { status, ..service }).await
}

/// Held first, so that a publish that is being made is seen, or sees this.
async fn refuse_served(write: &mut Write<'_>, service: &ApiService) -> Result<(), Problem> {
    table::hold(&mut write.tx, service.id, Hold::Alone).await?;
    if table::is_published(&mut write.tx, service.id).await? {
        return Err(StoreError::InUse { by: "product-publishes" }.into());
    }
    Ok(())
}

/// Over, once nothing serves it.
async fn retire(write: &mut Write<'_>, service: ApiService) -> Result<ApiService, Problem> {
    let status = service.status.retire()?;
    refuse_served(write, &service).await?;
    save(write, ApiService { status, ..service }).await
}

pub fn mount(routes: &mut Routes) {
    crud::mount::<ApiService>(routes);
    act!(routes, ApiService, Action::Write, "deprecate", deprecate);
    act!(routes, ApiService, Action::Write, "retire", retire);
}
