//! Reads for the tailer and the hub: rows of all tenants, by page or by a few ids.
//!
//! Each row has its own result, so that one corrupt row does not affect the others.

pub mod places;

use chrono::{DateTime, Utc};
use imp_core::credential::CredentialStatus;
use imp_core::gateway::Gateway;
use imp_core::hostname::is_wildcard;
use imp_core::plan::PlanSpec;
use imp_core::product_publish::{
    Environment, FrozenApiService, ProductPublish, ProductPublishSpec, PublishStatus,
};
use imp_core::secret::SecretHash;
use imp_core::stored::NewerWord;
use imp_core::subscription::{Subscription, SubscriptionStatus};
use imp_core::{
    AgentId, ClientAppId, ClusterId, ConsumerId, CredentialId, CustomerId, GatewayId, PlanId,
    ProductId, ProductPublishId, SubscriptionId, TenantId,
};
use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;
use sqlx::{ColumnIndex, Database, Decode, Encode, FromRow, QueryBuilder, Row, Type};
use uuid::Uuid;

use crate::credential::secret_hash;
use crate::db::Conn;
use crate::span::traced;
use crate::sql::{Attempt, Stored, Word, decode};
use crate::{Page, Result, Store, StoreError, gateway, product_publish, subscription, wildcard};

/// Which rows to read.
#[derive(Clone, Copy, Debug)]
pub enum Which<'a, Id> {
    /// These ids; missing rows are left out.
    Ids(&'a [Id]),
    /// A page of all rows, ordered by id.
    Page(Page),
    /// The rows of a range of ids; see [`ranges`].
    Range(Range),
}

/// A range of ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    first: Uuid,
    last: Uuid,
}

/// Cuts all ids, also those of later rows, into ranges that have so many of the table's rows now.
/// Unlike pages, they can be read at the same time, and a row that comes or goes moves no other
/// one to another range.
pub async fn ranges(store: &Store, table: &'static str, rows: i64) -> Result<Vec<Range>> {
    let sql = format!(
        "SELECT id FROM (SELECT id, ROW_NUMBER() OVER (ORDER BY id) AS place FROM {table}) numbered \
         WHERE place % $1 = 0 ORDER BY id"
    );
    let sql = || sqlx::AssertSqlSafe(sql.clone());
    let ends: Vec<(Uuid,)> = match store.read().await?.conn() {
        Conn::Sqlite(conn) => {
            sqlx::query_as(sql()).bind(rows).fetch_all(conn.alone().await?).await?
        }
        Conn::Pg(conn) => sqlx::query_as(sql()).bind(rows).fetch_all(conn).await?,
    };
    let mut first = Uuid::nil();
    let mut ranges = Vec::with_capacity(ends.len() + 1);
    for (last,) in ends {
        ranges.push(Range { first, last });
        first = Uuid::from_u128(last.as_u128().saturating_add(1));
    }
    ranges.push(Range { first, last: Uuid::max() });
    Ok(ranges)
}

/// A row, or the reason why it cannot be read.
#[derive(Debug)]
pub struct Read<Id, T> {
    pub id: Id,
    /// [`StoreError::Corrupt`] if it cannot be read.
    pub content: Result<T>,
}

/// A publish at its desired revision.
#[derive(Debug)]
pub struct DesiredPublish {
    pub id: ProductPublishId,
    pub tenant_id: TenantId,
    pub status: PublishStatus,
    pub revision: i64,
    /// The spec as frozen in the revision.
    pub spec: ProductPublishSpec,
    /// The services as frozen in the revision.
    pub api_services: Vec<FrozenApiService>,
    /// Hosts that its wildcards do not take, as of now.
    pub kept_out_hosts: Vec<String>,
}

/// A subscription with its version of the plan's terms.
#[derive(Debug)]
pub struct SubscribedTerms {
    pub subscription: Subscription,
    /// When the customer was first active in its place (see `Subscription::ordinal`), in this subscription or in
    /// one before it. Read only for a living one with quotas from that day on.
    pub first_activated_at: Option<DateTime<Utc>>,
    /// The plan's version. That it cannot be read hides nothing of the subscription.
    pub terms: Result<PlanSpec>,
}

