//! Limits: how much of them is used, and taking one call from several at once.

use std::borrow::Borrow;

use chrono::{DateTime, Utc};

use crate::few::Few;
use crate::headers::{Header, Headers};
use crate::meter::Meter;
use crate::meters::Mine;
use crate::rate::{Standing, Taken};
use crate::spec::{Spec, Window, nanos};

/// One holder's share of a limit.
pub(crate) struct Held<'a> {
    spec: &'a Spec,
    meter: Mine<'a>,
    /// Where the call is counted.
    counted: Option<Counted>,
    /// What is left after it, see [`Held::state`].
    left: Option<(u64, u64)>,
}

/// The limits of a call: seldom more than those of a plan and of a route.
pub(crate) type AllHeld<'a> = Few<Held<'a>, 3>;

/// The state of a limit, as shown to callers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Report<'a> {
    name: &'a str,
    amount: u64,
    window_seconds: u64,
    remaining: u64,
    /// Seconds until more calls are possible.
    more_in: u64,
}

/// A call exceeded one of its limits.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Exceeded<'a> {
    /// True for a calendar quota, false for a rate.
    pub(crate) quota: bool,
    /// Seconds; at least 1.
    pub(crate) retry_after: u64,
    pub(crate) reports: Vec<Report<'a>>,
}

impl<'a> Held<'a> {
    pub(crate) fn new(spec: &'a Spec, meter: Mine<'a>) -> Self {
        Self { spec, meter, counted: None, left: None }
    }

    /// Adds it to the list. Of limits with the same count only the tightest is taken from.
    pub(crate) fn add_to(self, held: &mut AllHeld<'a>) {
        let same = held
            .iter_mut()
            .find(|held| std::ptr::eq(&raw const *held.meter, &raw const *self.meter));
        match same {
            Some(same) if same.spec.amount <= self.spec.amount => {}
            Some(same) => *same = self,
            None => held.push(self),
        }
    }

    fn look(&self, now: DateTime<Utc>) -> Report<'a> {
        self.report(now, self.left.unwrap_or_else(|| self.state(now)))
    }

    /// Remaining calls, and seconds until there are more.
    fn state(&self, now: DateTime<Utc>) -> (u64, u64) {
        match (&*self.meter, &self.spec.window) {
            (Meter::Rate(count), Window::Rolling { rate, .. }) => {
                left(count.look(*rate, nanos(now)))
            }
            (Meter::Quota(count), Window::Calendar(calendar)) => {
                let used = count.used(calendar.ordinal(now));
                (self.spec.amount.saturating_sub(used), calendar.ends_in(now))
            }
            // A meter is created for its limit's own window.
            _ => (0, 1),
        }
    }

    fn report(&self, now: DateTime<Utc>, (remaining, more_in): (u64, u64)) -> Report<'a> {
        let window_seconds = match &self.spec.window {
            Window::Rolling { seconds, .. } => *seconds,
            Window::Calendar(calendar) => calendar.seconds(now),
        };
        let (name, amount) = (self.spec.name.as_str(), self.spec.amount);
        Report { name, amount, window_seconds, remaining, more_in }
    }

    /// Counts one call. False if it exceeds the limit.
    fn take(&mut self, now: DateTime<Utc>) -> bool {
        let blocks = self.spec.blocks;
        match (&*self.meter, &self.spec.window) {
            (Meter::Rate(count), Window::Rolling { rate, .. }) => {
                let Ok((taken, standing)) = count.take(*rate, nanos(now)) else {
                    // A used-up rate that does not block is not counted.
                    return !blocks;
                };
                self.left = Some(left(standing));
                self.counted = Some(Counted::InRate(taken));
                true
            }
            (Meter::Quota(count), Window::Calendar(calendar)) => {
                let amount = if blocks { self.spec.amount } else { u64::MAX };
                let window = calendar.ordinal(now);
                if count.take(window, amount).is_err() {
                    return !blocks;
                }
                self.counted = Some(Counted::InQuota(window));
                true
            }
            _ => false,
        }
    }

    fn give_back(&mut self) {
        self.left = None;
        match (&*self.meter, self.counted.take()) {
            (Meter::Rate(count), Some(Counted::InRate(taken))) => count.give_back(taken),
            (Meter::Quota(count), Some(Counted::InQuota(window))) => count.give_back(window),
            _ => {}
        }
    }
}

/// Where a call was counted.
#[derive(Clone, Copy)]
enum Counted {
    InRate(Taken),
    /// In this window.
    InQuota(u64),
}

