//! Issuing and revoking credentials.

use imp_core::consumer::Consumer;
use imp_core::credential::{Credential, CredentialSpec, CredentialStatus};
use imp_core::scope::TenantScope;
use imp_core::secret::{Secret, SecretKind};
use imp_core::subscription::Subscription;
use imp_core::{CredentialId, Meta};
use imp_store::credential as table;
use imp_store::outbox::Subject;

use crate::flows::subscription::refuse_ended;
use crate::flows::{Created, finish_create, future_end};
use crate::operation::{Operation, Transaction};
use crate::refusal::Refusal;

/// Creates a credential, with the secret that is shown only once.
pub async fn create(
    operation: &Operation,
    scope: TenantScope,
    mut spec: CredentialSpec,
) -> Result<Created<Credential>, Refusal> {
    let mut tx = Transaction::begin(operation, scope).await?;
    let consumer: Consumer = tx.refer(spec.consumer_id, "/consumer_id").await?;
    tx.within(consumer.tenant_id)?;
    spec.expires_at = future_end(&tx, spec.expires_at)?;
    let of = consumer.spec.subscription_id;
    refuse_ended(&tx.refer::<Subscription>(of, "/consumer_id").await?)?;
    let secret = Secret::new(SecretKind::ApiKey);
    let credential = Credential {
        id: CredentialId::new(),
        tenant_id: consumer.tenant_id,
        customer_id: consumer.customer_id,
        spec,
        prefix: secret.prefix().to_owned(),
        last4: secret.last4().to_owned(),
        status: CredentialStatus::Active,
        meta: Meta::new(tx.now),
    };
    table::insert(&mut tx, &credential, &secret.hash()).await?;
    tx.note(Subject::Credential(credential.id)).await?;
    finish_create::<Credential>(tx, credential.id).await?;
    Ok(Created { entity: credential, secret: Some(secret.reveal().to_owned()) })
}

/// Changes its expiry. A revoked one cannot be changed.
pub async fn reschedule(
    tx: &mut Transaction<'_>,
    mut credential: Credential,
    mut spec: CredentialSpec,
) -> Result<Credential, Refusal> {
    spec.expires_at = future_end(tx, spec.expires_at)?;
    if credential.status == CredentialStatus::Revoked {
        let detail = "a credential that is revoked stays so";
        return Err(Refusal::conflict("invalid_transition", detail));
    }
    credential.spec = spec;
    tx.save(credential).await
}

/// Revokes the credential permanently.
pub async fn revoke(
    tx: &mut Transaction<'_>,
    mut credential: Credential,
) -> Result<Credential, Refusal> {
    credential.status = credential.status.revoke()?;
    tx.save(credential).await
}
