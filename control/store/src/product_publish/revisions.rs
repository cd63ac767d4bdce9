//! Table `product_publish_revisions`: rows are written once and never changed.

use chrono::{DateTime, Utc};
use imp_core::ProductPublishId;
use imp_core::product_publish::{
    FrozenApiService, ProductPublish, ProductPublishSpec, PublishRevision,
};
use sqlx::types::Json;
use uuid::Uuid;

use crate::db::Conn;
use crate::error::foreign_key;
use crate::sql::Stored;
use crate::table::micros;
use crate::{Result, Store, StoreError, Tx};

#[derive(sqlx::FromRow)]
struct Row {
    product_publish_id: Uuid,
    revision: i64,
    content_hash: String,
    spec: Stored<ProductPublishSpec>,
    api_services: Stored<Vec<FrozenApiService>>,
    created_at: DateTime<Utc>,
}

impl From<Row> for PublishRevision {
    fn from(row: Row) -> Self {
        Self {
            product_publish_id: row.product_publish_id.into(),
            revision: row.revision,
            content_hash: row.content_hash,
            spec: row.spec.0,
            api_services: row.api_services.0,
            created_at: row.created_at,
        }
    }
}

const TABLE: &str = "product_publish_revisions";

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT product_publish_id, revision, content_hash, spec, api_services, created_at \
             FROM product_publish_revisions WHERE product_publish_id = $1 ",
            $rest
        )
    };
}

/// Inserts the revision. Returns [`crate::StoreError::Taken`] if the number exists.
pub async fn insert_revision(tx: &mut Tx, revision: &PublishRevision) -> Result<()> {
    let sql = "INSERT INTO product_publish_revisions (product_publish_id, revision, content_hash, \
        spec, api_services, created_at) VALUES ($1, $2, $3, $4, $5, $6)";
    let publish = revision.product_publish_id.0;
    later!(
        tx.conn(),
        inserted,
        sql,
        publish,
        revision.revision,
        &revision.content_hash,
        Json(&revision.spec),
        Json(&revision.api_services),
        micros(revision.created_at),
    )
}

fn inserted(done: Result<u64>) -> Result<()> {
    done.map(drop).map_err(|error| match foreign_key(&error) {
        Some(_) => StoreError::MissingReference { field: "product_publish_id" },
        None => error,
    })
}

/// One revision of a publish that the caller may see.
pub async fn get_revision(
    store: &Store,
    id: ProductPublishId,
    revision: i64,
) -> Result<Option<PublishRevision>> {
    get(store.read().await?.conn(), id, revision).await
}

/// Like [`get_revision`], within a transaction.
pub async fn get_revision_in(
    tx: &mut Tx,
    id: ProductPublishId,
    revision: i64,
) -> Result<Option<PublishRevision>> {
    get(tx.conn(), id, revision).await
}

async fn get(
    conn: Conn<'_>,
    id: ProductPublishId,
    revision: i64,
) -> Result<Option<PublishRevision>> {
    let sql = select!("AND revision = $2");
    let rows = fetch!(conn, TABLE, Row, sql, id.0, revision)?;
    Ok(rows.into_iter().next().map(Into::into))
}

/// A revision without its services.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevisionSummary {
    pub revision: i64,
    /// SHA-256 of the content, hexadecimal.
    pub content_hash: String,
    pub spec: ProductPublishSpec,
    pub created_at: DateTime<Utc>,
}

/// Revisions below `before` of a publish that the caller may see, newest first.
pub async fn list_revisions(
    store: &Store,
    id: ProductPublishId,
    before: i64,
    limit: i64,
) -> Result<Vec<RevisionSummary>> {
    #[derive(sqlx::FromRow)]
    struct Columns {
        revision: i64,
        content_hash: String,
        spec: Stored<ProductPublishSpec>,
        created_at: DateTime<Utc>,
    }
    let sql = "SELECT revision, content_hash, spec, created_at FROM product_publish_revisions \
        WHERE product_publish_id = $1 AND revision < $2 ORDER BY revision DESC LIMIT $3";
    let rows = fetch!(store.read().await?.conn(), TABLE, Columns, sql, id.0, before, limit)?;
    let summary = |row: Columns| RevisionSummary {
        revision: row.revision,
        content_hash: row.content_hash,
        spec: row.spec.0,
        created_at: row.created_at,
    };
    Ok(rows.into_iter().map(summary).collect())
}

/// Deletes all but the newest `kept` revisions and those that Envoys serve.
pub async fn prune_revisions(tx: &mut Tx, publish: &ProductPublish, kept: i64) -> Result<u64> {
    if publish.desired_revision <= kept {
        return Ok(0);
    }
    let sql = "DELETE FROM product_publish_revisions \
        WHERE product_publish_id = $1 AND revision <= $2 AND revision <> $3";
    let newest = publish.desired_revision;
    execute!(tx.conn(), sql, publish.id.0, newest.saturating_sub(kept), publish.acked_revision)
}
