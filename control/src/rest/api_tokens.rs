//! `/v1/api-tokens`: who may call this API. DELETE revokes.

use imp_core::CustomerId;
use imp_core::api_token::{ApiToken, ApiTokenSpec};
use imp_store::api_token::ApiTokenFilter;

use crate::flows::{Created, api_token as flow};
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

impl Entity for ApiToken {
    type Spec = ApiTokenSpec;
    type View = Self;

    const IMMUTABLE: &'static [&'static str] = &["customer_id"];
    const FILTERS: &'static [Param] = &[TENANT, Param::of::<CustomerId>("customer_id"), NAME];
    const SECRET: Option<&'static str> = Some("token");

    fn spec(&self) -> ApiTokenSpec {
        self.spec.clone()
    }

    fn filter(query: &mut Query) -> Result<ApiTokenFilter, Problem> {
        Ok(ApiTokenFilter { name: query.take("name")?, customer_id: query.take("customer_id")? })
    }

    async fn create(call: &Call, mut body: Json) -> Result<Created<Self>, Problem> {
        let named = body.take_tenant()?;
        let spec: ApiTokenSpec = body.into_spec()?;
        let (tenant_id, scope) = if flow::is_operator(&spec) {
            flow::refuse_operator(&call.operation, named.is_some())?;
            (None, call.operation.scope)
        } else {
            let (tenant_id, scope) = call.owner(named).await?;
            (Some(tenant_id), scope)
        };
        Ok(flow::create(&call.operation, scope, tenant_id, spec).await?)
    }

    async fn edit(
        tx: &mut Transaction<'_>,
        current: Self,
        spec: ApiTokenSpec,
    ) -> Result<Self, Refusal> {
        flow::edit(tx, current, spec).await
    }

    async fn remove(tx: &mut Transaction<'_>, current: Self) -> Result<(), Refusal> {
        flow::revoke(tx, current).await
    }
}

pub fn mount(routes: &mut Routes) {
    crud::mount::<ApiToken>(routes);
}
