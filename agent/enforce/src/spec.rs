//! The definition of a limit: amount, window and scope.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use imp_grammar::time_zone::TimeZone;
use imp_proto::config as pb;

use crate::calendar::{Calendar, Unit};
use crate::rate::Rate;

/// The definition of a limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Spec {
    pub(crate) name: String,
    pub(crate) amount: u64,
    pub(crate) window: Window,
    /// Whether calls beyond it are refused; otherwise they are only counted.
    pub(crate) blocks: bool,
    /// Whether each consumer has its own count.
    pub(crate) per_consumer: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Window {
    Rolling { rate: Rate, seconds: u64 },
    Calendar(Calendar),
}

impl Spec {
    /// A rate that blocks and that all share.
    pub(crate) fn rate(name: &str, amount: u64, seconds: u64) -> Self {
        let rate = Rate::new(amount, seconds);
        let window = Window::Rolling { rate, seconds: seconds.max(1) };
        Self { name: name.to_owned(), amount, window, blocks: true, per_consumer: false }
    }

    /// Parses a limit that is in this time zone, or at its own offset.
    pub(crate) fn parse(limit: &pb::Limit, zone: Option<&Arc<TimeZone>>) -> Self {
        use pb::limit::{OnExceed, Scope, Window as Wire};
        let calendar = |unit: Unit| {
            let unit = unit.anchored(limit.anchor_day);
            Window::Calendar(match zone {
                Some(zone) => Calendar::in_zone(unit, zone.clone()),
                None => Calendar::at_offset(unit, limit.utc_offset_minutes),
            })
        };
        let window = match limit.window() {
            Wire::CalendarDay => calendar(Unit::Day),
            Wire::CalendarWeek => calendar(Unit::WEEK),
            Wire::CalendarMonth => calendar(Unit::MONTH),
            Wire::CalendarYear => calendar(Unit::YEAR),
            // A newer release's window becomes the longest one, so that it rather lets too few
            // pass.
            Wire::Unspecified if limit.window_seconds == 0 => calendar(Unit::YEAR),
            Wire::Rolling | Wire::Unspecified => Window::Rolling {
                rate: Rate::new(limit.amount, limit.window_seconds),
                seconds: limit.window_seconds.max(1),
            },
        };
        Self {
            name: limit.name.clone(),
            amount: limit.amount,
            window,
            blocks: limit.on_exceed() != OnExceed::Overage,
            per_consumer: limit.scope() == Scope::Consumer,
        }
    }

    /// Whether it is a quota; otherwise a rate.
    pub(crate) fn is_quota(&self) -> bool {
        matches!(self.window, Window::Calendar(_))
    }

    /// Whether a count under `other` has the same meaning here. Counts are calls, whatever the
    /// amount.
    pub(crate) fn continues(&self, other: &Self) -> bool {
        let same_window = match (&self.window, &other.window) {
            (Window::Rolling { seconds: this, .. }, Window::Rolling { seconds: that, .. }) => {
                this == that
            }
            (this, that) => this == that,
        };
        same_window && self.per_consumer == other.per_consumer
    }
}

/// Nanoseconds, the unit of rates.
pub(crate) fn nanos(now: DateTime<Utc>) -> i64 {
    now.timestamp_nanos_opt().unwrap_or(i64::MAX / 2)
}
