//! Registration tokens: each admits one agent to a cluster, once.

use imp_core::cluster::{Cluster, RegistrationToken, RegistrationTokenSpec};
use imp_core::scope::TenantScope;
use imp_core::secret::{Secret, SecretKind};
use imp_core::{ClusterId, Meta, RegistrationTokenId};
use imp_store::Record as _;
use imp_store::registration_token as table;

use crate::flows::Created;
use crate::operation::{Operation, Transaction};
use crate::refusal::Refusal;

pub const NOUN: &str = "registration token";

pub async fn create(
    operation: &Operation,
    scope: TenantScope,
    cluster_id: ClusterId,
    spec: RegistrationTokenSpec,
) -> Result<Created<RegistrationToken>, Refusal> {
    let mut tx = Transaction::begin(operation, scope).await?;
    tx.get::<Cluster>(cluster_id).await?;
    let secret = Secret::new(SecretKind::Registration);
    let meta = Meta::new(tx.now);
    let token = RegistrationToken {
        id: RegistrationTokenId::new(),
        cluster_id,
        spec,
        prefix: secret.prefix().to_owned(),
        expires_at: meta.created_at + RegistrationToken::LIFETIME,
        used_at: None,
        meta,
    };
    table::insert(&mut tx, &token, &secret.hash()).await?;
    tx.finish_as("registration_tokens.create", token.id.into()).await?;
    Ok(Created { entity: token, secret: Some(secret.reveal().to_owned()) })
}

pub async fn delete(operation: &Operation, id: RegistrationTokenId) -> Result<(), Refusal> {
    let mut tx = Transaction::begin(operation, operation.scope).await?;
    if !RegistrationToken::delete(&mut tx, &operation.scope, id).await? {
        return Err(Refusal::NotFound(NOUN));
    }
    tx.finish_as("registration_tokens.delete", id.into()).await
}
