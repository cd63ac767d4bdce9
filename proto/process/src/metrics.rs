//! Metrics go to the `metrics` facade; [`text`] shows them in Prometheus' text format.

use std::sync::OnceLock;
use std::time::Duration;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

/// The buckets of all histograms, in seconds. With them a histogram has a fixed size, and those of
/// several processes can be added up. Without, each keeps sketches of some 60 KB.
const SECONDS: [f64; 16] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
    60.0,
];

const SUM_UP_EVERY: Duration = Duration::from_secs(5);

/// One per process, however many control planes or agents a test starts in it.
static RECORDER: OnceLock<Option<PrometheusHandle>> = OnceLock::new();

/// Installs the recorder. If the embedding program has one, that one stays.
pub fn install() {
    RECORDER.get_or_init(|| {
        let builder = PrometheusBuilder::new().set_buckets(&SECONDS).ok()?;
        builder.install_recorder().ok()
    });
}

/// Sums up samples of histograms until `stopped`; without it those that nobody scrapes grow.
pub async fn sum_up(stopped: impl Future<Output = ()>) {
    let sums_up = async {
        loop {
            upkeep();
            tokio::time::sleep(SUM_UP_EVERY).await;
        }
    };
    tokio::select! {
        () = stopped => {}
        () = sums_up => {}
    }
}

/// Returns the metrics; empty if another recorder is installed.
pub fn text() -> String {
    upkeep();
    recorder().map(PrometheusHandle::render).unwrap_or_default()
}

fn upkeep() {
    if let Some(recorder) = recorder() {
        recorder.run_upkeep();
    }
}

fn recorder() -> Option<&'static PrometheusHandle> {
    RECORDER.get()?.as_ref()
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_histogram_has_buckets_that_can_be_added_up() {
        super::install();
        metrics::histogram!("a_test_seconds").record(0.003);
        let text = super::text();
        for line in [
            "# TYPE a_test_seconds histogram",
            "a_test_seconds_bucket{le=\"0.0025\"} 0",
            "a_test_seconds_bucket{le=\"0.005\"} 1",
            "a_test_seconds_count 1",
        ] {
            assert!(text.lines().any(|has| has == line), "{line} in {text}");
        }
    }
}
