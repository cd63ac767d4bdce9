//! Calendar windows: where a day, week or month begins and ends.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;

use chrono::{DateTime, Datelike, Days, Months, NaiveDate, Utc};
use imp_grammar::time_zone::TimeZone;

/// The largest offset on earth, in minutes. More would mean another day.
const FURTHEST: i32 = 14 * 60;

const DAY: i64 = 86_400;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Unit {
    /// From 00:00.
    Day,
    /// From 00:00 of Monday.
    Week,
    /// From 00:00 of the first.
    Month,
}

/// A calendar window, with all that is needed to find its ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Calendar {
    unit: Unit,
    time: LocalTime,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum LocalTime {
    /// Minutes ahead of UTC.
    Offset(i32),
    Zone(Arc<TimeZone>),
}

/// Identifies the windows of a calendar: those of one time zone stay the same when its rules change.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Windows {
    unit: Unit,
    midnight: Midnight,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Midnight {
    /// Minutes ahead of UTC.
    Offset(i32),
    /// The name of a time zone.
    Of(Arc<str>),
}

impl LocalTime {
    /// The current local date, in days since 1970-01-01.
    fn day(&self, now: DateTime<Utc>) -> i64 {
        match self {
            Self::Offset(minutes) => (now.timestamp() + i64::from(*minutes) * 60).div_euclid(DAY),
            Self::Zone(zone) => zone.day(now.timestamp()),
        }
    }

    /// The first instant of a local date, in Unix seconds.
    fn start(&self, date: NaiveDate) -> i64 {
        let day = i64::from(date.to_epoch_days());
        match self {
            Self::Offset(minutes) => day * DAY - i64::from(*minutes) * 60,
            Self::Zone(zone) => zone.day_start(day),
        }
    }
}

fn date(day: i64) -> Option<NaiveDate> {
    NaiveDate::from_epoch_days(i32::try_from(day).ok()?)
}

impl Unit {
    /// The number of the window that this day is in.
    fn ordinal(self, day: i64) -> u64 {
        let days = u64::try_from(day).unwrap_or(0);
        match self {
            Self::Day => days,
            // The epoch was a Thursday.
            Self::Week => (days + 3) / 7,
            Self::Month => date(day).map_or(0, |date| {
                u64::try_from(date.year()).unwrap_or(0) * 12 + u64::from(date.month0())
            }),
        }
    }

    /// The first day of the window that this day is in, and of the next one.
    fn bounds(self, today: NaiveDate) -> Option<(NaiveDate, NaiveDate)> {
        match self {
            Self::Day => Some((today, today.succ_opt()?)),
            Self::Week => {
                let since_monday = u64::from(today.weekday().num_days_from_monday());
                let monday = today.checked_sub_days(Days::new(since_monday))?;
                Some((monday, monday.checked_add_days(Days::new(7))?))
            }
            Self::Month => {
                let first = today.with_day(1)?;
                Some((first, first.checked_add_months(Months::new(1))?))
            }
        }
    }
}

impl Calendar {
    pub(crate) fn at_offset(unit: Unit, minutes: i32) -> Self {
        Self { unit, time: LocalTime::Offset(minutes.clamp(-FURTHEST, FURTHEST)) }
    }

    pub(crate) fn in_zone(unit: Unit, zone: Arc<TimeZone>) -> Self {
        Self { unit, time: LocalTime::Zone(zone) }
    }

    /// The number of the current window; increases from window to window.
    pub(crate) fn ordinal(&self, now: DateTime<Utc>) -> u64 {
        self.unit.ordinal(self.time.day(now))
    }

    /// Seconds from the window's start to its end.
    pub(crate) fn seconds(&self, now: DateTime<Utc>) -> u64 {
        let Some((start, end)) = self.bounds(now) else { return 86_400 };
        u64::try_from(self.time.start(end) - self.time.start(start)).unwrap_or(86_400)
    }

    /// Whole seconds until the window ends, at least 1.
    pub(crate) fn ends_in(&self, now: DateTime<Utc>) -> u64 {
        let Some((_, end)) = self.bounds(now) else { return 1 };
        let left = self.time.start(end) * 1000 - now.timestamp_millis();
        u64::try_from(left).unwrap_or(0).div_ceil(1000).max(1)
    }

    fn bounds(&self, now: DateTime<Utc>) -> Option<(NaiveDate, NaiveDate)> {
        self.unit.bounds(date(self.time.day(now))?)
    }

    pub(crate) fn windows(&self) -> Windows {
        let midnight = match &self.time {
            LocalTime::Offset(minutes) => Midnight::Offset(*minutes),
            LocalTime::Zone(zone) => Midnight::Of(zone.name().clone()),
        };
        Windows { unit: self.unit, midnight }
    }
}

impl Windows {
    /// The numbers of the windows that may be the current one. Without the rules of a time zone it is
    /// one of those on earth.
    pub(crate) fn current(&self, now: DateTime<Utc>) -> RangeInclusive<u64> {
        let ordinal = |minutes| Calendar::at_offset(self.unit, minutes).ordinal(now);
        match self.midnight {
            Midnight::Offset(minutes) => ordinal(minutes)..=ordinal(minutes),
            Midnight::Of(_) => ordinal(-FURTHEST)..=ordinal(FURTHEST),
        }
    }

