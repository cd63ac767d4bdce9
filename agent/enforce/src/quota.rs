//! A quota: a number of calls per calendar day, week or month. Window and count share one atomic
//! number, so that the count of an old window never leaks into a new one.

use std::sync::atomic::{AtomicU64, Ordering};

use chrono::{DateTime, Datelike, Days, Months, NaiveDate, TimeDelta, Utc};

use crate::kept::Kept;
use crate::ledger::Pair;

/// A calendar window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Calendar {
    pub(crate) unit: Unit,
    /// Where the day begins, in minutes ahead of UTC.
    pub(crate) offset_minutes: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Unit {
    /// From 00:00.
    Day,
    /// From 00:00 of Monday.
    Week,
    /// From 00:00 of the first.
    Month,
}

/// The largest offset on earth. More would mean another day.
const FURTHEST: i32 = 14 * 60;

const COUNT_BITS: u32 = 40;
const COUNT_MASK: u64 = (1 << COUNT_BITS) - 1;

impl Calendar {
    pub(crate) fn new(unit: Unit, offset_minutes: i32) -> Self {
        Self { unit, offset_minutes: offset_minutes.clamp(-FURTHEST, FURTHEST) }
    }

    /// The local time where the window is counted.
    fn local(self, now: DateTime<Utc>) -> DateTime<Utc> {
        let offset = TimeDelta::minutes(i64::from(self.offset_minutes));
        now.checked_add_signed(offset).unwrap_or(now)
    }

    /// The number of the current window; increases by one per window.
    pub(crate) fn ordinal(self, now: DateTime<Utc>) -> u64 {
        let now = self.local(now);
        let day = u64::try_from(now.timestamp().div_euclid(86_400)).unwrap_or(0);
        match self.unit {
            Unit::Day => day,
            // The epoch was a Thursday.
            Unit::Week => (day + 3) / 7,
            Unit::Month => u64::try_from(now.year()).unwrap_or(0) * 12 + u64::from(now.month0()),
        }
    }

    /// Seconds from the window's start to its end.
    pub(crate) fn seconds(self, now: DateTime<Utc>) -> u64 {
        let Some((start, end)) = self.bounds(self.local(now)) else { return 86_400 };
        u64::try_from((end - start).num_seconds()).unwrap_or(86_400)
    }

    /// Whole seconds until the window ends, at least 1.
    pub(crate) fn ends_in(self, now: DateTime<Utc>) -> u64 {
        let now = self.local(now);
        let Some((_, end)) = self.bounds(now) else { return 1 };
        let left = end.and_time(chrono::NaiveTime::MIN).and_utc() - now;
        u64::try_from(left.num_milliseconds()).unwrap_or(0).div_ceil(1000).max(1)
    }

    fn bounds(self, now: DateTime<Utc>) -> Option<(NaiveDate, NaiveDate)> {
        let today = now.date_naive();
        match self.unit {
            Unit::Day => Some((today, today.succ_opt()?)),
            Unit::Week => {
                let since_monday = u64::from(today.weekday().num_days_from_monday());
                let monday = today.checked_sub_days(Days::new(since_monday))?;
                Some((monday, monday.checked_add_days(Days::new(7))?))
            }
            Unit::Month => {
                let first = today.with_day(1)?;
                Some((first, first.checked_add_months(Months::new(1))?))
            }
        }
    }
}

/// The state of one quota for one holder.
#[derive(Debug, Default)]
pub(crate) struct Count {
    state: AtomicU64,
    kept: Kept,
}

/// Whether a stored number is of a window that has ended.
pub(crate) fn is_past(number: u64, calendar: Calendar, now: DateTime<Utc>) -> bool {
    number >> COUNT_BITS < calendar.ordinal(now)
}

fn pack(window: u64, used: u64) -> u64 {
    (window << COUNT_BITS) | used.min(COUNT_MASK)
}

/// The window that a call counts in, and its count. A call that read the clock just before a
/// window's end may arrive after the first one of the next: it counts there, because otherwise it
/// would reset that count. Any other window is past, or the clock was corrected.
fn counted(state: u64, window: u64) -> (u64, u64) {
    let held = state >> COUNT_BITS;
    if held == window || held == window + 1 { (held, state & COUNT_MASK) } else { (window, 0) }
}

impl Count {
    /// Continues a stored count.
    pub(crate) fn kept((kept, [number, _]): (Kept, Pair)) -> Self {
        Self { state: AtomicU64::new(number), kept }
    }

    /// Stores the count, also if there was no space before.
    pub(crate) fn keep(&self) {
        self.kept.turn().keep_at_last(|| [self.state.load(Ordering::Acquire), 0]);
    }

    /// Restores an earlier count; must come before the first call.
    pub(crate) fn resume(&self, window: u64, used: u64) {
        let turn = self.kept.turn();
        self.state.store(pack(window, used), Ordering::Release);
        turn.keep(|| [pack(window, used), 0]);
    }

    /// The calls so far in a window.
    pub(crate) fn used(&self, window: u64) -> u64 {
        counted(self.state.load(Ordering::Acquire), window).1
    }

