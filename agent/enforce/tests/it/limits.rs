//! How many calls pass.

use super::*;
use pb::limit::{OnExceed, Scope, Window};

#[test]
fn a_rate_tells_how_much_is_left_and_when_to_come_back() {
    let engine = with_limits(vec![limit("rate_limit", 5, Window::Rolling)]);
    let first = decide(&engine, &call(Some(KEY), start())).unwrap();
    assert_eq!(admitted(&first, "ratelimit-policy"), Some(r#""rate_limit";q=5;w=60"#));
    assert_eq!(admitted(&first, "ratelimit"), Some(r#""rate_limit";r=4;t=60"#));
    for _ in 0..4 {
        assert!(passes(&engine, start()));
    }
    let denial = decide(&engine, &call(Some(KEY), start())).unwrap_err();
    assert_eq!((denial.status, denial.code, denial.retry_after), (429, "rate_limited", Some(60)));
    assert_eq!(header(&denial.response_headers, "retry-after"), Some("60"));
    assert_eq!(header(&denial.response_headers, "ratelimit"), Some(r#""rate_limit";r=0;t=60"#));
    assert!(!passes(&engine, after(59)));
    assert!(passes(&engine, after(60)));
}

/// A publish with a rate over its one route, as the control plane sends it.
fn rated(requests: u64, window_seconds: u64) -> pb::Publish {
    let kind = pb::policy::Kind::RateLimit(pb::RateLimit { requests, window_seconds });
    let route = pb::Route { id: "route".into(), policy_indexes: vec![0], ..Default::default() };
    let routes = vec![route];
    let service = pb::ApiService { id: "s".into(), routes, ..Default::default() };
    let policies = vec![pb::Policy { id: "rate".into(), kind: Some(kind) }];
    pb::Publish { api_services: vec![service], policies, ..publish() }
}

/// The most that pass in any window of this many milliseconds when there is a call every
/// millisecond.
fn most_in_a_window(engine: &Engine, asked_ms: i64, window_ms: usize) -> usize {
    let at = |ms| start() + TimeDelta::milliseconds(ms);
    let passed: Vec<bool> = (0..asked_ms).map(|ms| passes(engine, at(ms))).collect();
    let windows = passed.windows(window_ms);
    windows.map(|window| window.iter().filter(|passed| **passed).count()).max().unwrap()
}

#[test]
fn at_most_so_many_per_window_is_so_in_any_window() {
    let second = pb::Limit { window_seconds: 1, ..limit("second", 10, Window::Rolling) };
    assert_eq!(most_in_a_window(&with_limits(vec![second]), 3_000, 1_000), 10);
    let engine = engine();
    engine.put_publish(PublishAccess::from(&rated(50, 1)));
    assert_eq!(most_in_a_window(&engine, 3_000, 1_000), 50);
}

#[test]
fn an_edited_rate_of_a_route_goes_on_with_the_calls_of_the_window() {
    let engine = engine();
    engine.put_publish(PublishAccess::from(&rated(3, 60)));
    assert_eq!((0..9).filter(|_| passes(&engine, start())).count(), 3);
    engine.put_publish(PublishAccess::from(&rated(5, 60)));
    assert_eq!((0..9).filter(|_| passes(&engine, start())).count(), 2);
    // All rules apply to routes that name none: of rates that share a count, the tightest one.
    let [wanted, former] = [6, 5].map(|requests| PublishAccess::from(&rated(requests, 60)));
    engine.put_rules(wanted.clone(), [former]);
    assert!(!passes(&engine, start()));
    let access = wanted.digest();
    assert!(decide(&engine, &Call { access: &access, ..call(Some(KEY), start()) }).is_ok());
}

#[test]
fn a_quota_lasts_until_the_calendar_says_so() {
    let engine = with_limits(vec![limit("quota", 2, Window::CalendarDay)]);
    assert!(passes(&engine, start()) && passes(&engine, start()));
    let denial = decide(&engine, &call(Some(KEY), start())).unwrap_err();
    assert_eq!((denial.status, denial.code), (429, "quota_exceeded"));
    assert_eq!(denial.retry_after, Some(12 * 3600));
    assert_eq!(header(&denial.response_headers, "ratelimit"), Some(r#""quota";r=0;t=43200"#));
    assert!(passes(&engine, after(12 * 3600)));
}

#[test]
fn a_week_ends_on_sunday_at_the_midnight_of_its_offset() {
    let mut week = limit("quota", 1, Window::CalendarWeek);
    week.utc_offset_minutes = -300;
    let engine = with_limits(vec![week]);
    let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
    assert!(passes(&engine, at("2026-11-24T12:00:00Z")), "a Tuesday");
    let denial = decide(&engine, &call(Some(KEY), at("2026-11-30T04:59:30Z"))).unwrap_err();
    assert_eq!((denial.code, denial.retry_after), ("quota_exceeded", Some(30)));
    assert!(passes(&engine, at("2026-11-30T05:00:00Z")));
}

#[test]
fn a_refused_call_uses_up_nothing() {
    let engine = with_limits(vec![
        limit("quota", 100, Window::CalendarMonth),
        limit("rate_limit", 1, Window::Rolling),
    ]);
    assert!(passes(&engine, start()));
    for _ in 0..10 {
        assert!(!passes(&engine, start()));
    }
    let second = decide(&engine, &call(Some(KEY), after(60))).unwrap();
    let left = admitted(&second, "ratelimit").unwrap();
    assert!(left.starts_with(r#""quota";r=98;"#), "{left}");
}

#[test]
fn overage_is_served() {
    let mut soft = limit("soft", 1, Window::Rolling);
    soft.on_exceed = OnExceed::Overage.into();
    let engine = with_limits(vec![soft]);
    assert!((0..10).all(|_| passes(&engine, start())));
}

#[test]
fn scope_decides_who_shares() {
    let mut own = limit("own", 1, Window::Rolling);
    own.scope = Scope::Consumer.into();
    for (limit, second_passes) in [(own, true), (limit("all", 1, Window::Rolling), false)] {
        let engine = with_limits(vec![limit]);
        let mut second = credential("second", "second");
        second.consumer_id = "another".into();
        give_key(&engine, &second);
        assert!(passes(&engine, start()));
        assert!(!passes(&engine, start()));
        let call = call(Some("second"), start());
        assert_eq!(decide(&engine, &call).is_ok(), second_passes);
    }
}

#[test]
fn an_edit_keeps_what_is_used_of_each_limit() {
    let rate = limit("rate_limit", 1, Window::Rolling);
    let engine = with_limits(vec![rate.clone()]);
    assert!(passes(&engine, start()));
    let quota = limit("quota", 10, Window::CalendarMonth);
    let limits = vec![quota, rate];
    entitle(&engine, &pb::Entitlement { limits, ..entitlement() });
    assert!(!passes(&engine, start()), "the rate is as used up as before");
    let limits = vec![limit("rate_limit", 2, Window::Rolling)];
    entitle(&engine, &pb::Entitlement { limits, ..entitlement() });
    assert!(passes(&engine, start()), "one of two is used");
    assert!(!passes(&engine, after(59)));
}

/// Two subscriptions of one customer to one product, one after the other.
fn bought(id: &str, limits: Vec<pb::Limit>) -> pb::Entitlement {
    let counter_key = "customer/product/prod".into();
    pb::Entitlement { id: id.into(), counter_key, limits, ..entitlement() }
}

#[test]
fn going_to_and_fro_between_two_plans_gains_nothing() {
    let engine = engine();
    let plans = [
        vec![limit("cheap", 50, Window::CalendarMonth), limit("burst", 100, Window::Rolling)],
        vec![limit("quick", 101, Window::Rolling), limit("dear", 50, Window::CalendarMonth)],
    ];
    let mut passed = 0;
    for round in 0..6 {
        entitle(&engine, &bought("sub", plans[round % 2].clone()));
        passed += (0..60).filter(|_| passes(&engine, start())).count();
    }
    assert_eq!(passed, 50);
    // Rates share a count, too.
    let engine = self::engine();
    let (mut passed, rates) = (0, [100, 101]);
    for round in 0..6 {
        let limits = vec![limit(&format!("rate-{round}"), rates[round % 2], Window::Rolling)];
        entitle(&engine, &bought("sub", limits));
        passed += (0..110).filter(|_| passes(&engine, start())).count();
    }
    assert_eq!(passed, 101, "what the wider one gives in a window, and no more");
}

#[test]
fn a_subscription_after_a_cancelled_one_goes_on_where_that_stood() {
    let engine = engine();
    let quota = || vec![limit("quota", 50, Window::CalendarMonth)];
    entitle(&engine, &bought("sub", quota()));
    assert_eq!((0..40).filter(|_| passes(&engine, start())).count(), 40);
    engine.remove_entitlement("sub");
    engine.evict_idle(after(60));
    let mut key = credential("second", "second");
    key.subscription_id = "second".into();
    give_key(&engine, &key);
    entitle(&engine, &bought("second", quota()));
    let again = |_: &_| decide(&engine, &call(Some("second"), after(60))).is_ok();
    assert_eq!((0..60).filter(again).count(), 10);
    let other =
        pb::Entitlement { counter_key: "customer/product/dev".into(), ..bought("sub", quota()) };
    entitle(&engine, &other);
    assert!(passes(&engine, after(60)), "another environment is another count");
}

#[test]
fn two_limits_of_one_window_count_each_call_once() {
    let mut soft = limit("soft", 5, Window::CalendarMonth);
    soft.on_exceed = OnExceed::Overage.into();
    let engine = with_limits(vec![soft, limit("hard", 8, Window::CalendarMonth)]);
    assert_eq!((0..20).filter(|_| passes(&engine, start())).count(), 8);
}

#[test]
fn an_upgrade_does_not_give_the_month_again() {
    let engine = with_limits(vec![limit("quota", 2, Window::CalendarMonth)]);
    assert!(passes(&engine, start()) && passes(&engine, start()));
    let limits = vec![limit("quota", 3, Window::CalendarMonth)];
    entitle(&engine, &pb::Entitlement { limits, ..entitlement() });
    assert!(passes(&engine, start()));
    assert!(!passes(&engine, start()));
}

#[test]
fn routes_have_their_own_rate_or_share_their_services() {
    let rate = |id: &str, requests| pb::Policy {
        id: id.into(),
        kind: Some(pb::policy::Kind::RateLimit(pb::RateLimit { requests, window_seconds: 60 })),
    };
    let route = |id: &str, policies| pb::Route { id: id.into(), policies, ..Default::default() };
    let service = pb::ApiService {
        id: "s".into(),
        routes: vec![route("a", vec![]), route("b", vec![]), route("own", vec![rate("route", 1)])],
        policies: vec![rate("service", 2)],
        ..Default::default()
    };
    let publish = pb::Publish { api_services: vec![service], ..publish() };
    let engine = engine();
    engine.put_publish(PublishAccess::from(&publish));
    let passes = |route_id| decide(&engine, &Call { route_id, ..call(Some(KEY), start()) }).is_ok();
    assert!(passes("own"));
    assert!(!passes("own"));
    assert!(passes("a") && passes("b"));
    assert!(!passes("a") && !passes("b"));
    let next = pb::Publish { revision: 2, ..publish.clone() };
    engine.put_publish(PublishAccess::from(&next));
    assert!(!passes("own") && !passes("a"), "a new revision keeps the counts");
    assert!(passes("unknown"), "a route without a rate");
}

/// As the current control plane sends it; the test above has the former form.
#[test]
fn a_policy_has_one_count_over_the_routes_that_name_it() {
    let rate = |id: &str, requests| pb::Policy {
        id: id.into(),
        kind: Some(pb::policy::Kind::RateLimit(pb::RateLimit { requests, window_seconds: 60 })),
    };
    let route = |id: &str, policy_indexes: &[u32]| pb::Route {
        id: id.into(),
        policy_indexes: policy_indexes.to_vec(),
        // What a former agent would use.
        policies: vec![rate("former", 100)],
        ..Default::default()
    };
    let routes = vec![route("a", &[0]), route("b", &[0]), route("own", &[1]), route("free", &[])];
    let service = pb::ApiService { id: "s".into(), routes, ..Default::default() };
    let policies = vec![rate("shared", 2), rate("own", 1)];
    let publish = pb::Publish { api_services: vec![service], policies, ..publish() };
    let engine = engine();
    engine.put_publish(PublishAccess::from(&publish));
    let passes = |route_id| decide(&engine, &Call { route_id, ..call(Some(KEY), start()) }).is_ok();
    assert!(passes("a") && passes("b"));
    assert!(!passes("a") && !passes("b"), "two calls of both");
    assert!(passes("own") && !passes("own"), "its own count");
    assert!((0..10).all(|_| passes("free")));
    // At another index it is the same policy.
    let mut next = pb::Publish { revision: 2, ..publish.clone() };
    next.policies.reverse();
    for (route, place) in next.api_services[0].routes.iter_mut().zip([1, 1, 0]) {
        route.policy_indexes = vec![place];
    }
    engine.put_publish(PublishAccess::from(&next));
    assert!(!passes("a") && !passes("own"), "a new revision keeps the counts");
}

#[test]
fn threads_share_a_limit_exactly() {
    let engine = with_limits(vec![
        limit("rate_limit", 500, Window::Rolling),
        limit("quota", 300, Window::CalendarDay),
    ]);
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let engine = engine.clone();
            std::thread::spawn(move || (0..200).filter(|_| super::passes(&engine, start())).count())
        })
        .collect();
    let passed: usize = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
    assert_eq!(passed, 300);
    let (_, counters) = engine.usage_changed_since(0);
    assert_eq!((counters[0].allowed, counters[0].limited), (300, 500));
}
