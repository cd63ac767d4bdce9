//! What every stored object carries.

use chrono::{DateTime, SubsecRound, Utc};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use utoipa::ToSchema;

/// Times and the optimistic lock of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Meta {
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
    /// Counts the changes; served as `ETag`, asked for by `If-Match`.
    pub version: i64,
}

impl Meta {
    /// The first version. Times are cut to microseconds, which is what PostgreSQL keeps, so that
    /// the object returned by POST equals the one that GET returns.
    pub fn new(now: DateTime<Utc>) -> Self {
        let now = now.trunc_subsecs(6);
        Self { created_at: now, updated_at: now, version: 1 }
    }

    /// The next version.
    pub fn touch(&mut self, now: DateTime<Utc>) {
        self.updated_at = now.trunc_subsecs(6);
        self.version += 1;
    }
}

/// A life cycle refused to go from one state to another: 409 `invalid_transition`.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("a {kind} that is {from} cannot become {to}")]
pub struct Transition {
    /// The entity, in words.
    pub kind: &'static str,
    /// Its state now.
    pub from: &'static str,
    /// The state that was asked for.
    pub to: &'static str,
}
