//! Table `domains`: the names below which tenants claim hostnames.

use chrono::{DateTime, Utc};
use imp_core::domain::{Challenge, Domain, DomainSpec, DomainStatus};
use imp_core::hostname::lineage;
use imp_core::scope::TenantScope;
use imp_core::{DomainId, TenantId};
use sqlx::{Database, Encode, QueryBuilder, Type};
use uuid::Uuid;

use crate::db::Conn;
use crate::sql::{Conditions, Word, decode};
use crate::table::columns::columns;
use crate::table::{Reference, Table, micros, object, tenant_only};
use crate::{Result, StoreError, Tx};

#[derive(Clone, Debug, Default)]
pub struct DomainFilter {
    /// The canonical name.
    pub name: Option<String>,
    pub status: Option<DomainStatus>,
}

impl From<Row> for Domain {
    fn from(row: Row) -> Self {
        Self {
            id: row.id.into(),
            tenant_id: row.tenant_id.into(),
            challenge: Challenge::with_token(&row.name, &row.token),
            spec: DomainSpec { name: row.name },
            status: row.status.0,
            held_since: row.held_since,
            meta: row.meta.into(),
        }
    }
}

object!(Domain, DomainId, DomainFilter, "domains");

columns! {
    Domain as it;
    fixed {
        id: Uuid = it.id.0,
        tenant_id: Uuid = it.tenant_id.0,
        name: String = &it.spec.name,
        token: String = it.challenge.token(),
    }
    changing {
        status: Word<DomainStatus> = Word(it.status),
        held_since: Option<DateTime<Utc>> = it.held_since.map(micros),
    }
    written {
        // Unique: if another tenant holds the name, an update returns [`StoreError::Taken`].
        held_name = it.status.is_held().then_some(&it.spec.name),
    }
}

impl Table for Domain {
    fn scope(scope: &TenantScope, conditions: &mut Conditions<'_>) {
        tenant_only(scope, conditions);
    }

    fn filter<'a>(filter: &'a DomainFilter, conditions: &mut Conditions<'a>) {
        conditions.text("name =", filter.name.as_deref());
        conditions.word("status =", filter.status);
    }

    fn references(&self) -> (Option<Uuid>, Vec<Reference>) {
        (Some(self.tenant_id.0), vec![("tenant_id", "tenants", Some(self.tenant_id.0))])
    }
}

/// A held domain and its tenant.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Holder {
    pub name: String,
    #[sqlx(rename = "tenant_id")]
    tenant: Uuid,
}

impl Holder {
    pub fn tenant_id(&self) -> TenantId {
        self.tenant.into()
    }
}

/// The longest domain, verified or granted to any tenant, that equals the hostname or is above it.
/// It is locked until the transaction ends.
pub async fn holder_above(tx: &mut Tx, hostname: &str) -> Result<Option<Holder>> {
    holder_of(tx.conn(), hostname, " FOR SHARE").await
}

/// The same; `lock` is PostgreSQL's way to lock it.
pub(crate) async fn holder_of(
    conn: Conn<'_>,
    hostname: &str,
    lock: &str,
) -> Result<Option<Holder>> {
    const SELECT: &str = "SELECT name, tenant_id FROM domains WHERE held_name IN (";
    let held: Vec<Holder> = match conn {
        Conn::Sqlite(conn) => {
            let mut query = among::<sqlx::Sqlite>(SELECT, hostname);
            let rows = query.push(")").build().fetch_all(conn).await?;
            rows.iter().map(|row| decode("domains", row)).collect::<Result<_>>()?
        }
        Conn::Pg(conn) => {
            let mut query = among::<sqlx::Postgres>(SELECT, hostname);
            let rows = query.push(")").push(lock).build().fetch_all(conn).await?;
            rows.iter().map(|row| decode("domains", row)).collect::<Result<_>>()?
        }
    };
    Ok(held.into_iter().max_by_key(|holder| holder.name.len()))
}

fn among<DB: Database>(start: &str, hostname: &str) -> QueryBuilder<DB>
where
    DB::Arguments: Default,
    for<'q> String: Encode<'q, DB> + Type<DB>,
{
    let mut query = QueryBuilder::new(start);
    let mut names = query.separated(", ");
    for name in lineage(hostname) {
        names.push_bind(name.to_owned());
    }
    query
}

/// Whether the tenant publishes at or below the domain's name. The domain is locked until the
/// transaction ends.
pub async fn is_in_use(tx: &mut Tx, domain: &Domain) -> Result<bool> {
    if let Conn::Pg(conn) = tx.conn() {
        // Whoever publishes below it holds a shared lock, so after this statement their claims are
        // committed.
        let sql = "SELECT id FROM domains WHERE id = $1 FOR UPDATE";
        sqlx::query(sql).bind(domain.id.0).execute(conn).await?;
    }
    let sql = "SELECT hostname FROM hostname_owners \
        WHERE tenant_id = $1 AND (hostname = $2 OR hostname LIKE $3) LIMIT 1";
    let (name, below) = (&domain.spec.name, format!("%.{}", domain.spec.name));
    let rows =
        fetch!(tx.conn(), "hostname_owners", (String,), sql, domain.tenant_id.0, name, below);
    Ok(!rows?.is_empty())
}

/// Whether an update failed because another tenant holds the name.
pub fn is_held_by_another(error: &StoreError) -> bool {
    matches!(error, StoreError::Taken { field: "name" })
}
