//! Quotas in time zones.

use std::sync::Arc;

use super::kept::Memory;
use super::*;
use imp_enforce::{Ledger, ParseError, is_over};
use imp_grammar::caps;
use pb::limit::Window;

const BERLIN: &str = "Europe/Berlin";

fn zone(name: &str, rule: &str) -> pb::TimeZone {
    pb::TimeZone { name: name.into(), rule: rule.into(), changes: vec![] }
}

pub(super) fn berlin() -> pb::TimeZone {
    zone(BERLIN, "CET-1CEST,M3.5.0,M10.5.0/3")
}

fn beirut() -> pb::TimeZone {
    zone("Asia/Beirut", "EET-2EEST,M3.5.0/0,M10.5.0/0")
}

/// A limit in a zone, with its standard time for agents that do not know zones.
fn quota(amount: u64, window: Window, zone: &pb::TimeZone) -> pb::Limit {
    pb::Limit {
        time_zone: zone.name.clone(),
        utc_offset_minutes: 60,
        ..limit("quota", amount, window)
    }
}

pub(super) fn in_zone(limit: pb::Limit, zone: pb::TimeZone) -> pb::Entitlement {
    pb::Entitlement { limits: vec![limit], time_zones: vec![zone], ..entitlement() }
}

fn engine_in(limit: pb::Limit, zone: pb::TimeZone) -> Engine {
    let engine = engine();
    entitle(&engine, &in_zone(limit, zone));
    engine
}

pub(super) fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

/// Uses a quota up, and tells the length of the window and when it ends.
pub(super) fn window_of(engine: &Engine, now: DateTime<Utc>) -> (u64, DateTime<Utc>) {
    while passes(engine, now) {}
    let denial = decide(engine, &call(Some(KEY), now)).unwrap_err();
    assert_eq!(denial.code, "quota_exceeded");
    let number = |name: &str, key: &str| {
        let value = header(&denial.response_headers, name).unwrap();
        let of_key = value.split(';').find_map(|part| part.strip_prefix(key));
        of_key.unwrap().parse::<u64>().unwrap()
    };
    let wait = denial.retry_after.unwrap();
    assert_eq!(number("ratelimit", "t="), wait);
    let end = now + TimeDelta::seconds(wait.cast_signed());
    (number("ratelimit-policy", "w=") / 3_600, end)
}

#[test]
fn a_day_of_a_zone_has_23_24_or_25_hours() {
    for (now, hours, end) in [
        ("2027-03-27T12:00:00Z", 24, "2027-03-27T23:00:00Z"),
        ("2027-03-27T23:00:00Z", 23, "2027-03-28T22:00:00Z"),
        ("2027-03-28T21:59:59Z", 23, "2027-03-28T22:00:00Z"),
        ("2027-10-30T22:00:00Z", 25, "2027-10-31T23:00:00Z"),
        ("2027-10-31T22:59:59Z", 25, "2027-10-31T23:00:00Z"),
    ] {
        let engine = engine_in(quota(3, Window::CalendarDay, &berlin()), berlin());
        assert_eq!(window_of(&engine, at(now)), (hours, at(end)), "{now}");
        assert!(!passes(&engine, at(end) - TimeDelta::seconds(1)), "{now}");
        assert!(passes(&engine, at(end)), "{now}");
    }
}

#[test]
fn a_day_without_a_midnight_and_one_with_two_are_one_window() {
    for (now, hours, end) in [
        // 00:00 becomes 01:00.
        ("2027-03-27T22:00:00Z", 23, "2027-03-28T21:00:00Z"),
        // 24:00 becomes 23:00 of the same day.
        ("2027-10-29T21:00:00Z", 25, "2027-10-30T22:00:00Z"),
    ] {
        let engine = engine_in(quota(1, Window::CalendarDay, &beirut()), beirut());
        assert_eq!(window_of(&engine, at(now)), (hours, at(end)), "{now}");
        // No second more of a window in all its hours.
        let in_window =
            (0..hours * 4).map(|quarter| TimeDelta::minutes(15 * quarter.cast_signed()));
        assert!(in_window.clone().all(|since| !passes(&engine, at(now) + since)), "{now}");
        assert!(passes(&engine, at(end)), "{now}");
    }
}

