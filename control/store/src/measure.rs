//! Durations of the database's steps, for `GET /metrics`.

use std::time::Instant;

/// Records a step's duration. `begin` includes the wait for a connection and for other writers.
pub(crate) fn measure(step: &'static str, started: Instant) {
    let seconds = started.elapsed().as_secs_f64();
    metrics::histogram!("imp_database_seconds", "step" => step).record(seconds);
}
