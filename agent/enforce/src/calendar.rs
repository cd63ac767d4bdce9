//! Calendar windows: where a day, week, month or year begins and ends.

mod latest;
mod unit;

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;

use chrono::{DateTime, NaiveDate, Utc};
use imp_grammar::time_zone::TimeZone;

use self::latest::Latest;
pub(crate) use self::unit::Unit;
use self::unit::date;

/// The largest offset on earth, in minutes. More would mean another day.
const FURTHEST: i32 = 14 * 60;

const DAY: i64 = 86_400;

/// A calendar window, with all that is needed to find its ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Calendar {
    unit: Unit,
    time: LocalTime,
    latest: Latest,
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
    /// The latest local date that has begun at this instant, in days since 1970-01-01.
    fn day(&self, at: i64) -> i64 {
        match self {
            Self::Offset(minutes) => (at + i64::from(*minutes) * 60).div_euclid(DAY),
            Self::Zone(zone) => zone.day(at),
        }
    }

    /// The same for the first instant of a date, on which clocks show that date.
    fn day_begun(&self, at: i64) -> i64 {
        match self {
            Self::Offset(_) => self.day(at),
            Self::Zone(zone) => (at + i64::from(zone.offset_at(at))).div_euclid(DAY),
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

impl Calendar {
    pub(crate) fn at_offset(unit: Unit, minutes: i32) -> Self {
        Self::new(unit, LocalTime::Offset(minutes.clamp(-FURTHEST, FURTHEST)))
    }

    pub(crate) fn in_zone(unit: Unit, zone: Arc<TimeZone>) -> Self {
        Self::new(unit, LocalTime::Zone(zone))
    }

    fn new(unit: Unit, time: LocalTime) -> Self {
        Self { unit, time, latest: Latest::default() }
    }

    /// The number of the current window; increases from window to window.
    pub(crate) fn ordinal(&self, now: DateTime<Utc>) -> u64 {
        let now = now.timestamp();
        let day = match self.latest.holding(now) {
            Some((start, _)) => self.time.day_begun(start),
            None => self.time.day(now),
        };
        self.unit.ordinal(day)
    }

    /// Seconds from the window's start to its end.
    pub(crate) fn seconds(&self, now: DateTime<Utc>) -> u64 {
        let Some((start, end)) = self.window(now) else { return 86_400 };
        u64::try_from(end - start).unwrap_or(86_400)
    }

    /// Whole seconds until the window ends, at least 1.
    pub(crate) fn ends_in(&self, now: DateTime<Utc>) -> u64 {
        let Some((_, end)) = self.window(now) else { return 1 };
        let left = end * 1000 - now.timestamp_millis();
        u64::try_from(left).unwrap_or(0).div_ceil(1000).max(1)
    }

    /// Start and end of the current window, in Unix seconds.
    fn window(&self, now: DateTime<Utc>) -> Option<(i64, i64)> {
        let now = now.timestamp();
        if let Some(known) = self.latest.holding(now) {
            return Some(known);
        }
        let (first, next) = self.unit.bounds(date(self.time.day(now))?)?;
        let window = (self.time.start(first), self.time.start(next));
        self.latest.set(window);
        Some(window)
    }

    pub(crate) fn unit(&self) -> Unit {
        self.unit
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
        let word = self.unit.to_string();
        match &self.midnight {
            Midnight::Offset(0) => (word, None),
            Midnight::Offset(minutes) => (format!("{word}{minutes:+}"), None),
            Midnight::Of(zone) => (word, Some(zone)),
        }
    }

    /// Reads what `words` writes.
    pub(crate) fn read(text: &str, zone: Option<&str>) -> Option<Self> {
        let (word, offset) = text.split_at(text.find(['+', '-']).unwrap_or(text.len()));
        let unit = Unit::read(word)?;
        match (offset, zone) {
            ("", Some(zone)) => Some(Self { unit, midnight: Midnight::Of(zone.into()) }),
            ("", None) => Some(Calendar::at_offset(unit, 0).windows()),
            (minutes, None) => Some(Calendar::at_offset(unit, minutes.parse().ok()?).windows()),
            (_, Some(_)) => None,
        }
    }
}

#[cfg(test)]
mod tests;
