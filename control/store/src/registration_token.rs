//! Table `registration_tokens`: each admits one agent, once. Only operators see them.

use chrono::{DateTime, Utc};
use imp_core::cluster::{RegistrationToken, RegistrationTokenSpec};
use imp_core::scope::TenantScope;
use imp_core::secret::SecretHash;
use imp_core::{ClusterId, RegistrationTokenId};
use uuid::Uuid;

use crate::sql::Conditions;
use crate::table::columns::columns;
use crate::table::{Reference, Table, insert_secret, micros, object};
use crate::{Result, Tx};

#[derive(Clone, Debug, Default)]
pub struct RegistrationTokenFilter {
    pub cluster_id: Option<ClusterId>,
}

impl From<Row> for RegistrationToken {
    fn from(row: Row) -> Self {
        Self {
            id: row.id.into(),
            cluster_id: row.cluster_id.into(),
            spec: RegistrationTokenSpec { description: row.description },
            prefix: row.prefix,
            expires_at: row.expires_at,
            used_at: row.used_at,
            meta: row.meta.into(),
        }
    }
}

object!(RegistrationToken, RegistrationTokenId, RegistrationTokenFilter, "registration_tokens");

columns! {
    RegistrationToken as it;
    fixed {
        id: Uuid = it.id.0,
        cluster_id: Uuid = it.cluster_id.0,
        prefix: String = &it.prefix,
    }
    changing {
        description: String = &it.spec.description,
        expires_at: DateTime<Utc> = micros(it.expires_at),
        used_at: Option<DateTime<Utc>> = it.used_at.map(micros),
    }
    secret { secret_hash }
}

impl Table for RegistrationToken {
    fn scope(scope: &TenantScope, conditions: &mut Conditions<'_>) {
        if scope.tenant().is_some() {
            conditions.number("0 =", 1);
        }
    }

    fn filter<'a>(filter: &'a RegistrationTokenFilter, conditions: &mut Conditions<'a>) {
        conditions.id("cluster_id =", filter.cluster_id);
    }

    fn references(&self) -> (Option<Uuid>, Vec<Reference>) {
        (None, vec![("cluster_id", "clusters", Some(self.cluster_id.0))])
    }
}

/// Uses up the token whose secret has this hash. Returns `None` if it does not exist, was used or
/// has expired. Of concurrent callers one gets it.
pub async fn take(
    tx: &mut Tx,
    hash: &SecretHash,
    now: DateTime<Utc>,
) -> Result<Option<RegistrationToken>> {
    let sql = concat!(
        "UPDATE registration_tokens SET used_at = $2, updated_at = $2, version = version + 1 \
         WHERE secret_hash = $1 AND used_at IS NULL AND expires_at > $2 RETURNING ",
        selected!()
    );
    let (hash, now) = (hash.0.as_slice(), micros(now));
    let rows = fetch!(tx.conn(), "registration_tokens", Row, sql, hash, now)?;
    Ok(rows.into_iter().next().map(Into::into))
}

/// Deletes tokens that expired before this time, used or not. Returns how many.
pub async fn prune(tx: &mut Tx, expired_before: DateTime<Utc>) -> Result<u64> {
    let sql = "DELETE FROM registration_tokens WHERE expires_at < $1";
    execute!(tx.conn(), sql, micros(expired_before))
}

/// Inserts the row with the hash of the secret.
pub async fn insert(tx: &mut Tx, token: &RegistrationToken, hash: &SecretHash) -> Result<()> {
    insert_secret(tx, token, hash).await
}
