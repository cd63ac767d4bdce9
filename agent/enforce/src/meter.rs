//! The usage of one holder of a limit.

use crate::quota::Count;
use crate::rate;

/// The usage of one holder.
#[derive(Debug)]
pub(crate) enum Meter {
    Rate(rate::Count),
    Quota(Count),
}

impl Meter {
    /// Stores its count, also if there was no space before.
    pub(crate) fn keep(&self) {
        match self {
            Self::Rate(count) => count.keep(),
            Self::Quota(count) => count.keep(),
        }
    }
}
