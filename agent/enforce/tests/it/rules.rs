//! Each call is judged by the rules that its route names.

use super::*;
use pb::publish::AuthMode;

fn access(auth_mode: AuthMode) -> PublishAccess {
    PublishAccess::from(&pb::Publish { auth_mode: auth_mode.into(), ..publish() })
}

fn rated(requests: u64) -> PublishAccess {
    PublishAccess::from(&rated_publish(requests))
}

fn rated_publish(requests: u64) -> pb::Publish {
    let rate = pb::RateLimit { requests, window_seconds: 60 };
    let policy = pb::Policy { id: "r".into(), kind: Some(pb::policy::Kind::RateLimit(rate)) };
    let route = pb::Route { id: "route".into(), policies: vec![policy], ..Default::default() };
    let service = pb::ApiService { id: "s".into(), routes: vec![route], ..Default::default() };
    pb::Publish { api_services: vec![service], ..publish() }
}

fn passes_by(engine: &Engine, access: &str, key: Option<&str>) -> Result<(), u16> {
    let call = Call { access, ..call(key, start()) };
    engine.decide(&call).map(drop).map_err(|denial| denial.status)
}

#[test]
fn looser_rules_do_not_open_routes_of_a_former_revision_and_stricter_ones_do_not_close_them() {
    let (keyed, open) = (access(AuthMode::ApiKey), access(AuthMode::None));
    let engine = engine();
    for (wanted, former) in [(&open, &keyed), (&keyed, &open)] {
        engine.put_rules(wanted.clone(), [former.clone()]);
        assert_eq!(passes_by(&engine, &keyed.digest(), None), Err(401));
        assert_eq!(passes_by(&engine, &keyed.digest(), Some(KEY)), Ok(()));
        assert_eq!(passes_by(&engine, &open.digest(), None), Ok(()));
    }
}

#[test]
fn rules_that_nobody_knows_are_judged_by_all_that_are_known() {
    let (keyed, open) = (access(AuthMode::ApiKey), access(AuthMode::None));
    let engine = engine();
    for (wanted, former) in [(&open, &keyed), (&keyed, &open)] {
        engine.put_rules(wanted.clone(), [former.clone()]);
        for unknown in ["", "0123456789abcdef"] {
            assert_eq!(passes_by(&engine, unknown, None), Err(401));
            assert_eq!(passes_by(&engine, unknown, Some(KEY)), Ok(()), "both let it pass");
        }
    }
    engine.put_publish(open.clone());
    assert_eq!(passes_by(&engine, "", None), Ok(()), "no known rules ask for a key");
    engine.remove_publish("pub");
    assert_eq!(passes_by(&engine, &open.digest(), Some(KEY)), Err(404));
}

/// Another agent's Envoy may have rejected the revision that opens the publish, and still run the
/// former one.
#[test]
fn a_route_that_asks_for_a_key_is_never_open_however_long_its_rules_are_forgotten() {
    let (keyed, open) = (access(AuthMode::ApiKey), access(AuthMode::None));
    let engine = engine();
    engine.put_publish(open.clone());
    assert_eq!(passes_by(&engine, &keyed.digest(), None), Err(401));
    assert_eq!(passes_by(&engine, &keyed.digest(), Some(KEY)), Ok(()));
    assert_eq!(passes_by(&engine, &open.digest(), None), Ok(()));
    let unknown = access(AuthMode::Jwt);
    assert_eq!(passes_by(&engine, &unknown.digest(), Some(KEY)), Err(503));
}

#[test]
fn a_suspension_and_its_end_hold_for_the_routes_of_every_revision_at_once() {
    let (keyed, open) = (access(AuthMode::ApiKey), access(AuthMode::None));
    let suspended = |mut access: PublishAccess| {
        access.suspended = true;
        access
    };
    let engine = engine();
    engine.put_rules(suspended(open.clone()), [keyed.clone()]);
    for digest in [&open.digest(), &keyed.digest(), ""] {
        assert_eq!(passes_by(&engine, digest, Some(KEY)), Err(503));
    }
    engine.put_rules(open.clone(), [suspended(keyed.clone())]);
    for digest in [&open.digest(), &keyed.digest(), ""] {
        assert_eq!(passes_by(&engine, digest, Some(KEY)), Ok(()));
    }
}