/// A credential with its consumer's app and subscription.
#[derive(Debug)]
pub struct IssuedCredential {
    pub id: CredentialId,
    pub consumer_id: ConsumerId,
    pub client_app_id: ClientAppId,
    pub subscription_id: SubscriptionId,
    /// The hash of the key.
    pub key_hash: SecretHash,
    pub status: CredentialStatus,
    /// Never, if `None`.
    pub expires_at: Option<DateTime<Utc>>,
}

/// An agent's cluster and credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentStanding {
    pub cluster_id: ClusterId,
    /// Permanently revoked.
    pub revoked: bool,
    /// Thumbprint of the key that its tokens are bound to.
    pub key_thumbprint: Option<String>,
    /// Generation of its newest token.
    pub token_generation: i64,
}

/// What a subscription's calls are counted under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubscriptionOwner {
    pub tenant_id: TenantId,
    pub customer_id: CustomerId,
    pub product_id: ProductId,
    pub environment: Environment,
    /// The current plan.
    pub plan_id: PlanId,
    /// The current version of its terms.
    pub plan_version: i64,
}

/// Whether the publish is suspended or gone, so that it only needs to be closed.
pub async fn is_closed(store: &Store, id: ProductPublishId) -> Result<bool> {
    let mut held = store.read().await?;
    let sql = "SELECT status FROM product_publishes WHERE id = $1";
    let rows = fetch!(held.conn(), "product_publishes", (Word<PublishStatus>,), sql, id.0)?;
    let open = |(status,): &(Word<PublishStatus>,)| {
        status.0.is_served() && status.0 != PublishStatus::Suspended
    };
    Ok(!rows.iter().any(open))
}

/// Publishes at their desired revisions.
pub async fn publishes(
    store: &Store,
    which: Which<'_, ProductPublishId>,
) -> Result<Vec<Read<ProductPublishId, DesiredPublish>>> {
    #[derive(sqlx::FromRow)]
    struct Columns {
        id: Uuid,
        tenant_id: Uuid,
        status: Word<PublishStatus>,
        desired_revision: i64,
        spec: Stored<ProductPublishSpec>,
        api_services: Stored<Vec<FrozenApiService>>,
    }
    let select = "SELECT p.id AS id, p.tenant_id AS tenant_id, p.status AS status, \
        p.desired_revision AS desired_revision, r.spec AS spec, r.api_services AS api_services \
        FROM product_publishes p LEFT JOIN product_publish_revisions r \
        ON r.product_publish_id = p.id AND r.revision = p.desired_revision WHERE p.id";
    let rows = read::<_, Columns>(store, "product_publishes", select, " ORDER BY p.id", which);
    let publish = |row: Columns| {
        if let PublishStatus::Newer(word) = row.status.0 {
            return Err(newer("product_publishes", row.id, "status", word));
        }
        Ok(DesiredPublish {
            id: row.id.into(),
            tenant_id: row.tenant_id.into(),
            status: row.status.0,
            revision: row.desired_revision,
            spec: row.spec.0,
            api_services: row.api_services.0,
            kept_out_hosts: Vec::new(),
        })
    };
    let mut rows: Vec<Read<_, _>> =
        rows.await?.into_iter().map(|row| row.and_then(publish)).collect();
    for publish in rows.iter_mut().filter_map(|row| row.content.as_mut().ok()) {
        let hostnames = &publish.spec.hostnames;
        if hostnames.iter().any(|hostname| is_wildcard(hostname)) {
            let mut held = store.read().await?;
            publish.kept_out_hosts =
                wildcard::kept_out(&mut held.conn(), publish.tenant_id, hostnames).await?;
        }
    }
    Ok(rows)
}

/// The error for a newer release's word. This release cannot know whether it means serving or
/// refusing, so gateways keep what they have.
fn newer(table: &'static str, id: Uuid, field: &str, word: NewerWord) -> StoreError {
    let why = format!("{field}: this release does not know '{}'", word.as_str());
    StoreError::Corrupt { table, id: Some(id), why }
}

