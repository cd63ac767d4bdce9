//! The yearly rule of a time zone: a POSIX TZ string, as in `CET-1CEST,M3.5.0,M10.5.0/3`.

use super::OffsetChange;
use crate::caps;

const HOUR: i32 = 3_600;
const DAY: i64 = 86_400;

/// Standard time, and the part of each year with another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Rule {
    standard: i32,
    daylight: Option<Daylight>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Daylight {
    offset: i32,
    start: Turn,
    end: Turn,
}

/// When clocks change, by the local time before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Turn {
    date: Date,
    /// Seconds after 00:00; may be negative or beyond the day.
    time: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Date {
    /// `M3.5.0`: month, week (5: the last), day of the week (0: Sunday).
    Weekday { month: u8, week: u8, weekday: u8 },
    /// `J60`: the day of the year from 1 on, as if no year had a 29th of February.
    WithoutLeapDay(u16),
    /// `59`: the day of the year from 0 on.
    Day(u16),
}

impl Rule {
    pub(super) fn standard(&self) -> i32 {
        self.standard
    }

    pub(super) fn offset_at(&self, at: i64) -> i32 {
        let Some(daylight) = self.daylight else { return self.standard };
        let [start, end] = self.turns(daylight, self.year(at));
        let is_daylight = match start < end {
            true => start <= at && at < end,
            false => at < end || start <= at,
        };
        if is_daylight { daylight.offset } else { self.standard }
    }

    pub(super) fn next_change(&self, after: i64) -> Option<OffsetChange> {
        let daylight = self.daylight?;
        let year = self.year(after);
        let changes = (year - 1..=year + 1).flat_map(|year| {
            let [start, end] = self.turns(daylight, year);
            let offsets = [(start, daylight.offset), (end, self.standard)];
            offsets.map(|(at, offset)| OffsetChange { at, offset })
        });
        changes.filter(|change| change.at > after).min_by_key(|change| change.at)
    }

    fn year(&self, at: i64) -> i64 {
        year_of((at + i64::from(self.standard)).div_euclid(DAY) + EPOCH)
    }

    /// The instants of a year when daylight saving time begins and ends.
    fn turns(&self, daylight: Daylight, year: i64) -> [i64; 2] {
        [(daylight.start, self.standard), (daylight.end, daylight.offset)].map(|(turn, before)| {
            (turn.date.day(year) - EPOCH) * DAY + i64::from(turn.time) - i64::from(before)
        })
    }

    /// Reads a POSIX TZ string, with the times beyond a day that RFC 9636 adds.
    pub(super) fn read(text: &str) -> Option<Self> {
        if !caps::TIME_ZONE_RULE_BYTES.admits(text.len()) {
            return None;
        }
        let mut rest = Text(text);
        rest.abbreviation()?;
        let standard = -rest.time(24)?;
        if rest.0.is_empty() {
            return Some(Self { standard, daylight: None });
        }
        rest.abbreviation()?;
        let offset = match rest.0.starts_with(',') {
            true => standard + HOUR,
            false => -rest.time(24)?,
        };
        let (start, end) = (rest.turn()?, rest.turn()?);
        let daylight = Some(Daylight { offset, start, end });
        rest.0.is_empty().then_some(Self { standard, daylight })
    }
}

/// What is left to read.
struct Text<'a>(&'a str);

impl<'a> Text<'a> {
    fn skip(&mut self, text: &str) -> Option<()> {
        self.0 = self.0.strip_prefix(text)?;
        Some(())
    }

    fn while_is(&mut self, of: impl Fn(char) -> bool) -> &'a str {
        let (taken, rest) = self.0.split_at(self.0.find(|c| !of(c)).unwrap_or(self.0.len()));
        self.0 = rest;
        taken
    }

    /// `CET`, `<+03>`.
    fn abbreviation(&mut self) -> Option<()> {
        if self.skip("<").is_some() {
            let name = self.while_is(|c| c.is_ascii_alphanumeric() || c == '+' || c == '-');
            return self.skip(">").filter(|()| !name.is_empty());
        }
        (self.while_is(|c| c.is_ascii_alphabetic()).len() >= 3).then_some(())
    }

    fn number(&mut self, most: u16) -> Option<u16> {
        let digits = self.while_is(|c| c.is_ascii_digit());
        digits.parse().ok().filter(|number| digits.len() <= 3 && *number <= most)
    }

    /// `[+-]hh[:mm[:ss]]`, in seconds.
    fn time(&mut self, most_hours: u16) -> Option<i32> {
        let sign = if self.skip("-").is_some() { -1 } else { 1 };
        if sign == 1 {
            let _plus = self.skip("+");
        }
        let mut seconds = i32::from(self.number(most_hours)?) * HOUR;
        for unit in [60, 1] {
            if self.skip(":").is_none() {
                break;
            }
            seconds += i32::from(self.number(59)?) * unit;
        }
        Some(sign * seconds)
    }

    /// `,M3.5.0/2`.
    fn turn(&mut self) -> Option<Turn> {
        self.skip(",")?;
        let date = if self.skip("M").is_some() {
            let month = self.between(1, 12)?;
            self.skip(".")?;
            let week = self.between(1, 5)?;
            self.skip(".")?;
            Date::Weekday { month, week, weekday: self.between(0, 6)? }
        } else if self.skip("J").is_some() {
            Date::WithoutLeapDay(self.number(365).filter(|day| *day > 0)?)
        } else {
            Date::Day(self.number(365)?)
        };
        let time = if self.skip("/").is_some() { self.time(167)? } else { 2 * HOUR };
        Some(Turn { date, time })
    }

    fn between(&mut self, least: u8, most: u8) -> Option<u8> {
        let number = u8::try_from(self.number(most.into())?).ok()?;
        (number >= least).then_some(number)
    }
}

