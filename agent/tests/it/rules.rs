//! Tests of access rules that change: the rules of its route apply to each call.

use imp_agent::app::Running;
use imp_agent::config::Config;
use imp_enforce::PublishAccess;
use imp_proto::config as pb;
use imp_proto::config::publish::AuthMode;
use imp_translate::xds::SCOPE;

use crate::control::Control;
use crate::door::{knock, knock_by};
use crate::fake_envoy::{FakeEnvoy, Taste};
use crate::fixtures::{self, KEY, at_revision, id};
use crate::rig::{self, active, agent, config, control_with, eventually, reported};

/// Nothing listens there.
const NOWHERE: &str = "http://127.0.0.1:9";

/// The first publish at a revision, with an authentication mode.
fn publish(revision: u64, mode: AuthMode) -> pb::Publish {
    let publish = at_revision(fixtures::publish(0, 9_000), revision);
    pb::Publish { auth_mode: mode.into(), ..publish }
}

fn digest(mode: AuthMode) -> String {
    PublishAccess::from(&publish(1, mode)).digest()
}

/// Accepts only routes with these rules.
fn takes_only(mode: AuthMode) -> Taste {
    let other = [AuthMode::None, AuthMode::ApiKey].into_iter().find(|other| *other != mode);
    let other = digest(other.unwrap());
    Box::new(move |url, resource| {
        let mut texts = resource.value().windows(other.len());
        (url == SCOPE && texts.any(|text| text == other.as_bytes())).then(|| "no".to_owned())
    })
}

/// One Envoy that accepts both revisions and one that accepts only the first; the second revision
/// opens or closes the former.
async fn changed(
    from: AuthMode,
    to: AuthMode,
) -> (Control, tempfile::TempDir, Running, [FakeEnvoy; 2]) {
    let control = control_with(0).await;
    control.state.set(&fixtures::entitlement(vec![]));
    control.state.set(&fixtures::credential());
    control.state.set(&publish(1, from));
    let state = tempfile::tempdir().unwrap();
    let agent = agent(&control.url(), state.path()).await;
    let quick = FakeEnvoy::start(&agent.xds, "quick");
    let stuck = FakeEnvoy::picky(&agent.xds, "stuck", "all", takes_only(from));
    reported(&control, 0, "is active", active(1, 2)).await;
    control.state.set(&publish(2, to));
    let partly = |s: &imp_proto::agent::PublishStatus| {
        (s.revision, s.acked_revision, s.nodes_acked, s.nodes_nacked) == (2, 2, 1, 1)
    };
    reported(&control, 0, "is with one of two", partly).await;
    assert!(quick.runs(&digest(to)) && !quick.runs(&digest(from)));
    assert!(stuck.runs(&digest(from)) && !stuck.runs(&digest(to)));
    (control, state, agent, [quick, stuck])
}

/// Calls of the first publish are judged by the rules of their own routes.
async fn each_by_its_own(agent: &Running) {
    let (publish, keyed, open) = (id(1, 0), digest(AuthMode::ApiKey), digest(AuthMode::None));
    assert_eq!(knock_by(&agent.xds, &publish, &keyed, None).await, 401);
    assert_eq!(knock_by(&agent.xds, &publish, &keyed, Some(KEY)).await, 200);
    assert_eq!(knock_by(&agent.xds, &publish, &open, None).await, 200);
    // Routes that name none, or unknown ones.
    for access in ["", "0123456789abcdef"] {
        assert_eq!(knock_by(&agent.xds, &publish, access, None).await, 401);
        assert_eq!(knock_by(&agent.xds, &publish, access, Some(KEY)).await, 200);
    }
}

#[tokio::test]
async fn an_envoy_that_refuses_a_revision_is_judged_by_the_rules_of_the_one_that_it_runs() {
    for (from, to) in [(AuthMode::ApiKey, AuthMode::None), (AuthMode::None, AuthMode::ApiKey)] {
        let (control, state, first, [quick, stuck]) = changed(from, to).await;
        each_by_its_own(&first).await;
        let (xds, admin_listen) = (first.xds.clone(), first.admin_addr.to_string());
        first.shutdown().await;
        drop(control);
        // After a restart only the wanted revision is known; the Envoys keep what they have.
        let config =
            Config { xds_listen: Some(xds), admin_listen, ..config(NOWHERE, state.path()) };
        let again = rig::start(config).await.unwrap();
        eventually("decisions", || again.fleet.decides().then_some(())).await;
        each_by_its_own(&again).await;
        rig::ready(&again).await;
        let there = || (again.fleet.nodes().len() == 2).then_some(());
        eventually("both Envoys", there).await;
        each_by_its_own(&again).await;
        assert!(stuck.runs(&digest(from)), "the one that refuses goes on: {from:?} -> {to:?}");
        assert!(quick.runs(&digest(to)), "the other stays: {from:?} -> {to:?}");
        again.shutdown().await;
    }
}

