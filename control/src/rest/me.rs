//! `GET /v1/me`: the token's owner and rights.

use imp_core::role::Role;
use imp_core::{ApiTokenId, CustomerId, TenantId};
use serde::Serialize;
use utoipa::ToSchema;

use crate::problem::Problem;
use crate::rest::call::Call;
use crate::rest::reply::Reply;
use crate::rest::routes::{Op, Routes};

/// The owner and rights of the caller's token.
#[derive(Debug, Serialize, ToSchema)]
pub struct Me {
    /// The id of the token.
    pub api_token_id: ApiTokenId,
    /// The token's tenant; null for an operator, who sees all tenants.
    pub tenant_id: Option<TenantId>,
    /// The token's customer, for customer roles.
    pub customer_id: Option<CustomerId>,
    pub roles: Vec<Role>,
}

async fn me(call: Call) -> Result<Reply, Problem> {
    let principal = call.principal;
    Reply::ok(&Me {
        api_token_id: principal.token_id,
        tenant_id: principal.tenant_id,
        customer_id: principal.customer_id,
        roles: principal.roles,
    })
}

pub fn mount(routes: &mut Routes) {
    let view = routes.document.schema::<Me>();
    routes.add(Op::get("me.get", "/v1/me", "Get: whom the token speaks for").gives(200, view), me);
}
