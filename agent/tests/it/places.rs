//! Tests of calls on routes that publishes share: host and base path tell whose call it is.

use imp_agent::config::Config;
use imp_agent::port::Address;
use imp_enforce::PublishAccess;
use imp_proto::config as pb;
use imp_translate::xds::SCOPE;

use crate::door::ask;
use crate::fake_envoy::FakeEnvoy;
use crate::fixtures::{self, KEY, at_revision, credential, entitlement, host, id, publish, quota};
use crate::rig::{self, active, agent, config, control_with, eventually, reported};

/// What a route of this publish tells.
fn context(publish: &pb::Publish) -> String {
    format!("{} {} {}", PublishAccess::from(publish).digest(), id(3, 0), publish.base_path)
}

/// Makes a call at a host, on a route that tells this. 503 if Envoy should ask another agent.
async fn call(agent: &Address, context: &str, host: &str, key: Option<&str>) -> i32 {
    let mut headers = vec![("x-imp-host", host)];
    headers.extend(key.map(|key| ("x-api-key", key)));
    match ask(agent, &[("route", context)], &headers).await {
        Ok(answer) => answer.status,
        Err(status) => {
            assert_eq!(status.code(), tonic::Code::Unavailable, "{status}");
            503
        }
    }
}

#[tokio::test]
async fn publishes_with_the_same_routes_are_told_apart_by_host_and_base_path() {
    let control = control_with(0).await;
    control.state.set(&entitlement(vec![quota(100)]));
    control.state.set(&credential());
    let served = [publish(0, 9_000), publish(1, 9_000)];
    served.iter().for_each(|publish| control.state.set(publish));
    let state = tempfile::tempdir().unwrap();
    let agent = agent(&control.url(), state.path()).await;
    rig::ready(&agent).await;
    let routes = context(&served[0]);
    assert_eq!(routes, context(&served[1]));
    for at in [host(0), host(1), format!("{}:8443", host(1))] {
        assert_eq!(call(&agent.xds, &routes, &at, Some(KEY)).await, 200, "{at}");
    }
    let below = routes.replace(" /", " /below");
    for (status, routes, at) in [
        (403, routes.as_str(), ""),
        (503, &routes, "h2.example.com"),
        (503, &routes, "H0.EXAMPLE.COM"),
        (503, &routes, "h0.example.com,h1.example.com"),
        (503, &below, &host(0)),
        (403, "", &host(0)),
        (403, &id(3, 0), &host(0)),
        (403, &routes.replace(' ', "  "), &host(0)),
    ] {
        assert_eq!(call(&agent.xds, routes, at, Some(KEY)).await, status, "{routes} at {at}");
    }
    // Envoy may still have the route, and no agent knows better.
    control.state.remove::<pb::Publish>(&id(1, 1));
    let deadline = tokio::time::Instant::now() + rig::PATIENCE;
    while call(&agent.xds, &routes, &host(1), None).await != 404 {
        assert!(tokio::time::Instant::now() < deadline, "never ended");
    }
    assert_eq!(call(&agent.xds, &routes, &host(0), Some(KEY)).await, 200);
    agent.shutdown().await;
}

#[tokio::test]
async fn an_envoy_that_refuses_a_move_is_answered_at_the_former_place_also_after_a_restart() {
    let control = control_with(0).await;
    control.state.set(&fixtures::entitlement(vec![]));
    control.state.set(&credential());
    let before = publish(0, 9_000);
    let after = at_revision(
        pb::Publish { hostnames: vec!["moved.example.com".into()], ..before.clone() },
        2,
    );
    assert_eq!(context(&before), context(&after), "only the place is another");
    control.state.set(&before);
    let state = tempfile::tempdir().unwrap();
    let first = agent(&control.url(), state.path()).await;
    let stays = |url: &str, resource: &imp_xds::Resource| {
        let mut texts = resource.value().windows(5);
        (url == SCOPE && texts.any(|text| text == b"moved")).then(|| "no".to_owned())
    };
    let _stuck = FakeEnvoy::picky(&first.xds, "stuck", "all", Box::new(stays));
    reported(&control, 0, "is active", active(1, 1)).await;
    control.state.set(&after);
    let refused = |s: &imp_proto::agent::PublishStatus| s.revision == 2 && s.error.is_some();
    reported(&control, 0, "is refused", refused).await;
    let routes = context(&before);
    let (xds, admin_listen) = (first.xds.clone(), first.admin_addr.to_string());
    for at in [host(0), "moved.example.com".to_owned()] {
        assert_eq!(call(&xds, &routes, &at, Some(KEY)).await, 200, "{at}");
        assert_eq!(call(&xds, &routes, &at, None).await, 401, "{at}");
    }
    first.shutdown().await;
    drop(control);
    let config = Config {
        xds_listen: Some(xds.clone()),
        admin_listen,
        ..config("http://127.0.0.1:9", state.path())
    };
    let again = rig::start(config).await.unwrap();
    eventually("decisions", || again.fleet.decides().then_some(())).await;
    for _ in 0..2 {
        assert_eq!(call(&xds, &routes, &host(0), Some(KEY)).await, 200);
        assert_eq!(call(&xds, &routes, &host(0), None).await, 401);
        // Once everything is restored, too.
        rig::ready(&again).await;
    }
    again.shutdown().await;
}
