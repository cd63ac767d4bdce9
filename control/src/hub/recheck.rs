//! Compares publishes whose rows changed with earlier reports, a moment later; and publishes that
//! wait for Envoys when no report came for too long.
//!
//! Usually a report follows each change and there is nothing to do. But an agent sends no report
//! when a publish returns to an earlier state between two reports (suspended and resumed), and a
//! replica may read a report before the row that it is about.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use imp_core::{ClusterId, ProductPublishId};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::connected_agents::ConnectedAgents;
use super::report_writer::{ReportQueue, Work};
use crate::state::Clock;

/// Gives agents time to send a report of their own.
const DELAY: Duration = Duration::from_secs(1);

/// The publishes to check, and when.
#[derive(Debug, Default)]
pub struct Recheck {
    due: Mutex<HashMap<ProductPublishId, (ClusterId, Instant)>>,
    /// Clusters whose refused gateways are.
    gateways: Mutex<HashMap<ClusterId, Instant>>,
}

impl Recheck {
    pub fn soon(&self, cluster: ClusterId, publish: ProductPublishId) {
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        due.insert(publish, (cluster, Instant::now() + DELAY));
    }

    /// A publish came to a cluster whose agents refuse gateways.
    pub fn gateways_soon(&self, cluster: ClusterId) {
        let mut due = self.gateways.lock().unwrap_or_else(PoisonError::into_inner);
        due.entry(cluster).or_insert_with(|| Instant::now() + DELAY);
    }

    /// Until cancelled.
    pub async fn run(
        &self,
        connected: &ConnectedAgents,
        clock: &Clock,
        queue: ReportQueue,
        cancel: CancellationToken,
    ) {
        loop {
            tokio::select! {
                () = cancel.cancelled() => return,
                () = tokio::time::sleep(DELAY / 4) => {}
            }
            // The writer logs what goes wrong.
            for cluster in self.take_gateways(Instant::now()) {
                let _written = queue.write(Work::Gateways(cluster)).await;
            }
            let due = self.take(Instant::now()).into_iter();
            for (cluster, publishes) in due.chain(connected.overdue(clock.now())) {
                // The writer logs errors.
                let _written = queue.write(Work::Statuses(cluster, publishes)).await;
            }
        }
    }

    fn take_gateways(&self, now: Instant) -> Vec<ClusterId> {
        let mut due = self.gateways.lock().unwrap_or_else(PoisonError::into_inner);
        due.extract_if(|_, at| *at <= now).map(|(cluster, _)| cluster).collect()
    }

    fn take(&self, now: Instant) -> HashMap<ClusterId, Vec<ProductPublishId>> {
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        let mut now_due: HashMap<ClusterId, Vec<ProductPublishId>> = HashMap::new();
        due.retain(|publish, (cluster, at)| {
            let waits = *at > now;
            if !waits {
                now_due.entry(*cluster).or_default().push(*publish);
            }
            waits
        });
        now_due
    }
}
