//! `/v1/api-services`: definitions of APIs, with their routes, backends and policies.

use imp_core::api_service::{ApiService, ApiServiceSpec, ApiServiceStatus};
use imp_core::role::Action;
use imp_core::scope::TenantScope;
use imp_store::api_service::ApiServiceFilter;

use crate::flows::{Created, api_service as flow};
use crate::operation::Transaction;
use crate::problem::Problem;
use crate::refusal::Refusal;
use crate::rest::actions::act;
use crate::rest::body::{Json, fault};
use crate::rest::call::Call;
use crate::rest::crud;
use crate::rest::entity::Entity;
use crate::rest::param::{NAME, Param, TENANT};
use crate::rest::query::Query;
use crate::rest::routes::Routes;

impl Entity for ApiService {
    type Spec = ApiServiceSpec;
    type View = Self;

    // Each can be a quarter of a megabyte.
    const PORTION: i64 = 8;
    const FILTERS: &'static [Param] = &[TENANT, NAME, Param::of::<ApiServiceStatus>("status")];

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

    async fn create(call: &Call, mut body: Json) -> Result<Created<Self>, Problem> {
        let (tenant_id, scope) = call.owner(body.take_tenant()?).await?;
        let spec = body.into_spec()?;
        Ok(flow::create(&call.operation, scope, tenant_id, spec).await?.into())
    }

    fn keep(spec: &mut ApiServiceSpec, current: &Self) {
        spec.keep_ids(&current.spec);
    }

    async fn edit(
        tx: &mut Transaction<'_>,
        current: Self,
        spec: ApiServiceSpec,
    ) -> Result<Self, Refusal> {
        flow::edit(tx, current, spec).await
    }

    async fn remove(tx: &mut Transaction<'_>, current: Self) -> Result<(), Refusal> {
        flow::delete(tx, current).await
    }
}

/// A field that v1 clients still send.
fn refuse_gateway(body: &Json) -> Result<(), Problem> {
    if !body.0.contains_key("gateway_id") {
        return Ok(());
    }
    let hint = "API services have been independent of gateways since v2 (PRD section 9); \
                publish them to a gateway with product-publishes";
    Err(fault("/gateway_id", "unknown_field", hint.to_owned()))
}

pub fn mount(routes: &mut Routes) {
    crud::mount::<ApiService>(routes);
    act!(routes, ApiService, Action::Write, "deprecate", flow::deprecate);
    act!(routes, ApiService, Action::Write, "retire", flow::retire, tightens);
}
