//! The time of day. Nothing else asks for it: what depends on it takes a time or a [`Clock`].

use std::sync::Arc;

use chrono::{DateTime, Utc};

/// The time of day.
#[expect(clippy::disallowed_methods, reason = "the one place that asks the system")]
pub fn now() -> DateTime<Utc> {
    Utc::now()
}

/// Tells the time; tests set their own.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> DateTime<Utc> + Send + Sync>);

impl Clock {
    /// The system's.
    pub fn system() -> Self {
        Self::from_fn(now)
    }

    /// One that says what `now` does.
    pub fn from_fn(now: impl Fn() -> DateTime<Utc> + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// The time.
    pub fn now(&self) -> DateTime<Utc> {
        (self.0)()
    }
}
