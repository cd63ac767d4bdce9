//! Publishes are found by host, base path and the owner in the digest that a route names.

use super::*;
use imp_enforce::RouteContext;
use pb::publish::AuthMode;

/// A publish that needs a key, at these hosts.
fn at(id: &str, hosts: &[&str], base_path: &str) -> pb::Publish {
    pb::Publish {
        id: id.into(),
        gateway_id: "gateway".into(),
        hostnames: hosts.iter().map(|host| (*host).to_owned()).collect(),
        base_path: base_path.into(),
        ..publish()
    }
}

fn access(publish: &pb::Publish) -> PublishAccess {
    PublishAccess::from(publish)
}

/// What a route of this publish tells.
fn context(publish: &pb::Publish) -> String {
    let base_path = if publish.base_path.is_empty() { "/" } else { &publish.base_path };
    format!("{} route {base_path}", access(publish).digest())
}

/// Makes a call at a host, on a route that tells this.
fn ask(engine: &Engine, context: &str, host: &str, key: Option<&str>) -> Result<(), &'static str> {
    ask_from(engine, None, context, host, key)
}

fn ask_from(
    engine: &Engine,
    gateway_id: Option<&str>,
    context: &str,
    host: &str,
    key: Option<&str>,
) -> Result<(), &'static str> {
    let RouteContext { access, route_id, .. } = RouteContext::parse(context).unwrap();
    let publish = RouteContext::parse(context).unwrap().publish(host);
    let call = Call { publish, access, route_id, gateway_id, ..call(key, start()) };
    engine.decide(&call).map(drop).map_err(|denial| denial.code)
}

/// Calls counted per publish.
fn counted(engine: &Engine) -> Vec<(String, u64)> {
    let mut counted = std::collections::BTreeMap::new();
    for counter in engine.usage_changed_since(0).1 {
        *counted.entry(counter.publish_id).or_insert(0) += counter.allowed;
    }
    counted.into_iter().collect()
}

fn rated(requests: u64, publish: pb::Publish) -> pb::Publish {
    let rate = pb::RateLimit { requests, window_seconds: 60 };
    let policies =
        vec![pb::Policy { id: "r".into(), kind: Some(pb::policy::Kind::RateLimit(rate)) }];
    let route = pb::Route { id: "route".into(), policy_indexes: vec![0], ..Default::default() };
    let service = pb::ApiService { id: "s".into(), routes: vec![route], ..Default::default() };
    pb::Publish { api_services: vec![service], policies, ..publish }
}

#[test]
fn one_product_at_two_hosts_is_counted_and_limited_per_publish() {
    let [a, b] = ["a", "b"].map(|id| rated(2, at(id, &[&format!("{id}.example.com")], "")));
    assert_eq!(context(&a), context(&b), "both use the same routes");
    let engine = engine();
    engine.put_publish(access(&a));
    engine.put_publish(access(&b));
    let ask = |host: &str| ask(&engine, &context(&a), host, Some(KEY));
    assert_eq!(["a.example.com", "a.example.com:8443"].map(ask), [Ok(()), Ok(())]);
    assert_eq!(ask("a.example.com"), Err("rate_limited"));
    assert_eq!(ask("b.example.com"), Ok(()), "it has calls of its own");
    for host in ["", "c.example.com", "A.example.com", "example.com", "!421"] {
        assert_eq!(ask(host), Err("unknown_publish"), "{host}");
    }
    assert_eq!(counted(&engine), [("a".to_owned(), 2), ("b".to_owned(), 1)]);
    engine.remove_publish("a");
    assert_eq!(ask("a.example.com"), Err("no_route"));
    assert_eq!(ask("b.example.com"), Ok(()));
}

