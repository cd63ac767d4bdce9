//! Classes of limits: which limits share a count, and how counts are named in the ledger.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};

use crate::calendar::Windows;
use crate::kept::Kept;
use crate::ledger::Pair;
use crate::meter::Meter;
use crate::quota::{self, Count};
use crate::rate;
use crate::spec::{Spec, Window, nanos};

/// Rates over fewer seconds start over after a restart.
const SHORT: u64 = 10;

/// The prefix of quotas' names in the ledger; a former release used it for rates, too.
const USED: &str = "used";

/// The prefix of rates' names in the ledger.
const RATE: &str = "rate";

/// Whether the count stored under this name is obsolete: a window that has ended, or a rate that is
/// full again. False for a name that is not a meter's.
pub fn is_over(name: &str, pair: Pair, now: DateTime<Utc>) -> bool {
    let mut parts = name.split('\t');
    let (kind, class) = (parts.next(), parts.next().and_then(|class| class.parse().ok()));
    let Some(Class { span, .. }) = class else { return false };
    match (kind, span) {
        (Some(RATE), Span::Seconds(seconds)) => rate::is_past(pair, seconds, nanos(now)),
        (Some(USED), Span::Calendar(windows)) => quota::is_past(pair[0], &windows.current(now)),
        // A former release stored the time at which it is full again.
        (Some(USED), Span::Seconds(_)) => (pair[0] as i64) <= nanos(now),
        _ => false,
    }
}

/// Identifies which limits of two plans share a count: those of one window and one scope, whatever
/// their names and amounts. Several such limits of one plan are ranked, the tightest first.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Class {
    span: Span,
    per_consumer: bool,
    rank: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Span {
    Seconds(u64),
    Calendar(Windows),
}

impl Class {
    /// The class of each limit of a plan.
    pub(crate) fn of(plan: &[Spec]) -> Vec<Self> {
        let loose = |spec: &Spec| Self {
            span: match &spec.window {
                Window::Rolling { seconds, .. } => Span::Seconds(*seconds),
                Window::Calendar(calendar) => Span::Calendar(calendar.windows()),
            },
            per_consumer: spec.per_consumer,
            rank: 0,
        };
        let order = |(index, spec): (usize, &Spec)| (!spec.blocks, spec.amount, index);
        let class = |(index, spec): (usize, &Spec)| {
            let tighter = plan.iter().enumerate().filter(|(other, spec_of_other)| {
                loose(spec_of_other) == loose(spec)
                    && order((*other, spec_of_other)) < order((index, spec))
            });
            Self { rank: u16::try_from(tighter.count()).unwrap_or(u16::MAX), ..loose(spec) }
        };
        plan.iter().enumerate().map(class).collect()
    }

    /// The class of a limit that has no other beside it.
    pub(crate) fn alone(spec: &Spec) -> Self {
        let classes = Self::of(std::slice::from_ref(spec));
        let second = Self { span: Span::Seconds(1), per_consumer: false, rank: 0 };
        classes.into_iter().next().unwrap_or(second)
    }

    /// Whether each consumer has a meter of its own.
    pub(crate) fn is_per_consumer(&self) -> bool {
        self.per_consumer
    }

    /// A meter that continues what is stored.
    pub(crate) fn meter(&self, kept: Option<(Kept, Pair)>) -> Meter {
        match (&self.span, kept) {
            (Span::Seconds(_), None) => Meter::Rate(rate::Count::default()),
            (Span::Seconds(seconds), Some(kept)) => Meter::Rate(rate::Count::kept(kept, *seconds)),
            (Span::Calendar(_), kept) => Meter::Quota(kept.map(Count::kept).unwrap_or_default()),
        }
    }

    /// The prefix of its meters' names.
    pub(crate) fn kind(&self) -> &'static str {
        match self.span {
            Span::Seconds(_) => RATE,
            Span::Calendar(_) => USED,
        }
    }

    /// Whether it is stored. Rates over a few seconds are not worth a slot in the ledger: after a
    /// restart they are full again.
    pub(crate) fn is_kept(&self) -> bool {
        !matches!(self.span, Span::Seconds(seconds) if seconds < SHORT)
    }

    pub(crate) fn windows(&self) -> Option<&Windows> {
        match &self.span {
            Span::Seconds(_) => None,
            Span::Calendar(windows) => Some(windows),
        }
    }
}

/// The form in stored rows: `month`, `day/consumer`, `60s/1`, `week+330`, `month.31`, `day/consumer@Europe/Berlin`.
impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut zone = None;
        match &self.span {
            Span::Seconds(seconds) => write!(f, "{seconds}s")?,
            Span::Calendar(windows) => {
                let (text, name) = windows.words();
                zone = name;
                write!(f, "{text}")?;
            }
        }
        if self.per_consumer {
            f.write_str("/consumer")?;
        }
        if self.rank > 0 {
            write!(f, "/{}", self.rank)?;
        }
        // Last, because names have slashes.
        zone.map_or(Ok(()), |zone| write!(f, "@{zone}"))
    }
}

/// The text is not a class.
#[derive(Debug)]
pub(crate) struct NoClass;

impl FromStr for Class {
    type Err = NoClass;

    fn from_str(text: &str) -> Result<Self, NoClass> {
        let (text, zone) = match text.split_once('@') {
            Some((text, zone)) => (text, Some(zone)),
            None => (text, None),
        };
        let mut words = text.split('/');
        let span = match words.next().unwrap_or_default() {
            text if zone.is_none() && text.starts_with(|c: char| c.is_ascii_digit()) => {
                let seconds = text.strip_suffix('s').and_then(|number| number.parse().ok());
                Span::Seconds(seconds.ok_or(NoClass)?)
            }
            text => Span::Calendar(Windows::read(text, zone).ok_or(NoClass)?),
        };
        let mut class = Self { span, per_consumer: false, rank: 0 };
        for word in words {
            match word {
                "consumer" => class.per_consumer = true,
                rank => class.rank = rank.parse().map_err(|_| NoClass)?,
            }
        }
        Ok(class)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_is_written_as_it_is_read() {
        for text in [
            "month",
            "day/consumer",
            "60s",
            "3600s/consumer/2",
            "month/15",
            "week-90/consumer",
            "year",
            "week.7",
            "month.31/consumer",
            "year.2.29-90/1",
            "month.15/consumer/3@Europe/Berlin",
            "day@Europe/Berlin",
            "month/consumer/3@America/Argentina/Buenos_Aires",
        ] {
            assert_eq!(text.parse::<Class>().unwrap().to_string(), text);
        }
        for text in ["", "quota", "60", "month/x", "month+", "decade+60", "60s@UTC", "day+60@UTC"] {
            assert!(text.parse::<Class>().is_err(), "{text}");
        }
        for text in
            ["day.1", "week.8", "week.0", "month.32", "month.", "month.1.2", "year.5", "year.13.1"]
        {
            assert!(text.parse::<Class>().is_err(), "{text}");
        }
    }

    #[test]
    fn limits_of_one_plan_never_share_a_class_and_the_tightest_comes_first() {
        let spec = |amount, blocks| Spec { blocks, ..Spec::rate("r", amount, 60) };
        let plan = [spec(10, false), spec(20, true), spec(5, true), Spec::rate("r", 5, 61)];
        let ranks: Vec<_> = Class::of(&plan).into_iter().map(|class| class.rank).collect();
        assert_eq!(ranks, [2, 1, 0, 0]);
    }
}
