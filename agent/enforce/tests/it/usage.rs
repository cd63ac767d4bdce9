//! What is counted, and that counts survive.

use super::*;
use imp_enforce::{Counter, Snapshot};
use pb::limit::Window;

fn counter(hour: &str, allowed: u64, limited: u64) -> Counter {
    let hour: DateTime<Utc> = hour.parse().unwrap();
    Counter {
        tenant_id: "tenant".into(),
        customer_id: "customer".into(),
        subscription_id: "sub".into(),
        plan_id: "plan".into(),
        plan_version: 3,
        product_id: "product".into(),
        environment: "prod".into(),
        publish_id: "pub".into(),
        consumer_id: "consumer".into(),
        hour_ms: hour.timestamp_millis(),
        allowed,
        limited,
    }
}

#[test]
fn calls_count_in_their_hour_and_only_news_is_told() {
    let engine = with_limits(vec![limit("rate_limit", 2, Window::Rolling)]);
    for _ in 0..3 {
        passes(&engine, after(600));
    }
    passes(&engine, after(3600));
    let (mark, mut counters) = engine.usage_changed_since(0);
    counters.sort_by_key(|counter| counter.hour_ms);
    let (noon, one) = ("2026-11-24T12:00:00Z", "2026-11-24T13:00:00Z");
    assert_eq!(counters, [counter(noon, 2, 1), counter(one, 1, 0)]);
    assert_eq!(engine.usage_changed_since(mark), (mark, vec![]));
    passes(&engine, after(3601));
    let (mark, counters) = engine.usage_changed_since(mark);
    assert_eq!(counters, [counter(one, 2, 0)], "cumulative");
    engine.forget_usage(after(3600));
    assert_eq!(engine.usage_changed_since(0), (mark, vec![counter(one, 2, 0)]));
}

#[test]
fn a_change_of_plan_inside_an_hour_makes_two_counters() {
    let engine = engine();
    assert!(passes(&engine, after(1)));
    entitle(&engine, &pb::Entitlement { plan_version: 4, ..entitlement() });
    assert!(passes(&engine, after(2)) && passes(&engine, after(3)));
    // A change that keeps the terms continues the counter.
    entitle(&engine, &pb::Entitlement { plan_version: 4, reason: "r".into(), ..entitlement() });
    assert!(passes(&engine, after(4)));
    let mut counters = engine.usage_changed_since(0).1;
    counters.sort_by_key(|counter| counter.plan_version);
    let noon = counter("2026-11-24T12:00:00Z", 1, 0);
    assert_eq!(counters, [noon.clone(), Counter { plan_version: 4, allowed: 3, ..noon }]);
}

#[test]
fn a_public_call_is_counted_for_who_publishes_it() {
    let engine = engine();
    let auth_mode = pb::publish::AuthMode::None.into();
    engine.put_publish(PublishAccess::from(&pb::Publish { auth_mode, ..publish() }));
    decide(&engine, &call(None, start())).unwrap();
    let expected = Counter {
        customer_id: String::new(),
        subscription_id: String::new(),
        plan_id: String::new(),
        plan_version: 0,
        consumer_id: String::new(),
        ..counter("2026-11-24T12:00:00Z", 1, 0)
    };
    assert_eq!(engine.usage_changed_since(0).1, [expected]);
}

#[test]
fn refusals_for_other_reasons_are_not_usage() {
    let engine = engine();
    decide(&engine, &call(None, start())).unwrap_err();
    decide(&engine, &Call { publish: PublishKey::Id(""), ..call(Some(KEY), start()) }).unwrap_err();
    assert_eq!(engine.usage_changed_since(0), (0, vec![]));
}

#[test]
fn counts_and_quotas_survive_a_restart() {
    let mut own = limit("own", 3, Window::CalendarDay);
    own.scope = pb::limit::Scope::Consumer.into();
    let limits = vec![limit("quota", 5, Window::CalendarMonth), own];
    let engine = with_limits(limits.clone());
    assert!(passes(&engine, start()) && passes(&engine, start()));
    let text = serde_json::to_string(&engine.snapshot(start())).unwrap();

    let second = Engine::new();
    second.restore(serde_json::from_str::<Snapshot>(&text).unwrap());
    assert_eq!(
        second.snapshot(start()),
        engine.snapshot(start()),
        "a restart before the entitlement came loses nothing"
    );
    second.put_publish(PublishAccess::from(&publish()));
    give_key(&second, &credential("cred", KEY));
    entitle(&second, &pb::Entitlement { limits, ..entitlement() });
    assert_eq!(second.usage_changed_since(0).1, engine.usage_changed_since(0).1);
    assert!(passes(&second, start()));
    assert!(!passes(&second, start()), "the consumer's third call of the day was the last");
    assert!(passes(&second, after(86_400)), "the next day");
    assert!(passes(&second, after(86_400)));
    assert!(!passes(&second, after(86_400)), "the fifth call of the month was the last");
}

#[test]
fn a_subscription_that_went_and_came_back_does_not_get_the_month_again() {
    let limits = vec![limit("quota", 2, Window::CalendarMonth)];
    let engine = with_limits(limits.clone());
    assert!(passes(&engine, start()) && passes(&engine, start()));
    engine.remove_entitlement("sub");
    engine.evict_idle(after(60));
    entitle(&engine, &pb::Entitlement { limits: limits.clone(), ..entitlement() });
    assert!(!passes(&engine, after(60)));
    engine.remove_entitlement("sub");
    let december = after(10 * 86_400);
    engine.evict_idle(december);
    assert_eq!(engine.snapshot(december).quotas, [], "what is over is not kept");
    entitle(&engine, &pb::Entitlement { limits, ..entitlement() });
    assert!(passes(&engine, december));
}

#[test]
fn whoever_is_refused_leaves_nothing_behind() {
    let engine = engine();
    let before = engine.snapshot(start());
    for index in 0..1_000 {
        let (key, publish_id) = (format!("guess-{index}"), format!("publish-{index}"));
        decide(&engine, &call(Some(&key), start())).unwrap_err();
        decide(&engine, &Call { publish: PublishKey::Id(&publish_id), ..call(Some(KEY), start()) })
            .unwrap_err();
    }
    assert_eq!(engine.snapshot(start()), before);
}