#[test]
fn weeks_months_and_years_follow_the_zone() {
    let (summer, winter) = (at("2027-03-28T12:00:00Z"), at("2027-10-31T12:00:00Z"));
    for (window, now, hours, end) in [
        (Window::CalendarWeek, summer, 7 * 24 - 1, "2027-03-28T22:00:00Z"),
        (Window::CalendarWeek, winter, 7 * 24 + 1, "2027-10-31T23:00:00Z"),
        (Window::CalendarMonth, summer, 31 * 24 - 1, "2027-03-31T22:00:00Z"),
        (Window::CalendarMonth, winter, 31 * 24 + 1, "2027-10-31T23:00:00Z"),
        (Window::CalendarYear, winter, 365 * 24, "2027-12-31T23:00:00Z"),
        (Window::CalendarYear, at("2027-12-31T23:00:00Z"), 366 * 24, "2028-12-31T23:00:00Z"),
    ] {
        let engine = engine_in(quota(1, window, &berlin()), berlin());
        assert_eq!(window_of(&engine, now), (hours, at(end)), "{window:?}");
    }
}

#[test]
fn changes_come_before_the_rule() {
    // Daylight saving time is given up: the last change is the one of March 2027.
    let changes = [("2026-10-25T01:00:00Z", 3_600), ("2027-03-28T01:00:00Z", 7_200)];
    let changes = changes.map(|(when, utc_offset_seconds)| pb::OffsetChange {
        at: at(when).timestamp(),
        utc_offset_seconds,
    });
    let zone = pb::TimeZone { changes: changes.to_vec(), ..zone(BERLIN, "CEST-2") };
    let engine = engine_in(quota(1, Window::CalendarMonth, &zone), zone);
    assert_eq!(window_of(&engine, start()), (30 * 24, at("2026-11-30T23:00:00Z")));
    let winter = at("2028-01-15T12:00:00Z");
    assert_eq!(window_of(&engine, winter), (31 * 24, at("2028-01-31T22:00:00Z")));
}

#[test]
fn a_count_goes_on_when_the_rules_of_its_zone_change() {
    let engine = engine_in(quota(2, Window::CalendarMonth, &berlin()), berlin());
    assert!(passes(&engine, start()));
    let abolished = zone(BERLIN, "CET-1");
    entitle(&engine, &in_zone(quota(2, Window::CalendarMonth, &abolished), abolished));
    assert!(passes(&engine, start()));
    assert!(!passes(&engine, start()), "one of two was used under the former rules");
    let summer = at("2027-06-15T12:00:00Z");
    assert_eq!(window_of(&engine, summer).1, at("2027-06-30T23:00:00Z"), "the new rules");
}

