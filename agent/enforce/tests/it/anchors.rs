//! Quotas whose windows begin on the day of the subscription.

use std::sync::Arc;

use super::kept::Memory;
use super::time_zones::{at, berlin, in_zone, window_of};
use super::*;
use imp_enforce::{Ledger, ParseError, is_over};
use pb::limit::Window;

/// Days since 1970-01-01.
fn day(text: &str) -> u32 {
    u32::try_from(at(&format!("{text}T00:00:00Z")).timestamp() / 86_400).unwrap()
}

fn anchored(amount: u64, window: Window, date: &str) -> pb::Limit {
    pb::Limit { anchor_day: day(date), ..limit("quota", amount, window) }
}

fn entitled(limit: pb::Limit) -> pb::Entitlement {
    pb::Entitlement { limits: vec![limit], ..entitlement() }
}

#[test]
fn months_from_the_31st_go_over_a_short_february() {
    for (year, february) in [("2027", "2027-02-28"), ("2028", "2028-02-29")] {
        let engine = with_limits(vec![anchored(2, Window::CalendarMonth, "2026-08-31")]);
        let starts = [&format!("{year}-01-31"), february, &format!("{year}-03-31")];
        let [january, february, march] = starts.map(|date| at(&format!("{date}T00:00:00Z")));
        let (hours, end) = window_of(&engine, january);
        assert_eq!(
            (i64::try_from(hours).unwrap(), end),
            ((february - january).num_hours(), february)
        );
        let second = TimeDelta::seconds(1);
        assert!(!passes(&engine, february - second));
        assert!(passes(&engine, february));
        assert_eq!(window_of(&engine, february).1, march);
        assert!(!passes(&engine, march - second) && passes(&engine, march));
    }
}

#[test]
fn weeks_and_years_begin_on_the_day_of_the_subscription() {
    // A Thursday.
    let now = at("2027-11-25T12:00:00Z");
    for (window, date, hours, end) in [
        (Window::CalendarWeek, "2026-11-26", 7 * 24, "2027-12-02T00:00:00Z"),
        (Window::CalendarWeek, "2026-11-27", 7 * 24, "2027-11-26T00:00:00Z"),
        (Window::CalendarYear, "2026-11-26", 365 * 24, "2027-11-26T00:00:00Z"),
        (Window::CalendarYear, "2024-02-29", 366 * 24, "2028-02-29T00:00:00Z"),
        // A day has no use for it, and a rate neither.
        (Window::CalendarDay, "2026-11-26", 24, "2027-11-26T00:00:00Z"),
    ] {
        let engine = with_limits(vec![anchored(1, window, date)]);
        assert_eq!(window_of(&engine, now), (hours, at(end)), "{window:?} {date}");
    }
    // 00:00 of the time zone.
    let quota =
        pb::Limit { time_zone: berlin().name, ..anchored(1, Window::CalendarMonth, "2026-03-28") };
    let engine = engine();
    entitle(&engine, &in_zone(quota, berlin()));
    let (hours, end) = window_of(&engine, at("2027-03-27T23:00:00Z"));
    assert_eq!((hours, end), (31 * 24 - 1, at("2027-04-27T22:00:00Z")));
}

#[test]
fn an_upgrade_of_the_plan_goes_on_in_the_same_window() {
    let engine = with_limits(vec![anchored(2, Window::CalendarMonth, "2026-10-31")]);
    let now = at("2027-03-05T00:00:00Z");
    assert!(passes(&engine, now) && passes(&engine, now) && !passes(&engine, now));
    let more = pb::Entitlement {
        plan_id: "gold".into(),
        ..entitled(pb::Limit {
            name: "more".into(),
            ..anchored(3, Window::CalendarMonth, "2026-10-31")
        })
    };
    entitle(&engine, &more);
    assert!(passes(&engine, now) && !passes(&engine, now), "two of three were used");
    assert_eq!(window_of(&engine, now).1, at("2027-03-31T00:00:00Z"));
}

#[test]
fn windows_of_different_anchors_are_counted_apart() {
    let engine = with_limits(vec![limit("quota", 1, Window::CalendarMonth)]);
    let calendar = || entitled(limit("quota", 1, Window::CalendarMonth));
    let from = |date| entitled(anchored(1, Window::CalendarMonth, date));
    assert!(passes(&engine, start()) && !passes(&engine, start()));
    for date in ["2026-10-30", "2026-10-31"] {
        entitle(&engine, &from(date));
        assert!(passes(&engine, start()) && !passes(&engine, start()), "{date}");
    }
    // None is lost, and the same day of another month is the same.
    for known in [calendar(), from("2026-10-30"), from("2025-05-31"), from("2026-11-01")] {
        entitle(&engine, &known);
        assert!(!passes(&engine, start()), "{known:?}");
    }
}

#[test]
fn a_count_of_an_anchor_survives_a_restart_and_is_over_in_time() {
    let memory = Memory::default();
    let ledger: Arc<dyn Ledger> = Arc::new(memory.clone());
    let now = at("2027-02-28T00:00:00Z");
    let engine = || {
        let engine = Engine::kept_in(ledger.clone());
        engine.put_publish(PublishAccess::from(&publish()));
        give_key(&engine, &credential("cred", KEY));
        entitle(&engine, &entitled(anchored(2, Window::CalendarMonth, "2026-08-31")));
        engine
    };
    assert!(passes(&engine(), now) && passes(&engine(), now));
    assert!(!passes(&engine(), now), "two a month, whatever the process");
    let stored = memory.kept("used");
    let [(name, count)] = stored.as_slice() else { panic!("{stored:?}") };
    assert!(name.starts_with("used\tmonth.31\t"), "{name}");
    for (when, over) in [
        ("2027-02-28T00:00:00Z", false),
        ("2027-03-30T23:59:59Z", false),
        ("2027-03-31T00:00:00Z", true),
    ] {
        assert_eq!(is_over(name, *count, at(when)), over, "{when}");
    }
    let again = engine();
    assert!(!passes(&again, now));
    let snapshot = again.snapshot(now);
    assert_eq!(snapshot.quotas[0].limit, "month.31");
}

#[test]
fn what_is_not_a_day_is_refused() {
    let last = pb::Limit { anchor_day: 2_932_896, ..limit("quota", 1, Window::CalendarYear) };
    assert!(Entitlement::parse(&entitled(last.clone())).is_ok());
    for anchor_day in [2_932_897, u32::MAX] {
        let beyond = entitled(pb::Limit { anchor_day, ..last.clone() });
        assert_eq!(Entitlement::parse(&beyond), Err(ParseError::AnchorDay(anchor_day)));
    }
}