#[test]
fn a_revoked_key_and_an_ended_subscription_count_at_once_under_all_rules() {
    let (keyed, rated) = (access(AuthMode::ApiKey), rated(100));
    let engine = engine();
    engine.put_rules(rated.clone(), [keyed.clone()]);
    engine.remove_credential("cred");
    for digest in [&keyed.digest(), &rated.digest(), ""] {
        assert_eq!(passes_by(&engine, digest, Some(KEY)), Err(401));
    }
    give_key(&engine, &credential("cred", KEY));
    engine.remove_entitlement("sub");
    for digest in [&keyed.digest(), &rated.digest(), ""] {
        assert_eq!(passes_by(&engine, digest, Some(KEY)), Err(403));
    }
}

#[test]
fn a_rate_that_two_rules_have_in_common_is_one_count() {
    let other = pb::Publish { auth_mode: AuthMode::None.into(), ..rated_publish(4) };
    let other = PublishAccess::from(&other);
    let engine = engine();
    engine.put_publish(rated(4));
    assert_eq!(passes_by(&engine, &rated(4).digest(), Some(KEY)), Ok(()));
    engine.put_rules(other.clone(), [rated(4)]);
    assert_eq!(passes_by(&engine, &other.digest(), None), Ok(()));
    assert_eq!(passes_by(&engine, "", Some(KEY)), Ok(()), "takes one call, not two");
    assert_eq!(passes_by(&engine, &rated(4).digest(), Some(KEY)), Ok(()));
    assert_eq!(passes_by(&engine, &other.digest(), None), Err(429));
    assert_eq!(passes_by(&engine, &rated(4).digest(), Some(KEY)), Err(429));
    // The former rules are dropped, and the count stays.
    engine.put_publish(other.clone());
    assert_eq!(passes_by(&engine, &other.digest(), None), Err(429));
    // Another amount continues the window's count.
    engine.put_rules(rated(5), [other.clone()]);
    assert_eq!(passes_by(&engine, &rated(5).digest(), Some(KEY)), Ok(()));
    assert_eq!(passes_by(&engine, &rated(5).digest(), Some(KEY)), Err(429));
    assert_eq!(passes_by(&engine, &other.digest(), None), Err(429));
}

#[test]
fn so_many_former_rules_are_held_and_no_more() {
    let engine = engine();
    let former: Vec<_> = (1..=1_000).map(rated).collect();
    engine.put_rules(access(AuthMode::None), former);
    let most = imp_enforce::FORMER_RULES as u64;
    for requests in [1, most] {
        assert_eq!(passes_by(&engine, &rated(requests).digest(), None), Err(401));
    }
    // All known rules apply to unknown digests.
    assert_eq!(passes_by(&engine, &rated(most + 1).digest(), None), Err(401));
}

#[test]
fn a_publish_that_moves_is_asked_about_by_the_envoys_of_both_gateways() {
    let on = |gateway: &str| {
        PublishAccess::from(&pb::Publish { gateway_id: gateway.into(), ..publish() })
    };
    let engine = engine();
    engine.put_rules(on("new"), [on("old")]);
    let asked = |gateway: &str, access: &str| {
        let call = Call { gateway_id: Some(gateway), access, ..call(Some(KEY), start()) };
        engine.decide(&call).map(drop).map_err(|denial| denial.code)
    };
    for gateway in ["old", "new"] {
        assert_eq!(asked(gateway, &on(gateway).digest()), Ok(()));
        assert_eq!(asked("other", &on(gateway).digest()), Err("unknown_publish"));
    }
    assert_eq!(asked("old", &on("new").digest()), Err("unknown_publish"));
}
