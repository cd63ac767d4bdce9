//! Clusters.

use imp_core::cluster::{Cluster, ClusterSpec};
use imp_core::scope::TenantScope;
use imp_core::{ClusterId, Meta};
use imp_store::cluster as table;
use imp_store::outbox::Subject;

use crate::flows::{finish_create, ports};
use crate::operation::{Operation, Transaction};
use crate::refusal::Refusal;

pub async fn create(
    operation: &Operation,
    scope: TenantScope,
    spec: ClusterSpec,
) -> Result<Cluster, Refusal> {
    let mut tx = Transaction::begin(operation, scope).await?;
    let cluster = Cluster { id: ClusterId::new(), spec, meta: Meta::new(tx.now) };
    table::insert(&mut tx, &cluster).await?;
    tx.note(Subject::Cluster(cluster.id)).await?;
    finish_create::<Cluster>(tx, cluster.id).await?;
    Ok(cluster)
}

/// Its port ranges still hold every port that is listened on.
pub async fn edit(
    tx: &mut Transaction<'_>,
    current: Cluster,
    spec: ClusterSpec,
) -> Result<Cluster, Refusal> {
    let expected = current.meta.version;
    let mut next = Cluster { spec, ..current };
    ports::refuse_to_close(tx, &next).await?;
    next.meta.touch(tx.now);
    table::update(tx, &next, expected).await?;
    tx.note(Subject::Cluster(next.id)).await?;
    Ok(next)
}

pub async fn delete(tx: &mut Transaction<'_>, cluster: Cluster) -> Result<(), Refusal> {
    tx.delete::<Cluster>(cluster.id).await?;
    tx.note(Subject::Cluster(cluster.id)).await
}