#[tokio::test]
async fn what_one_envoy_took_goes_back_for_nobody_when_those_that_refused_it_come_first_after_a_restart()
 {
    let (from, to) = (AuthMode::ApiKey, AuthMode::None);
    let (control, state, first, [quick, stuck]) = changed(from, to).await;
    // This one rejects what others have accepted for certain.
    let late = FakeEnvoy::picky(&first.xds, "late", "all", takes_only(from));
    reported(&control, 0, "is refused by two", |s| (s.nodes_acked, s.nodes_nacked) == (1, 2)).await;
    drop(quick);
    let xds = first.xds.clone();
    first.shutdown().await;
    drop(control);
    let config = Config { xds_listen: Some(xds), ..config(NOWHERE, state.path()) };
    let again = rig::start(config).await.unwrap();
    rig::ready(&again).await;
    let status = || again.fleet.statuses().pop().unwrap();
    let both = || (status().nodes_nacked == 2).then_some(());
    eventually("both refuse it again", both).await;
    assert!(stuck.runs(&digest(from)), "nothing takes away what it runs");
    assert_eq!(status().acked_revision, 2);
    let quick = FakeEnvoy::start(&again.xds, "quick");
    eventually("the one that takes it has it", || quick.runs(&digest(to)).then_some(())).await;
    for envoy in [&stuck, &late] {
        let refused = envoy.refused();
        let distinct: std::collections::BTreeSet<_> = refused.iter().collect();
        assert_eq!((refused.len(), distinct.len()), (2, 2), "once in each life, in other bytes");
    }
    again.shutdown().await;
}

#[tokio::test]
async fn looser_rules_open_no_route_before_an_envoy_has_the_new_ones_and_none_when_all_refuse() {
    let control = control_with(1).await;
    let state = tempfile::tempdir().unwrap();
    let agent = agent(&control.url(), state.path()).await;
    let envoy = FakeEnvoy::picky(&agent.xds, "e1", "all", takes_only(AuthMode::ApiKey));
    reported(&control, 0, "is active", active(1, 1)).await;
    control.state.set(&publish(2, AuthMode::None));
    reported(&control, 0, "failed", |s| s.error.is_some() && s.nodes_acked == 0).await;
    assert!(envoy.runs(&digest(AuthMode::ApiKey)));
    let by = digest(AuthMode::ApiKey);
    assert_eq!(knock_by(&agent.xds, &id(1, 0), &by, None).await, 401);
    assert_eq!(knock(&agent.xds, &id(1, 0), None).await.status, 401);
    agent.shutdown().await;
}

#[tokio::test]
async fn a_suspension_and_a_revocation_hold_at_once_on_every_route() {
    let (control, _state, agent, _envoys) = changed(AuthMode::ApiKey, AuthMode::None).await;
    let rules = [digest(AuthMode::ApiKey), digest(AuthMode::None)];
    control.state.set(&pb::Publish { suspended: true, ..publish(3, AuthMode::None) });
    rig::until_status(&agent.xds, &id(1, 0), KEY, 503).await;
    for access in &rules {
        assert_eq!(knock_by(&agent.xds, &id(1, 0), access, Some(KEY)).await, 503);
    }
    control.state.set(&publish(4, AuthMode::None));
    rig::until_status(&agent.xds, &id(1, 0), KEY, 200).await;
    assert_eq!(knock_by(&agent.xds, &id(1, 0), &rules[0], None).await, 401);
    control.state.remove::<pb::Credential>(&id(7, 1));
    rig::until_status(&agent.xds, &id(1, 0), KEY, 401).await;
    assert_eq!(knock_by(&agent.xds, &id(1, 0), &rules[0], Some(KEY)).await, 401);
    assert_eq!(knock_by(&agent.xds, &id(1, 0), &rules[1], None).await, 200);
    agent.shutdown().await;
}

#[tokio::test]
async fn a_subscription_or_key_that_cannot_be_read_entitles_nobody() {
    for strange in [true, false] {
        let control = control_with(1).await;
        control.state.set(&fixtures::entitlement(vec![]));
        control.state.set(&fixtures::credential());
        let state = tempfile::tempdir().unwrap();
        let agent = agent(&control.url(), state.path()).await;
        rig::until_status(&agent.xds, &id(1, 0), KEY, 200).await;
        if strange {
            let plan_id = "p".repeat(1_000);
            control.state.set(&pb::Entitlement { plan_id, ..fixtures::entitlement(vec![]) });
            rig::until_status(&agent.xds, &id(1, 0), KEY, 403).await;
        } else {
            let key_sha256 = vec![0; 31].into();
            control.state.set(&pb::Credential { key_sha256, ..fixtures::credential() });
            rig::until_status(&agent.xds, &id(1, 0), KEY, 401).await;
        }
        agent.shutdown().await;
    }
}
