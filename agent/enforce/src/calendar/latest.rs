//! The window of the latest call, so that the rules of a time zone are gone through once for each window.

use std::sync::atomic::{AtomicU64, Ordering};

/// Bits of a length in seconds: more than a year. The others are the start, until the year 4300.
const LENGTH_BITS: u32 = 26;

/// Start and length in one number; 0: none. Says nothing that the rules do not, so all are equal.
#[derive(Debug, Default)]
pub(super) struct Latest(AtomicU64);

impl Latest {
    /// Start and end of the window, if this instant is in it.
    pub(super) fn holding(&self, at: i64) -> Option<(i64, i64)> {
        let packed = self.0.load(Ordering::Relaxed);
        let start = (packed >> LENGTH_BITS).cast_signed();
        let end = start + (packed & ((1 << LENGTH_BITS) - 1)).cast_signed();
        (start <= at && at < end).then_some((start, end))
    }

    pub(super) fn set(&self, (start, end): (i64, i64)) {
        let (Ok(from), Ok(length)) = (u64::try_from(start), u64::try_from(end - start)) else {
            return;
        };
        if from < 1 << (64 - LENGTH_BITS) && length < 1 << LENGTH_BITS {
            self.0.store(from << LENGTH_BITS | length, Ordering::Relaxed);
        }
    }
}

impl Clone for Latest {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl PartialEq for Latest {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Latest {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_holds_its_instants_and_no_others() {
        let latest = Latest::default();
        assert_eq!(latest.holding(0), None);
        let year = (1_798_761_600, 1_798_761_600 + 366 * 86_400);
        latest.set(year);
        let held = [year.0 - 1, year.0, year.1 - 1, year.1].map(|at| latest.holding(at));
        assert_eq!(held, [None, Some(year), Some(year), None]);
        for none in [(-1, 5), (5, 4), (0, 1 << LENGTH_BITS), (1 << 38, (1 << 38) + 1)] {
            latest.set(none);
            assert_eq!(latest.holding(year.0), Some(year), "{none:?}");
            assert_eq!(latest.holding(none.0), None);
        }
    }
}