/// With two agents Envoy may have a route from one and ask the other, which lags behind.
#[test]
fn a_place_that_was_never_seen_may_be_known_elsewhere_and_one_that_was_left_is_not() {
    let publish = at("p", &["a.example.com"], "");
    let engine = engine();
    let elsewhere = |host: &str| {
        let context = context(&publish);
        let route = RouteContext::parse(&context).unwrap();
        let (publish, access) = (route.publish(host), route.access);
        let call = Call { publish, access, route_id: "route", ..call(Some(KEY), start()) };
        engine.decide(&call).map(drop).map_err(|denial| denial.may_be_known_elsewhere())
    };
    assert_eq!(elsewhere("a.example.com"), Err(true));
    assert_eq!(elsewhere(""), Err(false), "no agent knows it");
    engine.put_publish(access(&publish));
    assert_eq!(elsewhere("a.example.com"), Ok(()));
    engine.put_publish(access(&at("p", &["b.example.com"], "")));
    assert_eq!(elsewhere("a.example.com"), Err(false));
    assert_eq!(elsewhere("b.example.com"), Ok(()));
    engine.remove_publish("p");
    assert_eq!(elsewhere("b.example.com"), Err(false));
    assert_eq!(elsewhere("c.example.com"), Err(true));
}

#[test]
fn a_publish_has_several_hosts_and_a_host_several_base_paths() {
    let wide = at("wide", &["a.example.com", "b.example.com"], "");
    let below = at("below", &["a.example.com"], "/below");
    let engine = engine();
    engine.put_publish(access(&wide));
    engine.put_publish(access(&below));
    assert_eq!(ask(&engine, &context(&wide), "a.example.com", Some(KEY)), Ok(()));
    assert_eq!(ask(&engine, &context(&wide), "b.example.com", Some(KEY)), Ok(()));
    assert_eq!(ask(&engine, &context(&below), "a.example.com", Some(KEY)), Ok(()));
    let nowhere = ask(&engine, &context(&below), "b.example.com", Some(KEY));
    assert_eq!(nowhere, Err("unknown_publish"));
    assert_eq!(counted(&engine), [("below".to_owned(), 1), ("wide".to_owned(), 2)]);
}

#[test]
fn a_host_on_several_gateways_is_a_publish_of_each() {
    let on = |gateway: &str| pb::Publish {
        id: format!("on-{gateway}"),
        gateway_id: gateway.into(),
        ..at("", &["a.example.com"], "")
    };
    let engine = engine();
    let [one, two] = ["one", "two"].map(on);
    engine.put_publish(access(&one));
    engine.put_publish(access(&two));
    let ask = |gateway, publish| {
        ask_from(&engine, gateway, &context(publish), "a.example.com", Some(KEY))
    };
    assert_eq!((ask(None, &one), ask(Some("two"), &two)), (Ok(()), Ok(())));
    // A node of one gateway asks about that gateway's publishes only.
    assert_eq!(ask(Some("two"), &one), Err("unknown_publish"));
    assert_eq!(counted(&engine), [("on-one".to_owned(), 1), ("on-two".to_owned(), 1)]);
}

#[test]
fn a_place_that_went_to_another_product_judges_no_route_of_the_former_one() {
    let keyed = at("keyed", &["a.example.com"], "");
    let open = |id: &str| pb::Publish {
        auth_mode: AuthMode::None.into(),
        ..at(id, &["a.example.com"], "")
    };
    let others = [
        pb::Publish { tenant_id: "another".into(), ..open("1") },
        pb::Publish { product_id: "another".into(), ..open("2") },
        pb::Publish { environment: "another".into(), ..open("3") },
        pb::Publish { gateway_id: "another".into(), ..open("4") },
    ];
    for other in others {
        let engine = engine();
        engine.put_publish(access(&keyed));
        engine.put_publish(access(&other));
        assert_eq!(ask(&engine, &context(&keyed), "a.example.com", Some(KEY)), Ok(()));
        engine.remove_publish("keyed");
        for key in [None, Some(KEY)] {
            let asked = ask(&engine, &context(&keyed), "a.example.com", key);
            assert_eq!(asked, Err("no_route"), "{other:?}");
        }
        assert_eq!(ask(&engine, &context(&other), "a.example.com", None), Ok(()));
        assert_eq!(counted(&engine), [(other.id.clone(), 1), ("keyed".to_owned(), 1)]);
    }
}

/// Another publish of the same product took the place over, and opens it.
#[test]
fn a_route_that_asks_for_a_key_asks_for_it_whichever_publish_is_at_its_place() {
    let keyed = at("keyed", &["a.example.com"], "");
    let open = pb::Publish { id: "open".into(), auth_mode: AuthMode::None.into(), ..keyed.clone() };
    let engine = engine();
    engine.put_publish(access(&keyed));
    engine.put_publish(access(&open));
    for removed in [false, true] {
        assert_eq!(ask(&engine, &context(&keyed), "a.example.com", None), Err("unauthenticated"));
        assert_eq!(ask(&engine, &context(&keyed), "a.example.com", Some(KEY)), Ok(()));
        assert_eq!(ask(&engine, &context(&open), "a.example.com", None), Ok(()));
        let calls = if removed { 4 } else { 2 };
        assert_eq!(counted(&engine), [("open".to_owned(), calls)], "it is there now");
        engine.remove_publish("keyed");
    }
}

