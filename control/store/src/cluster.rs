//! Table `clusters`. Clusters are the operator's; every tenant may see where it can publish.

use std::collections::BTreeMap;

use imp_core::ClusterId;
use imp_core::cluster::{Cluster, ClusterSpec};
use imp_core::port::PortRange;
use imp_core::scope::TenantScope;
use sqlx::types::Json;
use uuid::Uuid;

use crate::sql::{Conditions, Stored};
use crate::table::{MetaRow, Table, matched, object};
use crate::{Result, Tx};

/// Which clusters to list.
#[derive(Clone, Debug, Default)]
pub struct ClusterFilter {
    /// Exactly this name.
    pub name: Option<String>,
    /// Exactly this region.
    pub region: Option<String>,
}

#[derive(sqlx::FromRow)]
pub(crate) struct Row {
    id: Uuid,
    name: String,
    region: String,
    cloud_provider: String,
    labels: Stored<BTreeMap<String, String>>,
    port_ranges: Stored<Vec<PortRange>>,
    #[sqlx(flatten)]
    meta: MetaRow,
}

impl From<Row> for Cluster {
    fn from(row: Row) -> Self {
        Self {
            id: row.id.into(),
            spec: ClusterSpec {
                name: row.name,
                region: row.region,
                cloud_provider: row.cloud_provider,
                labels: row.labels.0,
                port_ranges: row.port_ranges.0,
            },
            meta: row.meta.into(),
        }
    }
}

object!(Cluster, ClusterId, ClusterFilter, "clusters");

impl Table for Cluster {
    type Row = Row;

    const COLUMNS: &'static str = "id, name, region, cloud_provider, labels, port_ranges, \
        version, created_at, updated_at";

    fn scope(_: &TenantScope, _: &mut Conditions<'_>) {}

    fn filter<'a>(filter: &'a ClusterFilter, conditions: &mut Conditions<'a>) {
        conditions.text("name =", filter.name.as_deref());
        conditions.text("region =", filter.region.as_deref());
    }
}

/// Adds it.
pub async fn insert(tx: &mut Tx, cluster: &Cluster) -> Result<()> {
    let sql = "INSERT INTO clusters (id, name, region, cloud_provider, labels, version, \
        created_at, updated_at, port_ranges) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
    save(tx, sql, cluster, 0).await.map(drop)
}

/// Replaces it if it still is at `expected_version`.
pub async fn update(tx: &mut Tx, cluster: &Cluster, expected_version: i64) -> Result<()> {
    let sql = "UPDATE clusters SET name = $2, region = $3, cloud_provider = $4, labels = $5, \
        version = $6, updated_at = $8, port_ranges = $9 WHERE id = $1 AND version = $10";
    let rows = save(tx, sql, cluster, expected_version).await?;
    matched::<Cluster>(tx, rows, cluster.id.into()).await
}

async fn save(tx: &mut Tx, sql: &'static str, cluster: &Cluster, expected: i64) -> Result<u64> {
    let Cluster { id, spec, meta } = cluster;
    execute!(
        tx.conn(),
        sql,
        id.0,
        &spec.name,
        &spec.region,
        &spec.cloud_provider,
        Json(&spec.labels),
        meta.version,
        meta.created_at,
        meta.updated_at,
        Json(&spec.port_ranges),
        expected,
    )
}
