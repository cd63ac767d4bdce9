//! Data that every stored object has.

use chrono::{DateTime, SubsecRound, Utc};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use utoipa::ToSchema;

/// Times and version of an object, for optimistic locking.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Meta {
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
    /// Counts the changes; sent as `ETag`, checked by `If-Match`.
    pub version: i64,
}

impl Meta {
    /// The first version. Times are truncated to microseconds, PostgreSQL's precision, so that POST
    /// and GET return the same object.
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

/// An illegal transition of a life cycle: 409 `invalid_transition`.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("a {kind} that is {from} cannot become {to}")]
pub struct Transition {
    /// The kind of entity, in words.
    pub kind: &'static str,
    /// The current state.
    pub from: &'static str,
    /// The requested state.
    pub to: &'static str,
}