/// Gateway templates.
pub async fn gateways(
    store: &Store,
    which: Which<'_, GatewayId>,
) -> Result<Vec<Read<GatewayId, Gateway>>> {
    let select = "SELECT id, tenant_id, name, description, gateway_class, listeners, settings, \
        version, created_at, updated_at FROM gateways WHERE id";
    let rows = read::<_, gateway::Row>(store, "gateways", select, " ORDER BY id", which);
    Ok(rows.await?.into_iter().map(|row| row.and_then(|row| Ok(row.into()))).collect())
}

/// Subscriptions with their terms.
pub async fn subscriptions(
    store: &Store,
    which: Which<'_, SubscriptionId>,
) -> Result<Vec<Read<SubscriptionId, SubscribedTerms>>> {
    #[derive(sqlx::FromRow)]
    struct Columns {
        #[sqlx(flatten)]
        subscription: subscription::Row,
        first_activated_at: Option<DateTime<Utc>>,
        terms: Attempt<PlanSpec>,
    }
    // COALESCE keeps SQLite from the index of the product: a product has far more subscriptions than a customer.
    let select = concat!(
        "SELECT ",
        subscription::selected!(),
        ", (SELECT v.terms FROM plan_versions v WHERE v.plan_id = subscriptions.plan_id \
         AND v.plan_version = subscriptions.plan_version) AS terms, \
         CASE WHEN status NOT IN ('rejected', 'cancelled', 'expired') AND EXISTS (\
            SELECT 1 FROM plan_versions v WHERE v.plan_id = subscriptions.plan_id \
            AND v.plan_version = subscriptions.plan_version \
            AND CAST(v.terms AS TEXT) LIKE '%\"anchor\"%') \
         THEN (SELECT MIN(f.activated_at) FROM subscriptions f \
            WHERE f.tenant_id = subscriptions.tenant_id \
            AND f.customer_id = subscriptions.customer_id \
            AND COALESCE(f.product_id, f.id) = subscriptions.product_id \
            AND f.environment = subscriptions.environment \
            AND f.ordinal = subscriptions.ordinal) END AS first_activated_at \
         FROM subscriptions WHERE id"
    );
    let rows = read::<_, Columns>(store, "subscriptions", select, " ORDER BY id", which);
    let terms = |row: Columns| {
        let subscription: Subscription = row.subscription.into();
        if let SubscriptionStatus::Newer(word) = subscription.status {
            return Err(newer("subscriptions", subscription.id.into(), "status", word));
        }
        if let Environment::Newer(word) = subscription.environment {
            return Err(newer("subscriptions", subscription.id.into(), "environment", word));
        }
        let corrupt = |why| StoreError::Corrupt { table: "plan_versions", id: None, why };
        Ok(SubscribedTerms {
            subscription,
            first_activated_at: row.first_activated_at,
            terms: row.terms.0.map_err(corrupt),
        })
    };
    Ok(rows.await?.into_iter().map(|row| row.and_then(terms)).collect())
}

/// Credentials with their subscriptions, including revoked ones.
pub async fn credentials(
    store: &Store,
    which: Which<'_, CredentialId>,
) -> Result<Vec<Read<CredentialId, IssuedCredential>>> {
    #[derive(sqlx::FromRow)]
    struct Columns {
        id: Uuid,
        consumer_id: Uuid,
        client_app_id: Uuid,
        subscription_id: Uuid,
        secret_hash: Vec<u8>,
        status: Word<CredentialStatus>,
        expires_at: Option<DateTime<Utc>>,
    }
    let select = "SELECT k.id AS id, k.consumer_id AS consumer_id, \
        c.client_app_id AS client_app_id, c.subscription_id AS subscription_id, \
        k.secret_hash AS secret_hash, k.status AS status, k.expires_at AS expires_at \
        FROM credentials k JOIN consumers c ON c.id = k.consumer_id WHERE k.id";
    let rows = read::<_, Columns>(store, "credentials", select, " ORDER BY k.id", which);
    let credential = |row: Columns| {
        Ok(IssuedCredential {
            id: row.id.into(),
            consumer_id: row.consumer_id.into(),
            client_app_id: row.client_app_id.into(),
            subscription_id: row.subscription_id.into(),
            key_hash: secret_hash(row.id, &row.secret_hash)?,
            status: row.status.0,
            expires_at: row.expires_at,
        })
    };
    Ok(rows.await?.into_iter().map(|row| row.and_then(credential)).collect())
}

