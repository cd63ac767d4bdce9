//! API tokens: who may call the REST API.

use imp_core::api_token::{ApiToken, ApiTokenSpec};
use imp_core::customer::Customer;
use imp_core::role::Role;
use imp_core::scope::TenantScope;
use imp_core::secret::{Secret, SecretKind};
use imp_core::{ApiTokenId, Meta, TenantId};
use imp_store::api_token as table;

use crate::flows::{Created, finish_create, future_end};
use crate::operation::{Operation, Transaction};
use crate::refusal::Refusal;

/// Creates a token and its secret. Without `tenant_id` it is an operator's.
pub async fn create(
    operation: &Operation,
    scope: TenantScope,
    tenant_id: Option<TenantId>,
    mut spec: ApiTokenSpec,
) -> Result<Created<ApiToken>, Refusal> {
    let mut tx = Transaction::begin(operation, scope).await?;
    if let Some(customer) = spec.customer_id {
        tx.refer::<Customer>(customer, "/customer_id").await?;
    }
    spec.expires_at = future_end(&tx, spec.expires_at)?;
    let secret = Secret::new(SecretKind::ApiToken);
    let prefix = secret.prefix().to_owned();
    let (id, meta) = (ApiTokenId::new(), Meta::new(tx.now));
    let entity = ApiToken { id, tenant_id, spec, prefix, revoked_at: None, meta };
    table::insert(&mut tx, &entity, &secret.hash()).await?;
    finish_create::<ApiToken>(tx, id).await?;
    Ok(Created { entity, secret: Some(secret.reveal().to_owned()) })
}

/// Changes the token. Its owner is fixed: an operator's token stays an operator's, a customer's
/// stays that customer's.
pub async fn edit(
    tx: &mut Transaction<'_>,
    current: ApiToken,
    mut spec: ApiTokenSpec,
) -> Result<ApiToken, Refusal> {
    if current.revoked_at.is_some() {
        let detail = "a token that is revoked stays so";
        return Err(Refusal::conflict("invalid_transition", detail));
    }
    if is_operator(&spec) != is_operator(&current.spec) {
        return Err(Refusal::Immutable { pointer: "/roles".to_owned() });
    }
    spec.expires_at = future_end(tx, spec.expires_at)?;
    tx.save(ApiToken { spec, ..current }).await
}

/// Revokes the token permanently. The row stays, because audit rows refer to it.
pub async fn revoke(tx: &mut Transaction<'_>, token: ApiToken) -> Result<(), Refusal> {
    if token.revoked_at.is_none() {
        let revoked_at = Some(Meta::new(tx.now).created_at);
        tx.save(ApiToken { revoked_at, ..token }).await?;
    }
    Ok(())
}

/// Whether the token is an operator's, above all tenants.
pub fn is_operator(spec: &ApiTokenSpec) -> bool {
    spec.roles.iter().any(|role| role.is_operator())
}

/// Only operators create operator tokens, and these belong to no tenant.
pub fn refuse_operator(operation: &Operation, names_tenant: bool) -> Result<(), Refusal> {
    if !operation.actor.has(Role::SystemAdmin) {
        return Err(Refusal::forbidden("only a system-admin gives operator roles").at("/roles"));
    }
    if names_tenant {
        let why = "operators are over all tenants; leave it out";
        return Err(Refusal::invalid("/tenant_id", "mixed_roles", why));
    }
    Ok(())
}
