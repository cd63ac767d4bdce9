//! Panics that were caught. Each is one refused call, and a fault of this module to mend.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;

use crate::envoy;
use crate::state::State;

/// Runs what Envoy or a thread calls; a panic gives `otherwise`.
pub(crate) fn guard<R>(otherwise: R, hook: impl FnOnce() -> R) -> R {
    catch_unwind(AssertUnwindSafe(hook)).unwrap_or(otherwise)
}

/// Counts one and says it, the first of them and then each time the number doubles.
pub(crate) fn count(state: &State) {
    let number = state.faults.fetch_add(1, Ordering::Relaxed) + 1;
    if number.is_power_of_two() {
        envoy::error(&format!("{number} calls were refused because this module failed"));
    }
}