#[test]
fn the_routes_of_a_former_revision_are_found_where_that_one_was() {
    let before = at("p", &["a.example.com"], "/before");
    let after = at("p", &["b.example.com"], "/after");
    assert_eq!(access(&before).digest(), access(&after).digest(), "the rules are the same");
    let engine = engine();
    engine.put_publish(access(&before));
    engine.put_rules(access(&after), [access(&before)]);
    let seen = |engine: &Engine| {
        [(&before, "a.example.com"), (&after, "b.example.com")]
            .map(|(publish, host)| ask(engine, &context(publish), host, Some(KEY)))
    };
    assert_eq!(seen(&engine), [Ok(()), Ok(())]);
    // One of the same product takes the place that was left, and gives it back.
    engine.put_publish(access(&pb::Publish { id: "next".into(), ..before.clone() }));
    assert_eq!(seen(&engine), [Ok(()), Ok(())]);
    assert_eq!(counted(&engine), [("next".to_owned(), 1), ("p".to_owned(), 3)]);
    engine.remove_publish("next");
    assert_eq!(seen(&engine), [Ok(()), Ok(())]);
    // Nobody runs the former revision any more.
    engine.put_publish(access(&after));
    assert_eq!(seen(&engine), [Err("no_route"), Ok(())]);
}

#[test]
fn former_rules_are_found_by_their_digest_at_the_same_place() {
    let keyed = at("p", &["a.example.com"], "");
    let open = pb::Publish { auth_mode: AuthMode::None.into(), ..keyed.clone() };
    let forgotten = context(&rated(7, open.clone()));
    let engine = engine();
    for (wanted, former) in [(&open, &keyed), (&keyed, &open)] {
        engine.put_rules(access(wanted), [access(former)]);
        let ask = |context: &str, key| ask(&engine, context, "a.example.com", key);
        assert_eq!(ask(&context(&keyed), None), Err("unauthenticated"));
        assert_eq!(ask(&context(&keyed), Some(KEY)), Ok(()));
        assert_eq!(ask(&context(&open), None), Ok(()));
        // All known rules apply.
        assert_eq!(ask(&forgotten, None), Err("unauthenticated"));
        assert_eq!(ask(&forgotten, Some(KEY)), Ok(()));
    }
    // A mode of a newer release is known to nobody here.
    engine.put_publish(access(&open));
    let newer = context(&open).replace("none.", "mtls.");
    assert_eq!(ask(&engine, &newer, "a.example.com", Some(KEY)), Err("unsupported_auth_mode"));
}

#[test]
fn a_suspended_publish_refuses_at_all_of_its_places() {
    let before = at("p", &["a.example.com"], "");
    let after = pb::Publish { suspended: true, ..at("p", &["b.example.com"], "") };
    let engine = engine();
    engine.put_rules(access(&after), [access(&before)]);
    for host in ["a.example.com", "b.example.com"] {
        let asked = ask(&engine, &context(&before), host, Some(KEY));
        assert_eq!(asked, Err("publish_suspended"), "{host}");
    }
}

#[test]
fn equal_rules_are_shared() {
    let engine = engine();
    let [a, b] = ["a", "b"].map(|id| engine.share(access(&at(id, &["x.example.com"], ""))));
    assert!(a.shares_rules_with(&b));
    let other = engine.share(access(&rated(1, at("c", &["x.example.com"], ""))));
    assert!(!a.shares_rules_with(&other));
    engine.put_publish(a.clone());
    let again =
        engine.share(access(&pb::Publish { suspended: true, ..at("a", &["x.example.com"], "") }));
    assert!(std::sync::Arc::ptr_eq(a.publish_id(), again.publish_id()) && again.suspended);
    let moved = engine.share(access(&at("a", &["y.example.com"], "")));
    assert!(moved.shares_rules_with(&a) && !moved.is_same(&a));
}
