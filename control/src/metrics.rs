//! Metrics go to the `metrics` facade; `GET /metrics` shows them.

use std::sync::OnceLock;
use std::time::Duration;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio_util::sync::CancellationToken;

const SUM_UP_EVERY: Duration = Duration::from_secs(5);

/// One per process, however many control planes a test starts in it.
static RECORDER: OnceLock<Option<PrometheusHandle>> = OnceLock::new();

/// Counts from now on. Where the embedding program has a recorder of its own, that one stays.
pub fn install() {
    RECORDER.get_or_init(|| PrometheusBuilder::new().install_recorder().ok());
}

/// Sums up what was counted since the last time. Without it, histograms that nobody looks at grow.
pub fn upkeep() {
    if let Some(handle) = RECORDER.get().and_then(Option::as_ref) {
        handle.run_upkeep();
    }
}

/// Sums up now and then, until cancelled. Each process has its own metrics, so this is no job.
pub async fn sum_up(cancel: CancellationToken) {
    loop {
        upkeep();
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(SUM_UP_EVERY) => {}
        }
    }
}

/// In Prometheus' text format; empty when another recorder is in charge.
pub fn text() -> String {
    upkeep();
    RECORDER.get().and_then(Option::as_ref).map(PrometheusHandle::render).unwrap_or_default()
}
