//! Issuing and revoking credentials.

use chrono::{DateTime, SubsecRound as _, Utc};
use imp_core::consumer::Consumer;
use imp_core::credential::{Credential, CredentialSpec, CredentialStatus};
use imp_core::secret::{Secret, SecretKind};
use imp_core::subscription::Subscription;
use imp_core::{CredentialId, Meta};
use imp_store::credential as table;
use imp_store::outbox::Subject;

use crate::flows::Write;
use crate::flows::subscription::refuse_ended;
use crate::problem::Problem;

/// A new one, and the secret that is shown this once.
pub async fn issue(
    write: &mut Write<'_>,
    consumer: &Consumer,
    mut spec: CredentialSpec,
) -> Result<(Credential, Secret), Problem> {
    spec.expires_at = to_come(write, spec.expires_at)?;
    let of = consumer.spec.subscription_id;
    refuse_ended(&write.refer::<Subscription>(of, "/consumer_id").await?)?;
    let secret = Secret::new(SecretKind::ApiKey);
    let credential = Credential {
        id: CredentialId::new(),
        tenant_id: consumer.tenant_id,
        customer_id: consumer.customer_id,
        spec,
        prefix: secret.prefix().to_owned(),
        last4: secret.last4().to_owned(),
        status: CredentialStatus::Active,
        meta: Meta::new(write.now),
    };
    table::insert(&mut write.tx, &credential, &secret.hash()).await?;
    write.note(Subject::Credential(credential.id)).await?;
    Ok((credential, secret))
}

/// Moves its end; a revoked one stays as it is.
pub async fn reschedule(
    write: &mut Write<'_>,
    mut credential: Credential,
    mut spec: CredentialSpec,
) -> Result<Credential, Problem> {
    spec.expires_at = to_come(write, spec.expires_at)?;
    if credential.status == CredentialStatus::Revoked {
        let detail = "a credential that is revoked stays so";
        return Err(Problem::conflict("invalid_transition", detail));
    }
    credential.spec = spec;
    save(write, credential).await
}

/// It never opens again.
pub async fn revoke(
    write: &mut Write<'_>,
    mut credential: Credential,
) -> Result<Credential, Problem> {
    credential.status = credential.status.revoke()?;
    save(write, credential).await
}

async fn save(write: &mut Write<'_>, mut credential: Credential) -> Result<Credential, Problem> {
    let expected = credential.meta.version;
    credential.meta.touch(write.now);
    table::update(&mut write.tx, &credential, expected).await?;
    write.note(Subject::Credential(credential.id)).await?;
    Ok(credential)
}

/// An end in the future, as precise as the databases keep it.
pub fn to_come(
    write: &Write<'_>,
    end: Option<DateTime<Utc>>,
) -> Result<Option<DateTime<Utc>>, Problem> {
    if end.is_some_and(|end| end <= write.now) {
        return Err(Problem::invalid("/expires_at", "in_the_past", "a time to come"));
    }
    Ok(end.map(|end| end.trunc_subsecs(6)))
}
