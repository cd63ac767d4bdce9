//! `/v1/gateways`: templates of listeners.

use std::collections::HashMap;

use imp_core::GatewayId;
use imp_core::gateway::{Gateway, GatewayCondition, GatewaySpec};
use imp_core::scope::TenantScope;
use imp_store::gateway::GatewayFilter;
use imp_store::gateway_condition;
use serde::Serialize;
use utoipa::ToSchema;

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
use crate::state::State;

/// A gateway as callers see it.
#[derive(Debug, Serialize, ToSchema)]
pub struct GatewayView {
    #[serde(flatten)]
    pub gateway: Gateway,
    /// The clusters whose agents or Envoys refuse it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conditions: Option<Vec<GatewayCondition>>,
}

/// Leaves out the conditions.
impl From<Gateway> for GatewayView {
    fn from(gateway: Gateway) -> Self {
        Self { gateway, conditions: None }
    }
}

impl Entity for Gateway {
    type Spec = GatewaySpec;
    type View = GatewayView;

    const REPORTED: &'static [&'static str] = &["conditions"];
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

    async fn views(state: &State, items: Vec<Self>) -> Result<Vec<GatewayView>, Problem> {
        let ids: Vec<GatewayId> = items.iter().map(|gateway| gateway.id).collect();
        let mut conditions: HashMap<GatewayId, Vec<GatewayCondition>> = HashMap::new();
        for (gateway, condition) in gateway_condition::of_gateways(&state.store, &ids).await? {
            conditions.entry(gateway).or_default().push(condition);
        }
        let view = |gateway: Self| {
            let conditions = conditions.remove(&gateway.id).unwrap_or_default();
            GatewayView { gateway, conditions: Some(conditions) }
        };
        Ok(items.into_iter().map(view).collect())
    }
}

pub fn mount(routes: &mut Routes) {
    crud::mount::<Gateway>(routes);
}
