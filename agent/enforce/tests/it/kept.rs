//! Stored counts survive the engine, even without a shutdown.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use super::*;
use imp_enforce::{Counter, Ledger, Pair, Place, is_over};
use pb::limit::Window;

/// Names in order of their places, and the numbers.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory {
    names: Arc<Mutex<Vec<String>>>,
    counts: Arc<Mutex<HashMap<u32, Pair>>>,
    full: Arc<Mutex<bool>>,
}

impl Memory {
    pub(super) fn kept(&self, kind: &str) -> Vec<(String, Pair)> {
        let names = self.names.lock().unwrap().clone();
        let counts = self.counts.lock().unwrap();
        let all = (0..).zip(names).map(|(at, name)| (name, counts[&at]));
        all.filter(|(name, _)| name.starts_with(kind)).collect()
    }
}

impl Ledger for Memory {
    fn place(&self, name: &str) -> Option<(Place, Pair)> {
        let mut names = self.names.lock().unwrap();
        let known = names.iter().position(|known| known == name);
        if known.is_none() && *self.full.lock().unwrap() {
            return None;
        }
        let at = known.unwrap_or_else(|| {
            names.push(name.to_owned());
            names.len() - 1
        });
        let place = u32::try_from(at).unwrap();
        let count = *self.counts.lock().unwrap().entry(place).or_default();
        Some((Place(place), count))
    }

    fn keep(&self, Place(place): Place, count: Pair) {
        self.counts.lock().unwrap().insert(place, count);
    }

    fn keep_committed(&self, _: Place, _: Pair) {}
    fn rebase(&self) {}
    fn release(&self, _: Place) {}
    fn free(&self, _: Place) {}
}

fn limits() -> Vec<pb::Limit> {
    let mut own = limit("own", 3, Window::CalendarDay);
    own.scope = pb::limit::Scope::Consumer.into();
    let hourly = pb::Limit { window_seconds: 3_600, ..limit("rate", 4, Window::Rolling) };
    vec![limit("quota", 5, Window::CalendarMonth), own, hourly]
}

fn engine_on(memory: &Memory) -> Engine {
    let engine = Engine::kept_in(Arc::new(memory.clone()));
    let counters = memory.kept("calls").into_iter();
    engine.resume_usage(
        counters.filter_map(|(name, count)| Some((Counter::kept(&name, count)?, [0, 0]))).collect(),
    );
    engine.put_publish(PublishAccess::from(&publish()));
    give_key(&engine, &credential("cred", KEY));
    entitle(&engine, &pb::Entitlement { limits: limits(), ..entitlement() });
    engine
}

#[test]
fn counters_quotas_and_long_rates_go_on_after_every_single_call() {
    let memory = Memory::default();
    for calls in 1..=3 {
        assert!(passes(&engine_on(&memory), start()), "{calls}");
        let counted = engine_on(&memory).usage_changed_since(0).1;
        assert_eq!(counted.iter().map(|counter| counter.allowed).sum::<u64>(), calls);
    }
    assert!(!passes(&engine_on(&memory), start()), "three a day");
    assert!(passes(&engine_on(&memory), after(86_400)));
    assert!(passes(&engine_on(&memory), after(86_400)));
    assert!(!passes(&engine_on(&memory), after(86_400)), "five a month");
}

#[test]
fn an_hourly_rate_is_not_full_again_after_a_restart() {
    let memory = Memory::default();
    let hourly = pb::Limit { window_seconds: 3_600, ..limit("rate", 4, Window::Rolling) };
    let engine = || {
        let engine = engine_on(&memory);
        let limits = vec![hourly.clone()];
        entitle(&engine, &pb::Entitlement { limits, ..entitlement() });
        engine
    };
    for _ in 0..4 {
        assert!(passes(&engine(), start()));
    }
    assert!(!passes(&engine(), start()));
    assert!(!passes(&engine(), after(3_599)));
    assert!(passes(&engine(), after(3_601)), "an hour later");
}

#[test]
fn a_call_that_is_given_back_is_given_back_where_it_is_kept() {
    let memory = Memory::default();
    let engine = engine_on(&memory);
    for _ in 0..10 {
        let _some_pass = passes(&engine, start());
    }
    let month = memory.kept("used\tmonth");
    let [(_, [number, _])] = month.as_slice() else { panic!("{month:?}") };
    assert_eq!(number & 0xff, 3, "those that were refused by the day's limit count in no other");
}

#[test]
fn what_found_no_room_is_brought_there_when_there_is() {
    let memory = Memory::default();
    *memory.full.lock().unwrap() = true;
    let engine = engine_on(&memory);
    assert!(passes(&engine, start()) && passes(&engine, start()), "metering stops nobody");
    assert_eq!(memory.kept(""), []);
    *memory.full.lock().unwrap() = false;
    engine.keep_all();
    assert!(passes(&engine_on(&memory), start()));
    assert!(!passes(&engine_on(&memory), start()), "three a day");
}

#[test]
fn what_is_over_can_be_forgotten_and_nothing_else() {
    let memory = Memory::default();
    assert!(passes(&engine_on(&memory), start()));
    let over = |seconds: i64| {
        let over = memory.kept("").into_iter();
        let over = over.filter(|(name, count)| is_over(name, *count, after(seconds)));
        over.map(|(name, _)| name.split('\t').nth(1).unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(over(0), [""; 0]);
    assert_eq!(over(3_599), [""; 0]);
    assert_eq!(over(3_601), ["3600s"]);
    let mut december = over(10 * 86_400);
    december.sort();
    assert_eq!(december, ["3600s", "day/consumer", "month"]);
    assert!(!is_over("calls\tp\ts\tc\t0", [1, 0], after(0)));
    // As a former release stored a rate: the time at which it is full again.
    let full_again = start().timestamp_nanos_opt().unwrap() as u64;
    assert!(is_over("used\t60s\towner\t", [full_again, 0], start()));
    assert!(!is_over("used\t60s\towner\t", [full_again + 1, 0], start()));
}
