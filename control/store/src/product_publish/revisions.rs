//! Table `product_publish_revisions`: written once, never changed.

use chrono::{DateTime, Utc};
use imp_core::ProductPublishId;
use imp_core::product_publish::{FrozenApiService, ProductPublishSpec, PublishRevision};
use sqlx::types::Json;
use uuid::Uuid;

use crate::store::Conn;
use crate::table::{explained, micros};
use crate::{Result, Store, Tx};

#[derive(sqlx::FromRow)]
struct Row {
    product_publish_id: Uuid,
    revision: i64,
    content_hash: String,
    spec: Json<ProductPublishSpec>,
    api_services: Json<Vec<FrozenApiService>>,
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

/// Adds it. A number is given once: [`crate::StoreError::Taken`] otherwise.
pub async fn insert_revision(tx: &mut Tx, revision: &PublishRevision) -> Result<()> {
    let sql = "INSERT INTO product_publish_revisions (product_publish_id, revision, content_hash, \
        spec, api_services, created_at) VALUES ($1, $2, $3, $4, $5, $6)";
    let publish = revision.product_publish_id.0;
    let done = execute!(
        tx.conn(),
        sql,
        publish,
        revision.revision,
        &revision.content_hash,
        Json(&revision.spec),
        Json(&revision.api_services),
        micros(revision.created_at),
    );
    let references = [("product_publish_id", "product_publishes", Some(publish))];
    explained(tx, done, None, &references).await.map(drop)
}

/// One revision of a publish that the caller may see.
pub async fn get_revision(
    store: &Store,
    id: ProductPublishId,
    revision: i64,
) -> Result<Option<PublishRevision>> {
    get(store.read().await?.conn(), id, revision).await
}

/// As [`get_revision`], as the transaction sees it.
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

/// All revisions of a publish that the caller may see, newest first.
pub async fn list_revisions(store: &Store, id: ProductPublishId) -> Result<Vec<PublishRevision>> {
    let sql = select!("ORDER BY revision DESC");
    let rows = fetch!(store.read().await?.conn(), TABLE, Row, sql, id.0)?;
    Ok(rows.into_iter().map(Into::into).collect())
}
