//! Time zones, as the contract carries them: the changes of the offset that a database names one by one, and
//! the rule that holds after the last of them. What both engines need is here, so no agent has a database.

mod rule;

use std::sync::Arc;

use rule::Rule;

use crate::caps;

const DAY: i64 = 86_400;

/// More than any local time is away from UTC. The first instant of a day is looked for from here on.
const FURTHEST: i64 = 26 * 3_600;

/// The latest change that can be named, in Unix seconds: the year 9999.
const LATEST: i64 = 253_402_300_799;

/// How many changes around one midnight are looked at.
const CHANGES_AROUND_A_DAY: usize = 8;

/// From this instant on, in Unix seconds, local time is so many seconds ahead of UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OffsetChange {
    pub at: i64,
    pub offset: i32,
}

/// A time zone with its rules.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TimeZone {
    name: Arc<str>,
    /// In order. The offset of the first also applies before it; from the last one on the rule does.
    changes: Box<[OffsetChange]>,
    rule: Rule,
}

/// The reason why a time zone was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimeZoneError {
    #[error("a name has 1 to {} bytes of ASCII, without spaces", caps::TIME_ZONE_NAME_BYTES.value)]
    Name,
    #[error("the rule is not a POSIX TZ string of at most {} bytes", caps::TIME_ZONE_RULE_BYTES.value)]
    Rule,
    #[error("more than {} changes", caps::OFFSET_CHANGES_PER_TIME_ZONE.value)]
    TooManyChanges,
    #[error("a change is out of order or out of range")]
    Change,
}

impl TimeZone {
    /// Reads a name, a POSIX TZ string (RFC 9636, 3.3.1) and the changes that it does not cover.
    pub fn read(name: &str, rule: &str, changes: Vec<OffsetChange>) -> Result<Self, TimeZoneError> {
        let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_name || !caps::TIME_ZONE_NAME_BYTES.admits(name.len()) {
            return Err(TimeZoneError::Name);
        }
        let rule = Rule::read(rule).ok_or(TimeZoneError::Rule)?;
        if !caps::OFFSET_CHANGES_PER_TIME_ZONE.admits(changes.len()) {
            return Err(TimeZoneError::TooManyChanges);
        }
        let is_ordered = changes.is_sorted_by(|one, next| one.at < next.at);
        let in_range = |change: &OffsetChange| {
            change.at.abs() <= LATEST && i64::from(change.offset).abs() < FURTHEST
        };
        if !is_ordered || !changes.iter().all(in_range) {
            return Err(TimeZoneError::Change);
        }
        Ok(Self { name: name.into(), changes: changes.into(), rule })
    }

    /// Its name in the IANA database.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Seconds ahead of UTC without daylight saving time.
    pub fn standard_offset(&self) -> i32 {
        self.rule.standard()
    }

    /// Seconds ahead of UTC at this instant.
    pub fn offset_at(&self, at: i64) -> i32 {
        match (self.changes.first(), self.changes.last()) {
            (Some(first), Some(last)) if at < last.at => {
                let past = self.changes.partition_point(|change| change.at <= at);
                let current = past.checked_sub(1).and_then(|index| self.changes.get(index));
                current.unwrap_or(first).offset
            }
            _ => self.rule.offset_at(at),
        }
    }

    /// The first change after this instant.
    pub fn next_change(&self, after: i64) -> Option<OffsetChange> {
        let next = self.changes.partition_point(|change| change.at <= after);
        self.changes.get(next).copied().or_else(|| self.rule.next_change(after))
    }

    /// The latest local date that has begun at this instant, in days since 1970-01-01. Never goes back, also
    /// where clocks go back over midnight.
    pub fn day(&self, at: i64) -> i64 {
        let shown = (at + i64::from(self.offset_at(at))).div_euclid(DAY);
        if at < self.day_start(shown + 1) { shown } else { shown + 1 }
    }

