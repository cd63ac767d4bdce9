//! What a round says.

use crate::report::Times;

/// One value of a round.
#[derive(Clone, Debug)]
pub struct Reading {
    /// What it is.
    pub what: String,
    /// Of what.
    pub unit: &'static str,
    /// How much.
    pub value: f64,
    /// Whether our subject has failed if this is not 0. Faults of all rounds are added up; of
    /// everything else, the median counts.
    pub fault: bool,
}

/// All values of a round, in the order in which they are shown.
#[derive(Clone, Debug, Default)]
pub struct Readings {
    /// One by one.
    pub values: Vec<Reading>,
    /// From a change until the last good client had it, in milliseconds, if that was measured.
    pub delays: Times,
}

impl Reading {
    /// So much of something.
    pub fn of(what: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self { what: what.into(), unit, value, fault: false }
    }

    /// A count of what must not happen.
    pub fn fault(what: impl Into<String>, count: u64) -> Self {
        Self { what: what.into(), unit: "", value: count as f64, fault: true }
    }
}

impl Readings {
    /// In a line.
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
