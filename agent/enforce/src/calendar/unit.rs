//! The units of calendars, and the days on which their windows begin: the calendar's first, or days like
//! the one on which a subscription began.

use std::fmt;
use std::ops::RangeInclusive;

use chrono::{Datelike, Days, Months, NaiveDate};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Unit {
    /// From 00:00.
    Day,
    /// From 00:00 of this day of the week; 0 is Monday.
    Week { from: u8 },
    /// From 00:00 of this day, or of the last one of a shorter month.
    Month { from: u8 },
    /// From 00:00 of this day of this month, or of the last one of a shorter February.
    Year { month: u8, from: u8 },
}

/// The date of a day since 1970-01-01.
pub(super) fn date(day: i64) -> Option<NaiveDate> {
    NaiveDate::from_epoch_days(i32::try_from(day).ok()?)
}

/// This day of a month, or its last one.
fn in_month(year: i32, month: u32, day: u8) -> Option<NaiveDate> {
    (1..=day).rev().find_map(|day| NaiveDate::from_ymd_opt(year, month, day.into()))
}

impl Unit {
    pub(crate) const WEEK: Self = Self::Week { from: 0 };
    pub(crate) const MONTH: Self = Self::Month { from: 1 };
    pub(crate) const YEAR: Self = Self::Year { month: 1, from: 1 };

    /// The same unit, with windows that begin on days like this one, in days since 1970-01-01. 0: the
    /// calendar's first.
    pub(crate) fn anchored(self, day: u32) -> Self {
        let Some(date) = date(day.into()).filter(|_| day > 0) else { return self };
        // No field of a date is larger.
        let small = |number: u32| u8::try_from(number).unwrap_or(1);
        let from = small(date.day());
        match self {
            Self::Day => Self::Day,
            Self::Week { .. } => Self::Week { from: small(date.weekday().num_days_from_monday()) },
            Self::Month { .. } => Self::Month { from },
            Self::Year { .. } => Self::Year { month: small(date.month()), from },
        }
    }

    /// The number of the window that this day is in.
    pub(super) fn ordinal(self, day: i64) -> u64 {
        let days = u64::try_from(day).unwrap_or(0);
        match self {
            Self::Day => days,
            // The epoch was a Thursday.
            Self::Week { from } => (days + 3).saturating_sub(from.into()) / 7,
            Self::Month { .. } | Self::Year { .. } => {
                date(day).map_or(0, |today| self.number(today))
            }
        }
    }

    /// The number of the month or year in which the window began that this day is in.
    fn number(self, today: NaiveDate) -> u64 {
        let year = u64::try_from(today.year()).unwrap_or(0);
        let month = u64::from(today.month0());
        // Most days need no look at how long the month is.
        let (number, has_begun) = match self {
            Self::Month { from } => (year * 12 + month, today.day() >= from.into()),
            Self::Year { month, from } => {
                (year, (today.month(), today.day()) >= (month.into(), from.into()))
            }
            Self::Day | Self::Week { .. } => return 0,
        };
        let has_begun = has_begun || self.begin(today).is_some_and(|begin| begin <= today);
        if has_begun { number } else { number.saturating_sub(1) }
    }

    /// The day on which a window begins in the month or year of this one.
    fn begin(self, today: NaiveDate) -> Option<NaiveDate> {
        match self {
            Self::Month { from } => in_month(today.year(), today.month(), from),
            Self::Year { month, from } => in_month(today.year(), month.into(), from),
            Self::Day | Self::Week { .. } => Some(today),
        }
    }

    /// The first day of the window that this day is in, and of the next one.
    pub(super) fn bounds(self, today: NaiveDate) -> Option<(NaiveDate, NaiveDate)> {
        let months = match self {
            Self::Day => return Some((today, today.succ_opt()?)),
            Self::Week { from } => {
                let since = (today.weekday().num_days_from_monday() + 7 - u32::from(from)) % 7;
                let first = today.checked_sub_days(Days::new(since.into()))?;
                return Some((first, first.checked_add_days(Days::new(7))?));
            }
            Self::Month { .. } => Months::new(1),
            Self::Year { .. } => Months::new(12),
        };
        let begin = self.begin(today)?;
        // Of the first, because the day that is kept is the anchor's and not that of a short month.
        let first = today.with_day(1)?;
        match begin <= today {
            true => Some((begin, self.begin(first.checked_add_months(months)?)?)),
            false => Some((self.begin(first.checked_sub_months(months)?)?, begin)),
        }
    }

    /// Reads what `Display` writes.
    pub(super) fn read(text: &str) -> Option<Self> {
        let number = |text: &str, range: RangeInclusive<u8>| {
            text.parse::<u8>().ok().filter(|number| range.contains(number))
        };
        let mut parts = text.split('.');
        let parts = (parts.next()?, parts.next(), parts.next(), parts.next());
        Some(match parts {
            ("day", None, ..) => Self::Day,
            ("week", None, ..) => Self::WEEK,
            ("month", None, ..) => Self::MONTH,
            ("year", None, ..) => Self::YEAR,
            ("week", Some(from), None, _) => Self::Week { from: number(from, 1..=7)? - 1 },
            ("month", Some(from), None, _) => Self::Month { from: number(from, 1..=31)? },
            ("year", Some(month), Some(from), None) => {
                Self::Year { month: number(month, 1..=12)?, from: number(from, 1..=31)? }
            }
            _ => return None,
        })
    }
}

/// `month`; `week.7` from Sunday, `month.31`, `year.2.29`.
impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Day => f.write_str("day"),
            Self::WEEK => f.write_str("week"),
            Self::MONTH => f.write_str("month"),
            Self::YEAR => f.write_str("year"),
            Self::Week { from } => write!(f, "week.{}", from + 1),
            Self::Month { from } => write!(f, "month.{from}"),
            Self::Year { month, from } => write!(f, "year.{month}.{from}"),
        }
    }
}
