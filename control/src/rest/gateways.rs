//! `/v1/gateways`: templates of listeners.

use imp_core::gateway::{Gateway, GatewaySpec};
use imp_core::scope::TenantScope;
use imp_store::gateway::GatewayFilter;

use crate::flows::{Created, gateway as flow};
use crate::operation::Transaction;
use crate::problem::Problem;
use crate::refusal::Refusal;
use crate::rest::body::Json;
use crate::rest::call::Call;
use crate::rest::crud;
use crate::rest::entity::Entity;
use crate::rest::param::{NAME, Param, TENANT};
use crate::rest::query::Query;
use crate::rest::routes::Routes;

impl Entity for Gateway {
    type Spec = GatewaySpec;
    type View = Self;

    const FILTERS: &'static [Param] = &[TENANT, NAME];

    fn spec(&self) -> GatewaySpec {
        self.spec.clone()
    }

    fn filter(query: &mut Query) -> Result<GatewayFilter, Problem> {
        Ok(GatewayFilter { name: query.take("name")?, ..GatewayFilter::default() })
    }

    fn named(scope: &TenantScope, name: &str) -> Option<GatewayFilter> {
        scope.tenant()?;
        Some(GatewayFilter { name: Some(name.to_owned()), ..GatewayFilter::default() })
    }

    async fn create(call: &Call, mut body: Json) -> Result<Created<Self>, Problem> {
        let (tenant_id, scope) = call.owner(body.take_tenant()?).await?;
        let spec = body.into_spec()?;
        Ok(flow::create(&call.operation, scope, tenant_id, spec).await?.into())
    }

    async fn edit(
        tx: &mut Transaction<'_>,
        current: Self,
        spec: GatewaySpec,
    ) -> Result<Self, Refusal> {
        flow::edit(tx, current, spec).await
    }
}

pub fn mount(routes: &mut Routes) {
    crud::mount::<Gateway>(routes);
}
