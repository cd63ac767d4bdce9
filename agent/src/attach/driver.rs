//! Keeps what the plans say in the API server, and tells the fleet which hosts lead to its gateways.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::{StreamExt as _, pin_mut};
use imp_kube::{Change, Cluster, Fault, Kind, kinds};
use imp_translate::envoy_gateway::GATEWAY_LABEL;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Attaching;
use super::attached::Attached;
use super::kept::Kept;
use super::seen::{Name, Seen, name};
use crate::fleet::{Fleet, Led};

/// What is watched, and by which labels.
const WATCHED: [(&Kind, &str); 4] = [
    (&kinds::GATEWAY, GATEWAY_LABEL),
    (&kinds::ENVOY_PATCH_POLICY, GATEWAY_LABEL),
    (&kinds::HTTP_ROUTE, ""),
    (&kinds::GRPC_ROUTE, ""),
];

/// What comes within this time is written together.
const GATHER: Duration = Duration::from_millis(10);

/// A change of a kind, in one namespace or in all.
type Told = (&'static Kind, Option<String>, Result<Change, Fault>);

/// Runs until cancelled. Faults of the API server are said once and tried again, later each time.
pub(super) async fn run(
    cluster: Cluster,
    attaching: Attaching,
    fleet: Fleet,
    cancel: CancellationToken,
) {
    let kept = Kept::open(&attaching.state_dir);
    for (gateway, hosts) in kept.gateways() {
        fleet.set_led(gateway, Some(Led { hosts: hosts.clone(), ..Led::default() }));
    }
    let mut driver = Driver::new(cluster, attaching, fleet, kept);
    tokio::select! {
        () = cancel.cancelled() => {}
        () = driver.run() => {}
    }
}

pub(super) struct Driver {
    pub(super) cluster: Cluster,
    pub(super) attaching: Attaching,
    pub(super) fleet: Fleet,
    pub(super) seen: Seen,
    pub(super) kept: Kept,
    attached: BTreeMap<Name, Attached>,
    /// What the watch of a kind last failed with.
    faults: BTreeMap<&'static str, String>,
}

impl Driver {
    fn new(cluster: Cluster, attaching: Attaching, fleet: Fleet, kept: Kept) -> Self {
        Self {
            cluster,
            attaching,
            fleet,
            kept,
            seen: Seen::default(),
            attached: BTreeMap::new(),
            faults: BTreeMap::new(),
        }
    }

    async fn run(&mut self) {
        let mut queue = self.watch();
        let mut news = self.fleet.host_news();
        let mut batch = Vec::new();
        loop {
            let retry = self.attached.values().filter_map(Attached::retry_at).min();
            let retry = retry.unwrap_or_else(|| Instant::now() + Duration::from_secs(60));
            tokio::select! {
                count = queue.recv_many(&mut batch, 1024) => if count == 0 { return },
                changed = news.changed() => if changed.is_err() { return },
                () = tokio::time::sleep_until(retry) => {}
            }
            tokio::time::sleep(GATHER).await;
            while let Ok(told) = queue.try_recv() {
                batch.push(told);
            }
            news.mark_unchanged();
            batch.drain(..).for_each(|told| self.take(told));
            // Before all routes are known nobody can say which hosts are free.
            if self.seen.is_complete(&WATCHED.map(|(kind, _)| kind.kind)) {
                self.reconcile().await;
            }
        }
    }

    /// Follows everything that is watched.
    fn watch(&self) -> mpsc::Receiver<Told> {
        let (sender, queue) = mpsc::channel(1024);
        let namespaces: Vec<Option<String>> = match self.attaching.namespaces.as_slice() {
            [] => vec![None],
            some => some.iter().cloned().map(Some).collect(),
        };
        for (kind, labels) in WATCHED {
            for namespace in &namespaces {
                let changes = self.cluster.watch(kind, namespace.as_deref(), labels);
                let (sender, namespace) = (sender.clone(), namespace.clone());
                tokio::spawn(async move {
                    pin_mut!(changes);
                    while let Some(change) = changes.next().await {
                        if sender.send((kind, namespace.clone(), change)).await.is_err() {
                            return;
                        }
                    }
                });
            }
        }
        queue
    }

    fn take(&mut self, (kind, namespace, told): Told) {
        match told {
            Ok(change) => {
                if self.faults.remove(kind.kind).is_some() {
                    tracing::info!(%kind, "the API server answers again");
                    self.attached.values_mut().for_each(Attached::try_now);
                }
                self.seen.take(kind.kind, namespace.as_deref(), &change);
                self.news(kind, &change);
            }
            Err(fault) => {
                if matches!(fault, Fault::KindMissing(_)) {
                    self.seen.has_none(kind.kind);
                }
                let words = fault.to_string();
                if self.faults.insert(kind.kind, words.clone()).as_ref() != Some(&words) {
                    tracing::warn!(%kind, fault = words, "cannot watch; tried again, and all is served as before");
                }
            }
        }
        metrics::gauge!("imp_kube_failing").set(if self.faults.is_empty() { 0.0 } else { 1.0 });
    }

    /// Wakes what waits for a Gateway or its policy.
    fn news(&mut self, kind: &Kind, change: &Change) {
        let (Change::Listed(object) | Change::Applied(object) | Change::Deleted(object)) = change
        else {
            return;
        };
        let Some((namespace, name)) = name(object) else { return };
        let gateway = match kind.kind {
            "Gateway" => Some(name),
            "EnvoyPatchPolicy" => name.strip_prefix("imp-").map(str::to_owned),
            _ => None,
        };
        let attached = gateway.and_then(|gateway| self.attached.get_mut(&(namespace, gateway)));
        attached.into_iter().for_each(Attached::has_news);
    }

    async fn reconcile(&mut self) {
        for name in self.detached() {
            let mut attached = self.attached.remove(&name).unwrap_or_default();
            if attached.is_due() {
                match attached.detach(self, &name).await {
                    Ok(()) => continue,
                    Err(trouble) => attached.failed(&name, &trouble),
                }
            }
            self.attached.insert(name, attached);
        }
        for name in self.seen.gateways.keys().cloned().collect::<Vec<_>>() {
            let mut attached = self.attached.remove(&name).unwrap_or_default();
            if attached.is_due() {
                match attached.settle(self, &name).await {
                    Ok(()) => attached.succeeded(&name),
                    Err(fault) => attached.failed(&name, &fault),
                }
            }
            self.attached.insert(name, attached);
        }
        let count = self.attached.values().filter(|attached| attached.is_written()).count();
        metrics::gauge!("imp_kube_attached").set(u32::try_from(count).unwrap_or(u32::MAX));
    }

    /// Gateways without the label, or gone, of which something of ours is left.
    fn detached(&self) -> BTreeSet<Name> {
        let of_policy = |(namespace, object): &Name| {
            Some((namespace.clone(), object.strip_prefix("imp-")?.to_owned()))
        };
        let left = self.seen.policies.keys().filter_map(of_policy);
        let left = left.chain(self.attached.keys().cloned());
        left.filter(|name| !self.seen.gateways.contains_key(name)).collect()
    }

    /// No host leads to the gateway.
    pub(super) fn leads_no_more(&mut self, gateway: &str) {
        self.kept.set(gateway, &BTreeSet::new());
        self.fleet.set_led(gateway, None);
    }

    /// The gateway of ours belongs to the oldest Gateway that names it.
    pub(super) fn is_first(&self, name: &Name, ours: &str) -> bool {
        let same = self.seen.gateways.iter().filter(|(_, gateway)| gateway.ours == ours);
        let first = same.min_by_key(|(name, gateway)| (&gateway.created, *name));
        first.is_none_or(|(first, _)| first == name)
    }
}

#[cfg(test)]
mod tests;