/// The ids of all clusters.
pub async fn clusters(
    store: &Store,
    which: Which<'_, ClusterId>,
) -> Result<Vec<Read<ClusterId, ()>>> {
    let select = "SELECT id FROM clusters WHERE id";
    let rows = read::<_, (Uuid,)>(store, "clusters", select, " ORDER BY id", which);
    Ok(rows.await?.into_iter().map(|row| row.and_then(|_| Ok(()))).collect())
}

/// The standings of agents.
pub async fn agents(
    store: &Store,
    which: Which<'_, AgentId>,
) -> Result<Vec<Read<AgentId, AgentStanding>>> {
    #[derive(sqlx::FromRow)]
    struct Columns {
        cluster_id: Uuid,
        revoked_at: Option<DateTime<Utc>>,
        key_thumbprint: Option<String>,
        token_generation: i64,
    }
    let select =
        "SELECT id, cluster_id, revoked_at, key_thumbprint, token_generation FROM agents WHERE id";
    let rows = read::<_, Columns>(store, "agents", select, " ORDER BY id", which);
    let standing = |row: Columns| {
        Ok(AgentStanding {
            cluster_id: row.cluster_id.into(),
            revoked: row.revoked_at.is_some(),
            key_thumbprint: row.key_thumbprint,
            token_generation: row.token_generation,
        })
    };
    Ok(rows.await?.into_iter().map(|row| row.and_then(standing)).collect())
}

/// Publishes without their content.
pub async fn standings(
    store: &Store,
    which: Which<'_, ProductPublishId>,
) -> Result<Vec<Read<ProductPublishId, ProductPublish>>> {
    let select = "SELECT id, tenant_id, status, desired_revision, acked_revision, nodes, \
        last_error, conditions, activated_at, product_id, api_services, gateway_id, cluster_id, environment, \
        auth_mode, api_key, hostnames, base_path, delivery, version, created_at, updated_at \
        FROM product_publishes WHERE id";
    let table = "product_publishes";
    let rows = read::<_, product_publish::Row>(store, table, select, " ORDER BY id", which);
    Ok(rows.await?.into_iter().map(|row| row.and_then(|row| Ok(row.into()))).collect())
}

/// The owners of these subscriptions.
pub async fn subscription_owners(
    store: &Store,
    which: Which<'_, SubscriptionId>,
) -> Result<Vec<Read<SubscriptionId, SubscriptionOwner>>> {
    #[derive(sqlx::FromRow)]
    struct Columns {
        tenant_id: Uuid,
        customer_id: Uuid,
        product_id: Uuid,
        environment: Word<Environment>,
        plan_id: Uuid,
        plan_version: i64,
    }
    let select = "SELECT id, tenant_id, customer_id, product_id, environment, plan_id, \
        plan_version FROM subscriptions WHERE id";
    let rows = read::<_, Columns>(store, "subscriptions", select, " ORDER BY id", which);
    let owner = |row: Columns| {
        Ok(SubscriptionOwner {
            tenant_id: row.tenant_id.into(),
            customer_id: row.customer_id.into(),
            product_id: row.product_id.into(),
            environment: row.environment.0,
            plan_id: row.plan_id.into(),
            plan_version: row.plan_version,
        })
    };
    Ok(rows.await?.into_iter().map(|row| row.and_then(owner)).collect())
}