/// Days from 0001-01-01, a Monday, to 1970-01-01.
const EPOCH: i64 = 719_162;

/// The days of the months before each one, in a year without a leap day.
const DAYS_BEFORE: [i64; 13] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334, 365];

/// Days from 0001-01-01 to the first of a year.
fn days_before(year: i64) -> i64 {
    let years = year - 1;
    years * 365 + years.div_euclid(4) - years.div_euclid(100) + years.div_euclid(400)
}

fn is_leap(year: i64) -> bool {
    days_before(year + 1) - days_before(year) == 366
}

/// The year of a day, counted from 0001-01-01.
fn year_of(day: i64) -> i64 {
    // The mean length, which is at most one year off.
    let near = (day * 400).div_euclid(146_097) + 1;
    if day < days_before(near) {
        near - 1
    } else if day >= days_before(near + 1) {
        near + 1
    } else {
        near
    }
}

impl Date {
    /// The day of this date in a year, counted from 0001-01-01.
    fn day(self, year: i64) -> i64 {
        let first = days_before(year);
        match self {
            Self::Day(day) => first + i64::from(day),
            Self::WithoutLeapDay(day) => {
                first + i64::from(day) - 1 + i64::from(is_leap(year) && day >= 60)
            }
            Self::Weekday { month, week, weekday } => {
                let before = |months: u8| {
                    let days = DAYS_BEFORE.get(usize::from(months)).copied().unwrap_or(365);
                    first + days + i64::from(months >= 2 && is_leap(year))
                };
                let (first, next) = (before(month - 1), before(month));
                // Of a Sunday this is 0.
                let starts_on = (first + 1).rem_euclid(7);
                let one = first + (i64::from(weekday) - starts_on).rem_euclid(7);
                let day = one + 7 * (i64::from(week) - 1);
                if day < next { day } else { day - 7 }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read_whole_or_not_at_all() {
        for good in [
            "UTC0",
            "<+0545>-5:45",
            "CET-1CEST,M3.5.0,M10.5.0/3",
            "EET-2EEST,M3.4.4/50,M10.4.4/50",
            "<-02>2<-01>,M3.5.0/-1,M10.5.0/0",
            "IST-1GMT0,M10.5.0,M3.5.0/1",
            "XXX3EDT4,0/0,J365/25",
            "AAA+01:02:03",
        ] {
            assert!(Rule::read(good).is_some(), "{good}");
        }
        for bad in [
            "",
            "UTC",
            "UT0",
            "<>0",
            "<+03-3",
            "UTC25",
            "UTC0 ",
            "CET-1CEST",
            "CET-1CEST,M3.5.0",
            "CET-1CEST,M3.5.0,M10.5.0/3,",
            "CET-1CEST,M0.5.0,M10.5.0",
            "CET-1CEST,M13.5.0,M10.5.0",
            "CET-1CEST,M3.6.0,M10.5.0",
            "CET-1CEST,M3.5.7,M10.5.0",
            "CET-1CEST,J0,J365",
            "CET-1CEST,J366,J365",
            "CET-1CEST,M3.5.0/168,M10.5.0",
            "CET-1CEST,M3.5.0/2:60,M10.5.0",
            "CET-00000001",
            "CET-1CEST,M3.5.0/\u{663},M10.5.0",
        ] {
            assert_eq!(Rule::read(bad), None, "{bad}");
        }
    }

    #[test]
    fn daylight_saving_time_can_be_all_year() {
        let rule = Rule::read("XXX3EDT4,0/0,J365/25").unwrap();
        // Hours of ten years.
        assert!((0..87_660).all(|hour| rule.offset_at(1_700_000_000 + hour * 3_600) == -4 * HOUR));
    }

    #[test]
    fn years_and_their_days_agree() {
        let mut day = days_before(-2);
        for year in -2..3_000 {
            assert_eq!(day, days_before(year));
            day += if is_leap(year) { 366 } else { 365 };
            assert_eq!((year_of(day - 1), year_of(day)), (year, year + 1));
        }
        assert_eq!(days_before(1970), EPOCH);
        assert_eq!([1900, 2000, 2024, 2100].map(is_leap), [false, true, true, false]);
    }
}