    /// The first instant of a local date: 00:00, or where clocks skip that, the end of the gap.
    pub fn day_start(&self, day: i64) -> i64 {
        let midnight = day.saturating_mul(DAY);
        let mut since = midnight.saturating_sub(FURTHEST);
        let mut start = midnight - i64::from(self.offset_at(since));
        for _ in 0..CHANGES_AROUND_A_DAY {
            let Some(change) = self.next_change(since).filter(|change| change.at <= start) else {
                break;
            };
            let shown = change.at + i64::from(change.offset);
            if shown >= midnight {
                return change.at;
            }
            since = change.at;
            start = midnight - i64::from(change.offset);
        }
        start
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600;

    /// Days since 1970-01-01 of a date, by counting.
    fn day(year: i64, month: usize, date: i64) -> i64 {
        let is_leap = |year: i64| (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
        let of_year = |year| if is_leap(year) { 366 } else { 365 };
        let months = [31, if is_leap(year) { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30];
        let before: i64 = months[..month - 1].iter().sum();
        (1970..year).map(of_year).sum::<i64>() + before + date - 1
    }

    fn zone(rule: &str) -> TimeZone {
        TimeZone::read("Here", rule, vec![]).unwrap()
    }

    /// The first instant of a date in hours after 00:00 UTC, and the length of the date in hours.
    fn hours(zone: &TimeZone, day: i64) -> (i64, i64) {
        let (start, end) = (zone.day_start(day), zone.day_start(day + 1));
        assert_eq!(zone.day(start), day);
        assert_eq!(zone.day(start - 1), day - 1);
        assert_eq!((start % HOUR, end % HOUR), (0, 0));
        ((start - day * DAY) / HOUR, (end - start) / HOUR)
    }

    #[test]
    fn days_have_23_24_or_25_hours() {
        let berlin = zone("CET-1CEST,M3.5.0,M10.5.0/3");
        for (date, expected) in [
            (day(2027, 3, 27), (-1, 24)),
            (day(2027, 3, 28), (-1, 23)),
            (day(2027, 3, 29), (-2, 24)),
            (day(2027, 10, 31), (-2, 25)),
            (day(2027, 11, 1), (-1, 24)),
        ] {
            assert_eq!(hours(&berlin, date), expected, "{date}");
        }
        let auckland = zone("NZST-12NZDT,M9.5.0,M4.1.0/3");
        assert_eq!(hours(&auckland, day(2027, 1, 1)), (-13, 24), "summer in January");
        assert_eq!(hours(&auckland, day(2027, 4, 4)), (-13, 25));
        assert_eq!(hours(&auckland, day(2027, 9, 26)), (-12, 23));
    }

    #[test]
    fn a_day_without_a_midnight_begins_when_it_is_there() {
        let beirut = zone("EET-2EEST,M3.5.0/0,M10.5.0/0");
        assert_eq!(hours(&beirut, day(2027, 3, 28)), (-2, 23), "00:00 becomes 01:00");
        assert_eq!(hours(&beirut, day(2027, 10, 30)), (-3, 25), "24:00 becomes 23:00");
        assert_eq!(hours(&beirut, day(2027, 10, 31)), (-2, 24));
        let cairo = zone("EET-2EEST,M4.5.5/0,M10.5.4/24");
        assert_eq!(hours(&cairo, day(2027, 4, 30)), (-2, 23));
        assert_eq!(hours(&cairo, day(2027, 10, 28)), (-3, 25));
        let havana = zone("CST5CDT,M3.2.0/0,M11.1.0/1");
        assert_eq!(hours(&havana, day(2027, 3, 14)), (5, 23));
        assert_eq!(hours(&havana, day(2027, 11, 7)), (4, 25), "00:00 exists twice");
        let nuuk = zone("<-02>2<-01>,M3.5.0/-1,M10.5.0/0");
        assert_eq!(hours(&nuuk, day(2027, 3, 27)), (2, 23), "the day before Sunday");
    }

    #[test]
    fn a_date_that_has_begun_never_goes_back() {
        // As in Newfoundland until 2011: at 00:01 clocks went back to 23:01.
        let zone = zone("NST3:30NDT,M3.2.0/0:01,M11.1.0/0:01");
        let sunday = day(2027, 11, 7);
        let start = sunday * DAY + 2 * HOUR + 1_800;
        assert_eq!(zone.day_start(sunday), start);
        assert_eq!(
            [start - 1, start, start + 60].map(|at| zone.day(at)),
            [sunday - 1, sunday, sunday]
        );
    }

    #[test]
    fn a_date_that_clocks_skip_is_empty() {
        // As in Samoa, which left out the 30th of December 2011.
        let (skipped, at) = (day(2011, 12, 30), day(2011, 12, 30) * DAY + 10 * HOUR);
        let changes =
            vec![OffsetChange { at: 0, offset: -36_000 }, OffsetChange { at, offset: 50_400 }];
        let samoa = TimeZone::read("Pacific/Apia", "<+14>-14", changes).unwrap();
        assert_eq!([skipped, skipped + 1].map(|day| samoa.day_start(day)), [at, at]);
        assert_eq!([at - 1, at].map(|at| samoa.day(at)), [skipped - 1, skipped + 1]);
        assert_eq!([-1, 0, at].map(|at| samoa.offset_at(at)), [-36_000, -36_000, 50_400]);
    }

    #[test]
    fn what_is_not_a_time_zone_is_refused() {
        let change = |at, offset| OffsetChange { at, offset };
        let read = |name: &str, rule: &str, changes| TimeZone::read(name, rule, changes).err();
        assert_eq!(read("", "UTC0", vec![]), Some(TimeZoneError::Name));
        assert_eq!(read("a b", "UTC0", vec![]), Some(TimeZoneError::Name));
        assert_eq!(read("a", "UTC", vec![]), Some(TimeZoneError::Rule));
        for bad in [
            vec![change(5, 0), change(5, 0)],
            vec![change(5, 0), change(4, 0)],
            vec![change(i64::MIN + 1, 0)],
            vec![change(0, i32::MAX)],
        ] {
            assert_eq!(read("a", "UTC0", bad), Some(TimeZoneError::Change));
        }
    }

    #[test]
    fn names_rules_and_changes_end_at_their_caps() {
        let name = |length| TimeZone::read(&"n".repeat(length), "UTC0", vec![]);
        let most = caps::TIME_ZONE_NAME_BYTES.size();
        assert!(name(most).is_ok());
        assert_eq!(name(most + 1), Err(TimeZoneError::Name));
        let rule = |length| TimeZone::read("n", &format!("<{}>0", "+".repeat(length - 3)), vec![]);
        let most = caps::TIME_ZONE_RULE_BYTES.size();
        assert!(rule(most).is_ok());
        assert_eq!(rule(most + 1), Err(TimeZoneError::Rule));
        let changes = |number| {
            let all = (0..number).map(|at| OffsetChange { at, offset: 0 });
            TimeZone::read("n", "UTC0", all.collect())
        };
        let most = caps::OFFSET_CHANGES_PER_TIME_ZONE.value.cast_signed();
        assert!(changes(most).is_ok());
        assert_eq!(changes(most + 1), Err(TimeZoneError::TooManyChanges));
    }

    #[test]
    fn no_instant_is_too_far() {
        let berlin = zone("CET-1CEST,M3.5.0,M10.5.0/3");
        let furthest = 8_000_000_000_000_i64;
        for at in [-furthest, furthest] {
            let day = berlin.day(at);
            assert!(berlin.day_start(day) <= at && at < berlin.day_start(day + 1));
        }
    }
}
