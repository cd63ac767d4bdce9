//! `GET /v1/me`: whom the token speaks for.

use imp_core::role::Role;
use imp_core::{ApiTokenId, CustomerId, TenantId};
use serde::Serialize;
use utoipa::ToSchema;

use crate::problem::Problem;
use crate::rest::call::Call;
use crate::rest::reply::Reply;
use crate::rest::routes::{Op, Routes};

/// Whom the token speaks for.
#[derive(Debug, Serialize, ToSchema)]
pub struct Me {
    /// Of the token.
    pub api_token_id: ApiTokenId,
    /// Null: an operator, over all tenants.
    pub tenant_id: Option<TenantId>,
    /// Set for customer roles.
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