    /// Counts a call if fewer than `amount` are used. Returns the count, also on failure.
    pub(crate) fn take(&self, window: u64, amount: u64) -> Result<u64, u64> {
        let turn = self.kept.turn();
        let mut state = self.state.load(Ordering::Acquire);
        loop {
            let (window, before) = counted(state, window);
            if before >= amount.min(COUNT_MASK) {
                return Err(before);
            }
            let next = pack(window, before + 1);
            match self.state.compare_exchange_weak(state, next, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => {
                    turn.keep(|| [next, 0]);
                    return Ok(before + 1);
                }
                Err(newer) => state = newer,
            }
        }
    }

    /// Reverts a call that was just counted.
    pub(crate) fn give_back(&self, window: u64) {
        let one_less = |state: u64| match counted(state, window) {
            (_, 0) => None,
            (window, used) => Some(pack(window, used - 1)),
        };
        let turn = self.kept.turn();
        // An error means that the window has ended, so there is nothing to give back to.
        let given = self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_less);
        if let Some(state) = given.ok().and_then(one_less) {
            turn.keep(|| [state, 0]);
        }
    }

    /// Whether nothing is counted in this window.
    pub(crate) fn is_idle(&self, window: u64) -> bool {
        self.used(window) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn windows_follow_the_calendar() {
        let [day, week, month] =
            [Unit::Day, Unit::Week, Unit::Month].map(|unit| Calendar::new(unit, 0));
        let leap = at("2028-02-29T23:59:59.5Z");
        assert_eq!(month.seconds(leap), 29 * 86_400);
        assert_eq!(month.ends_in(leap), 1);
        assert_eq!(day.ends_in(at("2028-02-29T00:00:00Z")), 86_400);
        let next = at("2028-03-01T00:00:00Z");
        assert_eq!(month.ordinal(next), month.ordinal(leap) + 1);
        assert_eq!(day.ordinal(next), day.ordinal(leap) + 1);
        let (december, january) = (at("2027-12-31T23:00:00Z"), at("2028-01-01T00:00:00Z"));
        assert_eq!(month.ordinal(january), month.ordinal(december) + 1);
        // A Sunday and the Monday after it.
        let (sunday, monday) = (at("2026-11-29T23:59:59Z"), at("2026-11-30T00:00:00Z"));
        assert_eq!(week.ordinal(monday), week.ordinal(sunday) + 1);
        assert_eq!(week.ordinal(sunday), week.ordinal(at("2026-11-23T00:00:00Z")));
        assert_eq!((week.ends_in(sunday), week.ends_in(monday)), (1, 7 * 86_400));
        assert_eq!(week.seconds(sunday), 7 * 86_400);
    }

    #[test]
    fn midnight_is_where_the_offset_says() {
        let kolkata = |unit| Calendar::new(unit, 330);
        let (before, after) = (at("2026-11-30T18:29:59Z"), at("2026-11-30T18:30:00Z"));
        for unit in [Unit::Day, Unit::Month] {
            assert_eq!(kolkata(unit).ordinal(after), kolkata(unit).ordinal(before) + 1);
            assert_eq!(kolkata(unit).ends_in(before), 1);
        }
        assert_eq!(kolkata(Unit::Month).seconds(after), 31 * 86_400);
        let hawaii = Calendar::new(Unit::Week, -600);
        let (before, after) = (at("2026-11-30T09:59:59Z"), at("2026-11-30T10:00:00Z"));
        assert_eq!(hawaii.ordinal(after), hawaii.ordinal(before) + 1);
        let [far, furthest] = [i32::MAX, 14 * 60].map(|minutes| Calendar::new(Unit::Day, minutes));
        assert_eq!(far, furthest);
        let _ends = far.ends_in(DateTime::<Utc>::MAX_UTC);
    }

    #[test]
    fn a_new_window_starts_at_nothing() {
        let count = Count::default();
        assert_eq!(count.take(7, 2), Ok(1));
        assert_eq!(count.take(7, 2), Ok(2));
        assert_eq!(count.take(7, 2), Err(2));
        assert_eq!(count.take(8, 2), Ok(1));
        assert_eq!(count.used(8), 1);
        count.give_back(8);
        assert!(count.is_idle(8));
        assert_eq!(count.take(6, 2), Ok(1), "a clock that was put right");
    }

    #[test]
    fn a_late_call_of_the_old_window_does_not_wipe_the_new_one_out() {
        let count = Count::default();
        assert_eq!(count.take(8, 2), Ok(1));
        assert_eq!(count.take(7, 2), Ok(2));
        assert_eq!(count.take(7, 2), Err(2));
        assert_eq!(count.take(8, 2), Err(2));
    }

    #[test]
    fn many_threads_take_exactly_the_amount() {
        let count = std::sync::Arc::new(Count::default());
        let threads: Vec<_> = (0..8)
            .map(|_| {
                let count = count.clone();
                std::thread::spawn(move || (0..500).filter(|_| count.take(1, 777).is_ok()).count())
            })
            .collect();
        let taken: usize = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
        assert_eq!(taken, 777);
    }
}
