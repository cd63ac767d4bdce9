//! Tests of the agent's identity.

use std::os::unix::fs::PermissionsExt as _;

use imp_agent::app::AppError;
use imp_agent::config::Config;
use imp_agent::link::{LinkError, LinkState};

use crate::control::Control;
use crate::fake_envoy::FakeEnvoy;
use crate::rig::{
    self, PATIENCE, active, admin, agent, config, control_with, eventually, reported,
};

#[tokio::test]
async fn it_registers_once_and_is_the_same_agent_after_a_restart() {
    let control = Control::start().await;
    let state = tempfile::tempdir().unwrap();
    let first = agent(&control.url(), state.path()).await;
    rig::ready(&first).await;
    first.shutdown().await;
    let file = state.path().join("identity.json");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);

    // A used token is not used again, and none is needed.
    for token in [Some("another".to_owned()), None] {
        let config = Config { registration_token: token, ..config(&control.url(), state.path()) };
        let streams = control.state.with(|shared| shared.streams);
        let again = rig::start(config).await.unwrap();
        eventually("connected", || {
            control.state.with(|shared| (shared.streams > streams).then_some(()))
        })
        .await;
        again.shutdown().await;
    }
    assert_eq!(control.state.with(|shared| shared.registrations), 1);
}

#[tokio::test]
async fn a_wrong_token_ends_it_with_one_line_that_does_not_show_the_token() {
    let control = Control::start().await;
    let state = tempfile::tempdir().unwrap();
    let token = Some("imp_reg_wrong_secret".to_owned());
    let config = Config { registration_token: token, ..config(&control.url(), state.path()) };
    let mut agent = rig::start(config).await.unwrap();
    let error = rig::within("an end", agent.ended()).await;
    assert!(matches!(error, AppError::Link(LinkError::TokenRefused(_))), "{error:?}");
    let line = error.to_string();
    assert!(!line.contains('\n') && !line.contains("imp_reg_wrong_secret"), "{line}");
    assert!(!state.path().join("identity.json").exists());
    agent.shutdown().await;
}

#[tokio::test]
async fn without_identity_and_token_it_says_what_to_do() {
    let state = tempfile::tempdir().unwrap();
    let mut agent = rig::start(config("http://127.0.0.1:9", state.path())).await.unwrap();
    let error = rig::within("an end", agent.ended()).await;
    assert!(error.to_string().contains("IMP_REGISTRATION_TOKEN"), "{error}");
    agent.shutdown().await;
}

#[tokio::test]
async fn it_waits_for_a_control_plane_that_comes_later() {
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let state = tempfile::tempdir().unwrap();
    let agent = agent(&format!("http://{address}"), state.path()).await;
    let (status, why) = admin(&agent, "/readyz").await;
    assert_eq!(status, 503, "{why}");
    assert_eq!(admin(&agent, "/healthz").await.0, 200);
    assert_eq!(*agent.link_state.borrow(), LinkState::Registering);

    let blank = Control::start().await;
    let (_, content) = blank.stop();
    let _control = Control::start_at(address, content).await;
    rig::ready(&agent).await;
    assert_eq!(admin(&agent, "/readyz").await.0, 200);
    agent.shutdown().await;
}

#[tokio::test]
async fn a_jwt_is_renewed_before_it_ends_and_when_it_is_refused() {
    let control = Control::start().await;
    control.state.with(|shared| shared.jwt_life_ms = 900);
    let state = tempfile::tempdir().unwrap();
    let agent = agent(&control.url(), state.path()).await;
    rig::ready(&agent).await;
    eventually("renewed by itself", || {
        control.state.with(|shared| (shared.renewals >= 2).then_some(()))
    })
    .await;

    // The control plane changes its key: the old JWT is refused on the next stream.
    control.state.with(|shared| (shared.jwt, shared.jwt_life_ms) = (2, 3_600_000));
    let before = control.state.with(|shared| shared.streams);
    let (address, content) = control.stop();
    let control = Control::start_at(address, content).await;
    eventually("a stream with the new JWT", || {
        control.state.with(|shared| (shared.streams > before).then_some(()))
    })
    .await;
    agent.shutdown().await;
    let saved = std::fs::read_to_string(state.path().join("identity.json")).unwrap();
    assert!(saved.contains("jwt-2"), "the new JWT is kept");
}

#[tokio::test]
async fn a_revoked_agent_goes_on_serving_and_says_so() {
    let control = control_with(2).await;
    let state = tempfile::tempdir().unwrap();
    let first = agent(&control.url(), state.path()).await;
    let envoy = FakeEnvoy::start(&first.xds, "e1");
    reported(&control, 1, "is active", active(1, 1)).await;
    drop(envoy);
    first.shutdown().await;

    control.state.with(|shared| shared.revoked = true);
    let again = rig::start(config(&control.url(), state.path())).await.unwrap();
    let mut link = again.link_state.clone();
    let revoked = link.wait_for(|state| *state == LinkState::Revoked);
    tokio::time::timeout(PATIENCE, revoked).await.unwrap().unwrap();
    let envoy = FakeEnvoy::start(&again.xds, "e1");
    eventually("both publishes", || (envoy.scopes().len() == 2).then_some(())).await;
    assert!(admin(&again, "/status").await.1.contains(r#""state":"revoked""#));
    again.shutdown().await;
}
