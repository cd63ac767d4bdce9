//! Clusters.

use imp_core::cluster::{Cluster, ClusterSpec};
use imp_core::scope::TenantScope;
use imp_core::{ClusterId, Meta};

use crate::flows::ports;
use crate::operation::{Operation, Transaction};
use crate::refusal::Refusal;

pub async fn create(
    operation: &Operation,
    scope: TenantScope,
    spec: ClusterSpec,
) -> Result<Cluster, Refusal> {
    let tx = Transaction::begin(operation, scope).await?;
    let cluster = Cluster { id: ClusterId::new(), spec, meta: Meta::new(tx.now) };
    super::create(tx, cluster).await
}

/// Changes the cluster. Its port ranges must still contain every port in use.
pub async fn edit(
    tx: &mut Transaction<'_>,
    current: Cluster,
    spec: ClusterSpec,
) -> Result<Cluster, Refusal> {
    let next = Cluster { spec, ..current };
    ports::refuse_to_close(tx, &next).await?;
    tx.save(next).await
}
