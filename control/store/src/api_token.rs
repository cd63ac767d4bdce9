//! Table `api_tokens`. The secret's hash is a column but not part of the entity.

use chrono::{DateTime, Utc};
use imp_core::api_token::{ApiToken, ApiTokenSpec};
use imp_core::role::Role;
use imp_core::scope::TenantScope;
use imp_core::secret::SecretHash;
use imp_core::{ApiTokenId, CustomerId};
use sqlx::types::Json;
use uuid::Uuid;

use crate::db::Conn;
use crate::sql::{Conditions, Stored};
use crate::table::columns::columns;
use crate::table::{Reference, Table, insert_secret, micros, object, tenant_and_customer};
use crate::{Result, Store, Tx};

#[derive(Clone, Debug, Default)]
pub struct ApiTokenFilter {
    pub name: Option<String>,
    pub customer_id: Option<CustomerId>,
}

impl From<Row> for ApiToken {
    fn from(row: Row) -> Self {
        Self {
            id: row.id.into(),
            tenant_id: row.tenant_id.map(Into::into),
            spec: ApiTokenSpec {
                name: row.name,
                roles: row.roles.0,
                customer_id: row.customer_id.map(Into::into),
                expires_at: row.expires_at,
            },
            prefix: row.prefix,
            revoked_at: row.revoked_at,
            meta: row.meta.into(),
        }
    }
}

object!(ApiToken, ApiTokenId, ApiTokenFilter, "api_tokens");

columns! {
    ApiToken as it;
    fixed {
        id: Uuid = it.id.0,
        tenant_id: Option<Uuid> = it.tenant_id.map(Uuid::from),
        customer_id: Option<Uuid> = it.spec.customer_id.map(Uuid::from),
        prefix: String = &it.prefix,
    }
    changing {
        name: String = &it.spec.name,
        roles: Stored<Vec<Role>> = Json(&it.spec.roles),
        expires_at: Option<DateTime<Utc>> = it.spec.expires_at.map(micros),
        revoked_at: Option<DateTime<Utc>> = it.revoked_at.map(micros),
    }
    secret { secret_hash }
}

impl Table for ApiToken {
    fn scope(scope: &TenantScope, conditions: &mut Conditions<'_>) {
        tenant_and_customer(scope, conditions);
    }

    fn filter<'a>(filter: &'a ApiTokenFilter, conditions: &mut Conditions<'a>) {
        conditions.text("name =", filter.name.as_deref());
        conditions.id("customer_id =", filter.customer_id);
    }

    fn references(&self) -> (Option<Uuid>, Vec<Reference>) {
        let tenant = self.tenant_id.map(Uuid::from);
        let customer = self.spec.customer_id.map(Uuid::from);
        (tenant, vec![("tenant_id", "tenants", tenant), ("customer_id", "customers", customer)])
    }
}

/// The token whose secret has this hash, also if it is expired or revoked.
pub async fn by_hash(store: &Store, hash: &SecretHash) -> Result<Option<ApiToken>> {
    let sql = concat!("SELECT ", selected!(), " FROM api_tokens WHERE secret_hash = $1");
    let rows = fetch!(store.read().await?.conn(), "api_tokens", Row, sql, hash.0.as_slice())?;
    Ok(rows.into_iter().next().map(Into::into))
}

/// Blocks other writers of this table until the transaction ends.
pub async fn lock_out_others(tx: &mut Tx) -> Result<()> {
    if let Conn::Pg(_) = tx.conn() {
        // SQLite has a single writer anyway.
        execute!(tx.conn(), "LOCK TABLE api_tokens IN SHARE ROW EXCLUSIVE MODE")?;
    }
    Ok(())
}

/// Inserts the row with the hash of the secret.
pub async fn insert(tx: &mut Tx, token: &ApiToken, hash: &SecretHash) -> Result<()> {
    insert_secret(tx, token, hash).await
}