#[test]
fn windows_of_different_zones_are_counted_apart() {
    let engine = engine_in(quota(1, Window::CalendarDay, &berlin()), berlin());
    assert!(passes(&engine, start()) && !passes(&engine, start()));
    entitle(&engine, &in_zone(quota(1, Window::CalendarDay, &beirut()), beirut()));
    assert!(passes(&engine, start()) && !passes(&engine, start()));
    let fixed = pb::Limit { utc_offset_minutes: 60, ..limit("quota", 1, Window::CalendarDay) };
    entitle(&engine, &pb::Entitlement { limits: vec![fixed], ..entitlement() });
    assert!(passes(&engine, start()) && !passes(&engine, start()));
    // And none of them is lost.
    entitle(&engine, &in_zone(quota(1, Window::CalendarDay, &berlin()), berlin()));
    assert!(!passes(&engine, start()));
    // Two zones in one plan.
    let both = [berlin(), beirut()];
    let limits = both.each_ref().map(|zone| quota(9, Window::CalendarMonth, zone)).to_vec();
    let time_zones = both.to_vec();
    entitle(&engine, &pb::Entitlement { limits, time_zones, ..entitlement() });
    let passed = decide(&engine, &call(Some(KEY), start())).unwrap();
    let left = admitted(&passed, "ratelimit").unwrap().to_owned();
    assert_eq!(left, r#""quota";r=8;t=558000, "quota";r=8;t=554400"#);
}

#[test]
fn a_stored_count_goes_on_and_is_over_when_it_is_over_everywhere() {
    let memory = Memory::default();
    let ledger: Arc<dyn Ledger> = Arc::new(memory.clone());
    let engine = || {
        let engine = Engine::kept_in(ledger.clone());
        engine.put_publish(PublishAccess::from(&publish()));
        give_key(&engine, &credential("cred", KEY));
        let mut own = quota(2, Window::CalendarDay, &berlin());
        own.scope = pb::limit::Scope::Consumer.into();
        entitle(&engine, &in_zone(own, berlin()));
        engine
    };
    assert!(passes(&engine(), start()) && passes(&engine(), start()));
    assert!(!passes(&engine(), start()), "two a day, whatever the process");
    let stored = memory.kept("used");
    let [(name, count)] = stored.as_slice() else { panic!("{stored:?}") };
    assert!(name.starts_with("used\tday/consumer@Europe/Berlin\t"), "{name}");
    // 13:00 in Berlin. Where the rules are not known the day may last for 26 hours more.
    for (hours, over) in [(0, false), (11, false), (25, false), (26, true)] {
        assert_eq!(is_over(name, *count, after(hours * 3_600)), over, "{hours}");
    }
    assert!(passes(&engine(), after(11 * 3_600)), "the next day in Berlin");
}

#[test]
fn idle_consumers_of_a_zone_are_kept_until_their_window_has_ended() {
    let mut own = quota(1, Window::CalendarDay, &berlin());
    own.scope = pb::limit::Scope::Consumer.into();
    let engine = engine_in(own, berlin());
    assert!(passes(&engine, start()));
    for hours in [0, 10] {
        engine.evict_idle(after(hours * 3_600));
        assert!(!passes(&engine, after(hours * 3_600)), "{hours}");
    }
    let snapshot = engine.snapshot(start());
    assert_eq!(snapshot.quotas[0].limit, "day/consumer@Europe/Berlin");
    let restored = engine_in(limit("other", 1, Window::Rolling), berlin());
    restored.restore(snapshot);
    let mut own = quota(1, Window::CalendarDay, &berlin());
    own.scope = pb::limit::Scope::Consumer.into();
    entitle(&restored, &in_zone(own, berlin()));
    assert!(!passes(&restored, start()));
    assert!(passes(&restored, after(11 * 3_600)));
}

#[test]
fn what_names_no_time_zone_is_refused() {
    let good = in_zone(quota(1, Window::CalendarDay, &berlin()), berlin());
    assert!(Entitlement::parse(&good).is_ok());
    let missing = pb::Entitlement { time_zones: vec![beirut()], ..good.clone() };
    assert_eq!(Entitlement::parse(&missing), Err(ParseError::Missing("time_zones")));
    let broken = pb::Entitlement { time_zones: vec![zone(BERLIN, "CET")], ..good.clone() };
    let error = Entitlement::parse(&broken).unwrap_err().to_string();
    assert!(error.starts_with("time_zones: the rule is not"), "{error}");
    let zones = |number| pb::Entitlement {
        time_zones: std::iter::repeat_n(berlin(), number).collect(),
        ..good.clone()
    };
    let most = caps::TIME_ZONES_PER_ENTITLEMENT.size();
    assert!(Entitlement::parse(&zones(most)).is_ok());
    assert_eq!(Entitlement::parse(&zones(most + 1)), Err(ParseError::TooManyTimeZones));
}
