//! The results of a round.

use crate::report::Times;

/// One value of a round.
#[derive(Clone, Debug)]
pub struct Reading {
    pub what: String,
    pub unit: &'static str,
    pub value: f64,
    /// Whether our subject has failed if this is not 0. Faults are summed over all rounds; for
    /// everything else the median counts.
    pub fault: bool,
}

/// All values of a round, in display order.
#[derive(Clone, Debug, Default)]
pub struct Readings {
    pub values: Vec<Reading>,
    /// Milliseconds from a change until the last good client had it, if measured.
    pub delays: Times,
}

impl Reading {
    /// A value.
    pub fn of(what: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self { what: what.into(), unit, value, fault: false }
    }

    /// A count of something that must not happen.
    pub fn fault(what: impl Into<String>, count: u64) -> Self {
        Self { what: what.into(), unit: "", value: count as f64, fault: true }
    }
}

impl Readings {
    /// Formats it on a line.
    pub fn summary(&self) -> String {
        let told = |r: &Reading| format!("{} {:.3} {}", r.what, r.value, r.unit);
        let first = self.values.first().map(told);
        let p50 = format!("p50 {:.2} ms", self.delays.percentile(0.5));
        let p50 = (!self.delays.0.is_empty()).then_some(p50);
        first.into_iter().chain(p50).collect::<Vec<String>>().join(", ")
    }
}

impl From<Vec<Reading>> for Readings {
    fn from(values: Vec<Reading>) -> Self {
        Self { values, delays: Times::default() }
    }
}