/// Takes one call from all of these limits, or from none: first all are checked, then taken from
/// one by one; if a concurrent call used one up meanwhile, what was taken is given back. So a call
/// may be refused that would just have passed, but none passes that should not.
///
/// Limits that do not block are taken last, so that they never need to give anything back.
pub(crate) fn take_all<'a>(held: &mut AllHeld<'a>, now: DateTime<Utc>) -> Result<(), Exceeded<'a>> {
    let blocking = || held.iter().filter(|held| held.spec.blocks);
    // One alone is checked as it is taken from.
    let several = blocking().nth(1).is_some();
    if several && blocking().any(|held| held.state(now).0 == 0) {
        return Err(exceeded(held, now));
    }
    if !held.iter_mut().filter(|held| held.spec.blocks).all(|held| held.take(now)) {
        held.iter_mut().for_each(Held::give_back);
        return Err(exceeded(held, now));
    }
    for held in held.iter_mut().filter(|held| !held.spec.blocks) {
        held.take(now);
    }
    Ok(())
}

/// The limits of a call that was counted, as callers see them.
pub(crate) fn reports<'a>(
    held: &AllHeld<'a>,
    now: DateTime<Utc>,
) -> impl Iterator<Item = Report<'a>> {
    held.iter().map(move |held| held.look(now))
}

/// The error for the used-up limit that lasts longest, which determines when to retry.
fn exceeded<'a>(held: &AllHeld<'a>, now: DateTime<Utc>) -> Exceeded<'a> {
    let used_up = held.iter().filter(|held| held.spec.blocks && held.state(now).0 == 0);
    let longest = used_up.map(|held| (held.state(now).1, held.spec.is_quota())).max();
    let (retry_after, quota) = longest.unwrap_or((1, false));
    let reports = reports(held, now).collect();
    Exceeded { quota, retry_after: retry_after.max(1), reports }
}

/// The largest integer of a structured field (RFC 9651).
const MAX_INTEGER: u64 = 999_999_999_999_999;

/// The headers `RateLimit-Policy` and `RateLimit` of the IETF draft; none without a limit.
pub(crate) fn headers<'a>(reports: impl IntoIterator<Item = impl Borrow<Report<'a>>>) -> Headers {
    let [mut policies, mut lefts] = [const { None::<Header> }; 2];
    for report in reports {
        let Report { name, amount, window_seconds, remaining, more_in } = *report.borrow();
        item(policies.get_or_insert_default(), name, [("q", amount), ("w", window_seconds)]);
        item(lefts.get_or_insert_default(), name, [("r", remaining), ("t", more_in)]);
    }
    let policies = policies.map(|policies| ("ratelimit-policy", policies));
    let lefts = lefts.map(|lefts| ("ratelimit", lefts));
    policies.into_iter().chain(lefts).collect()
}

/// Adds an item with its parameters to a list.
fn item(list: &mut Header, name: &str, parameters: [(&str, u64); 2]) {
    if !list.as_str().is_empty() {
        list.push_str(", ");
    }
    quoted(list, name);
    for (key, number) in parameters {
        list.push(';');
        list.push_str(key);
        list.push('=');
        decimal(list, number.min(MAX_INTEGER));
    }
}

fn decimal(text: &mut Header, mut number: u64) {
    let (mut digits, mut at) = ([0; 20], 20);
    loop {
        at -= 1;
        if let Some(digit) = digits.get_mut(at) {
            *digit = b'0' + (number % 10) as u8;
        }
        number /= 10;
        if number == 0 {
            break;
        }
    }
    let digits = digits.get(at..).unwrap_or_default();
    text.push_str(std::str::from_utf8(digits).unwrap_or_default());
}

/// Encodes a string of a structured field (RFC 9651): ASCII only, quotes and backslashes escaped.
fn quoted(out: &mut Header, text: &str) {
    out.push('"');
    let is_plain = |byte: u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
    if text.bytes().all(is_plain) {
        out.push_str(text);
    } else {
        for c in text.chars() {
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                ' '..='~' => out.push(c),
                _ => out.push('?'),
            }
        }
    }
    out.push('"');
}

/// Remaining calls, and seconds until there are more.
fn left(standing: Standing) -> (u64, u64) {
    (standing.remaining, seconds_up(standing.more_in))
}

