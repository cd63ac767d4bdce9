//! Tests of refused gateways, and of publishes that conflict: reported, and retried when the cause
//! is gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use imp_proto::agent::{GatewayRefusal, PublishStatus};
use imp_proto::config as pb;
use imp_translate::xds::LISTENER;
use imp_xds::Resource;

use crate::control::Control;
use crate::fake_envoy::FakeEnvoy;
use crate::fixtures::{self, GATEWAY};
use crate::rig::{self, active, agent, control_with, eventually, reported};

const OTHER: &str = "00000000-0000-7000-8000-000000000002";

/// Waits until exactly these gateways are refused.
async fn refused(control: &Control, what: &str, gateways: &[&str]) -> Vec<GatewayRefusal> {
    let told = || {
        let told = control.state.with(|shared| shared.refused_gateways.clone())?;
        let ids: Vec<&str> = told.iter().map(|refusal| refusal.gateway_id.as_str()).collect();
        (ids == gateways).then_some(told)
    };
    eventually(what, told).await
}

fn other_gateway(port: u16) -> pb::Gateway {
    pb::Gateway { id: OTHER.to_owned(), ..fixtures::gateway(port) }
}

/// A publish at the host of another, on the other gateway.
fn rival(number: usize, of: usize) -> pb::Publish {
    let mut publish = fixtures::publish(number, 9_000);
    publish.gateway_id = OTHER.to_owned();
    publish.hostnames = vec![fixtures::host(of)];
    publish
}

fn says(word: &'static str) -> impl Fn(&PublishStatus) -> bool {
    move |status| status.error.as_ref().is_some_and(|error| error.hint.contains(word))
}

#[tokio::test]
async fn a_gateway_that_the_agent_cannot_take_is_told_with_its_publishes_until_it_is_mended() {
    let control = Control::start().await;
    let mut odd = fixtures::gateway(10_000);
    odd.listeners[0].hostname = "Shop.Example.ORG".to_owned();
    control.state.set(&odd);
    control.state.set(&fixtures::publish(0, 9_000));
    let state = tempfile::tempdir().unwrap();
    let agent = agent(&control.url(), state.path()).await;
    rig::ready(&agent).await;
    let told = refused(&control, "the gateway is refused", &[GATEWAY]).await;
    let error = told[0].error.clone().unwrap();
    assert_eq!(error.code, "agent_rejected");
    assert!(
        error.hint.contains("listeners/0/hostname") && error.hint.contains("Shop"),
        "{error:?}"
    );
    let status = reported(&control, 0, "names its gateway", says(GATEWAY)).await;
    let error = status.error.unwrap();
    assert_eq!(error.code, "gateway_refused");
    assert!(error.hint.contains("listeners/0/hostname"), "{error:?}");

    let _envoy = FakeEnvoy::start(&agent.xds, "e1");
    control.state.set(&fixtures::gateway(10_000));
    refused(&control, "it is accepted", &[]).await;
    reported(&control, 0, "is active, and nobody did anything", active(1, 1)).await;
    // An invalid change leaves what is served unchanged.
    odd.listeners[0].hostname = "shop.example.org.".to_owned();
    control.state.set(&odd);
    refused(&control, "the change is refused", &[GATEWAY]).await;
    control.state.set(&fixtures::at_revision(fixtures::publish(0, 9_000), 2));
    reported(&control, 0, "goes on", active(2, 1)).await;
    control.state.remove::<pb::Gateway>(GATEWAY);
    refused(&control, "it is gone", &[]).await;
    agent.shutdown().await;
}

#[tokio::test]
async fn a_listener_that_an_envoy_refuses_is_told_of_each_gateway_on_it_until_it_is_open() {
    let control = control_with(1).await;
    control.state.set(&other_gateway(10_000));
    control.state.set(&pb::Gateway { id: fixtures::id(9, 1), ..fixtures::gateway(10_001) });
    let state = tempfile::tempdir().unwrap();
    let agent = agent(&control.url(), state.path()).await;
    rig::ready(&agent).await;
    refused(&control, "all is well", &[]).await;
    let on = Arc::new(AtomicBool::new(true));
    let taste = {
        let on = on.clone();
        let bind = "cannot bind '0.0.0.0:10000': Address already in use";
        let refuses = move |of: &str, one: &Resource| {
            of == LISTENER && &**one.name() == "port-10000" && on.load(Ordering::SeqCst)
        };
        Box::new(move |of: &str, one: &Resource| refuses(of, one).then(|| bind.to_owned()))
    };
    let envoy = FakeEnvoy::picky(&agent.xds, "e1", "all", taste);
    let told = refused(&control, "both gateways of the port", &[GATEWAY, OTHER]).await;
    for GatewayRefusal { error, .. } in told {
        let error = error.unwrap();
        assert_eq!(
            (error.code.as_str(), error.resource.ends_with("port-10000")),
            ("envoy_nack", true)
        );
        assert!(error.envoy_message.contains("Address already in use"), "{error:?}");
    }
    on.store(false, Ordering::SeqCst);
    refused(&control, "it opened", &[]).await;
    reported(&control, 0, "is active", active(1, 1)).await;
    on.store(true, Ordering::SeqCst);
    drop(envoy);
    agent.shutdown().await;
}

#[tokio::test]
async fn who_is_refused_a_place_takes_it_when_the_other_goes() {
    let control = control_with(2).await;
    control.state.set(&other_gateway(10_000));
    let state = tempfile::tempdir().unwrap();
    let agent = agent(&control.url(), state.path()).await;
    let envoy = FakeEnvoy::start(&agent.xds, "e1");
    for number in 0..2 {
        reported(&control, number, "is active", active(1, 1)).await;
    }
    // It requests both hosts, and one of its own.
    let mut wants = rival(2, 0);
    wants.hostnames = vec![fixtures::host(0), fixtures::host(1), fixtures::host(2)];
    control.state.set(&wants);
    reported(&control, 2, "is in the way of another", says("served for another gateway")).await;
    let scopes = |count: usize| {
        let envoy = &envoy;
        eventually("so many scopes", move || (envoy.scopes().len() == count).then_some(()))
    };
    scopes(3).await;
    control.state.remove::<pb::Publish>(&fixtures::id(1, 1));
    control.state.remove::<pb::Publish>(&fixtures::id(1, 0));
    reported(&control, 2, "is active, and nobody did anything", active(1, 1)).await;
    scopes(3).await;
    // A removed gateway releases its places, too.
    control.state.set(&fixtures::publish(0, 9_000));
    reported(&control, 0, "waits now", says("served for another gateway")).await;
    control.state.remove::<pb::Gateway>(OTHER);
    reported(&control, 0, "is active again", active(1, 1)).await;
    agent.shutdown().await;
}