/// The subscriptions of these consumers.
pub async fn subscriptions_of_consumers(
    store: &Store,
    which: Which<'_, ConsumerId>,
) -> Result<Vec<Read<ConsumerId, SubscriptionId>>> {
    let select = "SELECT id, subscription_id FROM consumers WHERE id";
    let rows = read::<_, (Uuid, Uuid)>(store, "consumers", select, " ORDER BY id", which);
    Ok(rows.await?.into_iter().map(|row| row.and_then(|(_, id)| Ok(id.into()))).collect())
}

impl<Id, T> Read<Id, T> {
    /// The same row with its content as something else.
    pub fn map<U>(self, as_another: impl FnOnce(T) -> U) -> Read<Id, U> {
        Read { id: self.id, content: self.content.map(as_another) }
    }

    fn and_then<U>(self, then: impl FnOnce(T) -> Result<U>) -> Read<Id, U> {
        Read { id: self.id, content: self.content.and_then(then) }
    }
}

/// Reads rows by page or ids. `select` must end before the condition on the id.
pub(crate) async fn read<Id, R>(
    store: &Store,
    table: &'static str,
    select: &'static str,
    order: &'static str,
    which: Which<'_, Id>,
) -> Result<Vec<Read<Id, R>>>
where
    Id: Copy + Into<Uuid> + From<Uuid>,
    R: for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow>,
{
    if matches!(which, Which::Ids([])) {
        return Ok(Vec::new());
    }
    match store.read().await?.conn() {
        Conn::Sqlite(conn) => {
            let mut query = query::<sqlx::Sqlite, _>(select, order, which);
            let conn = conn.alone().await?;
            let rows = traced(select, query.build().fetch_all(conn)).await;
            rows?.iter().map(|row| outcome(table, row)).collect()
        }
        Conn::Pg(conn) => {
            let mut query = query::<sqlx::Postgres, _>(select, order, which);
            let rows = traced(select, query.build().fetch_all(conn)).await;
            rows?.iter().map(|row| outcome(table, row)).collect()
        }
    }
}

fn query<DB: Database, Id: Copy + Into<Uuid>>(
    select: &'static str,
    order: &'static str,
    which: Which<'_, Id>,
) -> QueryBuilder<DB>
where
    DB::Arguments: Default,
    for<'q> Uuid: Encode<'q, DB> + Type<DB>,
    for<'q> i64: Encode<'q, DB> + Type<DB>,
{
    let mut query = QueryBuilder::new(select);
    match which {
        Which::Ids(ids) => {
            query.push(" IN (");
            let mut list = query.separated(", ");
            for &id in padded(ids) {
                list.push_bind(id.into());
            }
            query.push(")").push(order);
        }
        Which::Range(Range { first, last }) => {
            query.push(" BETWEEN ").push_bind(first).push(" AND ").push_bind(last).push(order);
        }
        Which::Page(page) => {
            let after = page.after.unwrap_or(Uuid::nil());
            query.push(" > ").push_bind(after).push(order).push(" LIMIT CAST(");
            query.push_bind(page.limit).push(" AS BIGINT)");
        }
    }
    query
}

/// Pads the ids to a power of two by repeating the last one, so that few distinct statements need
/// to be prepared.
fn padded<Id>(ids: &[Id]) -> impl Iterator<Item = &Id> {
    let missing = ids.len().next_power_of_two() - ids.len();
    ids.iter().chain(ids.last().into_iter().cycle().take(missing))
}

fn outcome<'r, Id, T, R>(table: &'static str, row: &'r R) -> Result<Read<Id, T>>
where
    Id: From<Uuid>,
    R: Row,
    T: FromRow<'r, R>,
    Uuid: Decode<'r, R::Database> + Type<R::Database>,
    for<'a> &'a str: ColumnIndex<R>,
{
    let id: Uuid = row.try_get("id").map_err(StoreError::from)?;
    Ok(Read { id: id.into(), content: decode(table, row) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_ids_come_in_few_lengths() {
        let length = |n: usize| padded(&vec![7; n]).count();
        assert_eq!([length(1), length(2), length(3), length(5), length(200)], [1, 2, 4, 8, 256]);
    }
}
