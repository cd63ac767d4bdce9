//! Metrics go to the `metrics` facade; `GET /metrics` shows them.

use std::sync::OnceLock;
use std::time::Duration;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio_util::sync::CancellationToken;

const SUM_UP_EVERY: Duration = Duration::from_secs(5);

/// One per process, however many control planes a test starts in it.
static RECORDER: OnceLock<Option<PrometheusHandle>> = OnceLock::new();

/// Installs the recorder. If the embedding program has one, that one stays.
pub fn install() {
    RECORDER.get_or_init(|| PrometheusBuilder::new().install_recorder().ok());
}

/// Aggregates recent histogram samples; without it, histograms that nobody scrapes grow.
pub fn upkeep() {
    if let Some(handle) = RECORDER.get().and_then(Option::as_ref) {
        handle.run_upkeep();
    }
}

/// Aggregates periodically until cancelled. Each process has its own metrics, so this is no job.
pub async fn sum_up(cancel: CancellationToken) {
    loop {
        upkeep();
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(SUM_UP_EVERY) => {}
        }
    }
}

/// Returns the metrics in Prometheus' text format; empty if another recorder is installed.
pub fn text() -> String {
    upkeep();
    RECORDER.get().and_then(Option::as_ref).map(PrometheusHandle::render).unwrap_or_default()
}
