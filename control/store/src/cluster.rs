//! Table `clusters`. Clusters belong to the operator; every tenant may see them, to publish there.

use std::collections::BTreeMap;

use imp_core::ClusterId;
use imp_core::cluster::{Cluster, ClusterSpec};
use imp_core::port::PortRange;
use imp_core::scope::TenantScope;
use sqlx::types::Json;
use uuid::Uuid;

use crate::sql::{Conditions, Stored};
use crate::table::columns::columns;
use crate::table::{Table, object};

#[derive(Clone, Debug, Default)]
pub struct ClusterFilter {
    pub name: Option<String>,
    pub region: Option<String>,
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

columns! {
    Cluster as it;
    fixed { id: Uuid = it.id.0, }
    changing {
        name: String = &it.spec.name,
        region: String = &it.spec.region,
        cloud_provider: String = &it.spec.cloud_provider,
        labels: Stored<BTreeMap<String, String>> = Json(&it.spec.labels),
        port_ranges: Stored<Vec<PortRange>> = Json(&it.spec.port_ranges),
    }
}

impl Table for Cluster {
    fn scope(_: &TenantScope, _: &mut Conditions<'_>) {}

    fn filter<'a>(filter: &'a ClusterFilter, conditions: &mut Conditions<'a>) {
        conditions.text("name =", filter.name.as_deref());
        conditions.text("region =", filter.region.as_deref());
    }
}