    /// The unit and the offset, `week+330`, and the name of the time zone.
    pub(crate) fn words(&self) -> (impl fmt::Display, Option<&str>) {
        let word = match self.unit {
            Unit::Day => "day",
            Unit::Week => "week",
            Unit::Month => "month",
        };
        match &self.midnight {
            Midnight::Offset(0) => (word.to_owned(), None),
            Midnight::Offset(minutes) => (format!("{word}{minutes:+}"), None),
            Midnight::Of(zone) => (word.to_owned(), Some(zone)),
        }
    }

    /// Reads what `words` writes.
    pub(crate) fn read(text: &str, zone: Option<&str>) -> Option<Self> {
        let (word, offset) = text.split_at(text.find(['+', '-']).unwrap_or(text.len()));
        let unit = match word {
            "day" => Unit::Day,
            "week" => Unit::Week,
            "month" => Unit::Month,
            _ => return None,
        };
        match (offset, zone) {
            ("", Some(zone)) => Some(Self { unit, midnight: Midnight::Of(zone.into()) }),
            ("", None) => Some(Calendar::at_offset(unit, 0).windows()),
            (minutes, None) => Some(Calendar::at_offset(unit, minutes.parse().ok()?).windows()),
            (_, Some(_)) => None,
        }
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
            [Unit::Day, Unit::Week, Unit::Month].map(|unit| Calendar::at_offset(unit, 0));
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
        let kolkata = |unit| Calendar::at_offset(unit, 330);
        let (before, after) = (at("2026-11-30T18:29:59Z"), at("2026-11-30T18:30:00Z"));
        for unit in [Unit::Day, Unit::Month] {
            assert_eq!(kolkata(unit).ordinal(after), kolkata(unit).ordinal(before) + 1);
            assert_eq!(kolkata(unit).ends_in(before), 1);
        }
        assert_eq!(kolkata(Unit::Month).seconds(after), 31 * 86_400);
        let hawaii = Calendar::at_offset(Unit::Week, -600);
        let (before, after) = (at("2026-11-30T09:59:59Z"), at("2026-11-30T10:00:00Z"));
        assert_eq!(hawaii.ordinal(after), hawaii.ordinal(before) + 1);
        let [far, furthest] =
            [i32::MAX, 14 * 60].map(|minutes| Calendar::at_offset(Unit::Day, minutes));
        assert_eq!(far, furthest);
        let _ends = far.ends_in(DateTime::<Utc>::MAX_UTC);
    }

    fn berlin(unit: Unit) -> Calendar {
        let zone = TimeZone::read("Europe/Berlin", "CET-1CEST,M3.5.0,M10.5.0/3", vec![]);
        Calendar::in_zone(unit, Arc::new(zone.unwrap()))
    }

    #[test]
    fn a_window_of_a_zone_is_as_long_as_its_clocks_make_it() {
        const HOUR: u64 = 3_600;
        let (spring, autumn) = (at("2027-03-28T12:00:00Z"), at("2027-10-31T12:00:00Z"));
        for (unit, hours) in [(Unit::Day, 24), (Unit::Week, 7 * 24), (Unit::Month, 31 * 24)] {
            assert_eq!(berlin(unit).seconds(spring), (hours - 1) * HOUR);
            assert_eq!(berlin(unit).seconds(autumn), (hours + 1) * HOUR);
        }
        // 14:00 in summer, 13:00 in winter.
        assert_eq!(berlin(Unit::Day).ends_in(spring), 10 * HOUR);
        assert_eq!(berlin(Unit::Month).ends_in(autumn), 11 * HOUR);
        let (before, after) = (at("2027-06-30T21:59:59Z"), at("2027-06-30T22:00:00Z"));
        assert_eq!(berlin(Unit::Month).ordinal(after), berlin(Unit::Month).ordinal(before) + 1);
        assert_eq!(berlin(Unit::Month).ends_in(before), 1);
        let _ends = berlin(Unit::Month).ends_in(DateTime::<Utc>::MAX_UTC);
        let _ends = berlin(Unit::Month).seconds(DateTime::<Utc>::MIN_UTC);
    }

    #[test]
    fn windows_of_a_zone_keep_their_identity_when_its_rules_change() {
        let zone = |name: &str| Arc::new(TimeZone::read(name, "CET-1", vec![]).unwrap());
        let abolished = Calendar::in_zone(Unit::Day, zone("Europe/Berlin"));
        assert_ne!(abolished, berlin(Unit::Day));
        assert_eq!(abolished.windows(), berlin(Unit::Day).windows());
        let paris = Calendar::in_zone(Unit::Day, zone("Europe/Paris"));
        assert_ne!(paris.windows(), abolished.windows());
        assert_ne!(Calendar::at_offset(Unit::Day, 60).windows(), abolished.windows());
    }

    #[test]
    fn without_rules_the_current_window_is_one_of_those_on_earth() {
        let (noon, windows) = (at("2026-11-30T10:30:00Z"), berlin(Unit::Day).windows());
        let today = berlin(Unit::Day).ordinal(noon);
        assert_eq!(windows.current(noon), today - 1..=today + 1);
        let month = berlin(Unit::Month).windows().current(noon);
        assert_eq!(month.end() - month.start(), 1);
        let fixed = Calendar::at_offset(Unit::Day, 330);
        assert_eq!(fixed.windows().current(noon), fixed.ordinal(noon)..=fixed.ordinal(noon));
    }
}