fn seconds_up(nanos: i64) -> u64 {
    u64::try_from(nanos).unwrap_or(0).div_ceil(1_000_000_000)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use imp_proto::config as pb;

    use super::*;
    use crate::account::Account;
    use crate::class::Class;
    use crate::id::Id;
    use crate::meters::Meters;

    struct Limit {
        spec: Spec,
        meters: Arc<Meters>,
    }

    impl Limit {
        fn new(spec: Spec) -> Self {
            let meters = Arc::new(Meters::new(Class::alone(&spec), None));
            Self { spec, meters }
        }

        fn held(&self, consumer: &Id) -> Held<'_> {
            Held::new(&self.spec, self.meters.of_holder(consumer))
        }
    }

    fn now() -> DateTime<Utc> {
        "2026-11-24T12:00:00Z".parse().unwrap()
    }

    fn limit(name: &str, amount: u64, window: pb::limit::Window) -> pb::Limit {
        pb::Limit {
            name: name.into(),
            amount,
            window: window.into(),
            window_seconds: 60,
            on_exceed: pb::limit::OnExceed::Block.into(),
            ..Default::default()
        }
    }

    fn rate(name: &str, amount: u64) -> Limit {
        Limit::new(Spec::parse(&limit(name, amount, pb::limit::Window::Rolling), None))
    }

    fn quota(name: &str, amount: u64) -> Limit {
        Limit::new(Spec::parse(&limit(name, amount, pb::limit::Window::CalendarMonth), None))
    }

    fn take<'a>(limits: &[&'a Limit]) -> Result<Vec<Report<'a>>, Exceeded<'a>> {
        let consumer: Id = "c".into();
        let mut held = limits.iter().map(|limit| limit.held(&consumer)).collect();
        take_all(&mut held, now())?;
        Ok(reports(&held, now()).collect())
    }

    /// The values of the headers.
    fn shown(reports: &[Report<'_>]) -> [String; 2] {
        let headers = headers(reports.iter());
        let value = |index| headers.iter().nth(index).map_or("", |(_, value)| value.as_str());
        [value(0), value(1)].map(str::to_owned)
    }

    #[test]
    fn a_call_that_is_too_much_for_one_limit_takes_nothing_from_the_others() {
        let (wide, narrow) = (quota("quota", 10), rate("rate", 2));
        for _ in 0..2 {
            assert!(take(&[&wide, &narrow]).is_ok());
        }
        for _ in 0..5 {
            let exceeded = take(&[&wide, &narrow]).unwrap_err();
            assert_eq!((exceeded.quota, exceeded.retry_after), (false, 60));
        }
        let [_, left] = shown(&take(&[&wide]).unwrap());
        assert_eq!(left, r#""quota";r=7;t=561600"#);
    }

    #[test]
    fn the_longest_wait_decides() {
        let (quota, rate) = (quota("quota", 1), rate("rate", 1));
        assert!(take(&[&quota, &rate]).is_ok());
        let exceeded = take(&[&quota, &rate]).unwrap_err();
        assert_eq!((exceeded.quota, exceeded.retry_after), (true, 561_600));
    }

    #[test]
    fn threads_racing_for_two_limits_leave_no_partial_takes() {
        let limits = Arc::new((quota("quota", 1_000), rate("rate", 300)));
        let threads: Vec<_> = (0..8)
            .map(|_| {
                let limits = limits.clone();
                std::thread::spawn(move || {
                    (0..200).filter(|_| take(&[&limits.0, &limits.1]).is_ok()).count()
                })
            })
            .collect();
        let taken: usize = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
        assert_eq!(taken, 300);
        let counts = limits.0.meters.counts(now());
        assert_eq!(counts.first().map(|(_, _, used)| *used), Some(300));
    }

    #[test]
    fn overage_counts_and_never_blocks() {
        let mut soft = limit("soft", 1, pb::limit::Window::CalendarDay);
        soft.on_exceed = pb::limit::OnExceed::Overage.into();
        let soft = Limit::new(Spec::parse(&soft, None));
        for _ in 0..3 {
            assert!(take(&[&soft]).is_ok());
        }
        assert_eq!(soft.meters.counts(now()).first().map(|(_, _, used)| *used), Some(3));
    }

    #[test]
    fn a_window_that_is_newer_than_the_engine_is_the_longest() {
        let unknown =
            pb::Limit { window: 99, window_seconds: 0, ..limit("new", 1, Default::default()) };
        let unknown = Limit::new(Spec::parse(&unknown, None));
        assert!(take(&[&unknown]).is_ok());
        assert_eq!(take(&[&unknown]).unwrap_err().retry_after, 3_240_000, "next year");
    }

    #[test]
    fn numbers_stay_within_what_a_structured_field_can_say() {
        let [huge, _] = shown(&take(&[&rate("huge", u64::MAX)]).unwrap());
        assert_eq!(huge, r#""huge";q=999999999999999;w=60"#);
    }

    #[test]
    fn names_cannot_break_out_of_the_header() {
        let mut out = Header::default();
        quoted(&mut out, "a\"b\\c\u{e9}\n");
        assert_eq!(out.as_str(), r#""a\"b\\c??""#);
    }

    #[test]
    fn idle_consumers_are_forgotten() {
        let mut own = limit("own", 5, pb::limit::Window::Rolling);
        own.scope = pb::limit::Scope::Consumer.into();
        let (account, spec) = (Account::default(), Spec::parse(&own, None));
        let class = Class::alone(&spec);
        let own = Limit { spec, meters: account.meters(class) };
        for index in 0..100 {
            let consumer: Id = format!("c{index}").as_str().into();
            let mut held = [own.held(&consumer)].into_iter().collect();
            assert!(take_all(&mut held, now()).is_ok());
        }
        account.evict_idle(now());
        assert_eq!(own.meters.holders(), 100, "they have used some of it");
        account.evict_idle(now() + chrono::TimeDelta::seconds(61));
        assert_eq!(own.meters.holders(), 0);
        drop(own);
        account.evict_idle(now());
        assert!(account.is_empty());
    }
}
