//! `rate_limit`: limits calls in any window of a length, over all callers.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::stored::words;
use crate::{Check, Violations};

/// `{"requests": 1000, "per": "minute"}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// At least 1.
    #[schema(example = 1000)]
    pub requests: u64,
    /// The length of the window.
    pub per: Per,
}

words! {
    /// The windows of a rate.
    pub enum Per {
        /// 1 s.
        Second = "second",
        /// 60 s.
        Minute = "minute",
        /// 3,600 s.
        Hour = "hour",
    }
}

impl Per {
    /// The length in seconds; 0 if this release does not know it.
    pub fn seconds(self) -> u64 {
        match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 3600,
            Self::Newer(_) => 0,
        }
    }
}

impl Check for RateLimit {
    fn check(&self, v: &mut Violations) {
        if !(1..=1_000_000_000).contains(&self.requests) {
            v.add("requests", "out_of_range", "1 to 1,000,000,000");
        }
    }
}
