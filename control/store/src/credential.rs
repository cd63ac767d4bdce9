//! Table `credentials`. The key's hash is a column but not part of the entity.

use chrono::{DateTime, Utc};
use imp_core::credential::{Credential, CredentialSpec, CredentialStatus, CredentialType};
use imp_core::scope::TenantScope;
use imp_core::secret::SecretHash;
use imp_core::{ConsumerId, CredentialId, CustomerId};
use uuid::Uuid;

use crate::sql::{Conditions, Word};
use crate::table::columns::columns;
use crate::table::{Reference, Table, insert_secret, micros, object, tenant_and_customer};
use crate::{Result, Store, StoreError, Tx};

#[derive(Clone, Debug, Default)]
pub struct CredentialFilter {
    pub customer_id: Option<CustomerId>,
    pub consumer_id: Option<ConsumerId>,
    pub status: Option<CredentialStatus>,
}

impl From<Row> for Credential {
    fn from(row: Row) -> Self {
        Self {
            id: row.id.into(),
            tenant_id: row.tenant_id.into(),
            customer_id: row.customer_id.into(),
            spec: CredentialSpec {
                consumer_id: row.consumer_id.into(),
                kind: row.kind.0,
                expires_at: row.expires_at,
            },
            prefix: row.prefix,
            last4: row.last4,
            status: row.status.0,
            meta: row.meta.into(),
        }
    }
}

object!(Credential, CredentialId, CredentialFilter, "credentials");

columns! {
    Credential as it;
    fixed {
        id: Uuid = it.id.0,
        tenant_id: Uuid = it.tenant_id.0,
        customer_id: Uuid = it.customer_id.0,
        consumer_id: Uuid = it.spec.consumer_id.0,
        kind: Word<CredentialType> = Word(it.spec.kind),
        prefix: String = &it.prefix,
        last4: String = &it.last4,
    }
    changing {
        status: Word<CredentialStatus> = Word(it.status),
        expires_at: Option<DateTime<Utc>> = it.spec.expires_at.map(micros),
    }
    secret { secret_hash }
}

impl Table for Credential {
    fn scope(scope: &TenantScope, conditions: &mut Conditions<'_>) {
        tenant_and_customer(scope, conditions);
    }

    fn filter<'a>(filter: &'a CredentialFilter, conditions: &mut Conditions<'a>) {
        conditions.id("customer_id =", filter.customer_id);
        conditions.id("consumer_id =", filter.consumer_id);
        conditions.word("status =", filter.status);
    }

    fn references(&self) -> (Option<Uuid>, Vec<Reference>) {
        let references = vec![
            ("consumer_id", "consumers", Some(self.spec.consumer_id.0)),
            ("customer_id", "customers", Some(self.customer_id.0)),
        ];
        (Some(self.tenant_id.0), references)
    }
}

/// The stored hash of the credential's secret.
pub async fn hash_of(store: &Store, id: CredentialId) -> Result<Option<SecretHash>> {
    let sql = "SELECT secret_hash FROM credentials WHERE id = $1";
    let rows = fetch!(store.read().await?.conn(), "credentials", (Vec<u8>,), sql, id.0)?;
    rows.into_iter().next().map(|(bytes,)| secret_hash(id.0, &bytes)).transpose()
}

/// Converts a stored hash, which must have 32 bytes.
pub(crate) fn secret_hash(id: Uuid, bytes: &[u8]) -> Result<SecretHash> {
    let corrupt = |_| StoreError::Corrupt {
        table: "credentials",
        id: Some(id),
        why: format!("secret_hash has {} bytes instead of 32", bytes.len()),
    };
    bytes.try_into().map(SecretHash).map_err(corrupt)
}

/// Inserts the row with the hash of the secret.
pub async fn insert(tx: &mut Tx, credential: &Credential, hash: &SecretHash) -> Result<()> {
    insert_secret(tx, credential, hash).await
}
