//! An agent in process, and helpers to wait for its effects.

use std::future::Future;
use std::path::Path;
use std::time::Duration;

use imp_agent::app::{App, AppError, Running};
use imp_agent::config::Config;
use imp_agent::port::Address;
use imp_proto::agent as pb;

use crate::control::{Control, TOKEN};
use crate::fixtures;

pub(crate) const PATIENCE: Duration = Duration::from_secs(40);

/// Polls until `done` returns a value.
pub(crate) async fn eventually<T>(what: &str, mut done: impl FnMut() -> Option<T>) -> T {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(value) = done() {
            return value;
        }
        assert!(tokio::time::Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(PATIENCE, future).await;
    done.unwrap_or_else(|_| panic!("never: {what}"))
}

/// Starts one with a valid token.
pub(crate) async fn agent(control: &str, state: &Path) -> Running {
    start(Config { registration_token: Some(TOKEN.into()), ..config(control, state) })
        .await
        .unwrap()
}

pub(crate) fn config(control: &str, state: &Path) -> Config {
    Config::in_process(control, state)
}

pub(crate) async fn start(config: Config) -> Result<Running, AppError> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    App::start(config).await
}

pub(crate) async fn ready(agent: &Running) {
    eventually("ready", || agent.fleet.is_open().then_some(())).await;
}

/// A control plane with a gateway and this many publishes.
pub(crate) async fn control_with(publishes: usize) -> Control {
    let control = Control::start().await;
    control.state.set(&fixtures::gateway(10_000));
    for number in 0..publishes {
        control.state.set(&fixtures::publish(number, 9_000));
    }
    control
}

/// Waits until a publish is reported like this.
pub(crate) async fn reported(
    control: &Control,
    number: usize,
    what: &str,
    so: impl Fn(&pb::PublishStatus) -> bool,
) -> pb::PublishStatus {
    let id = fixtures::id(1, number);
    eventually(&format!("publish {number} {what}"), || control.state.status(&id).filter(&so)).await
}

/// Waits until a call with this key is answered like this.
pub(crate) async fn until_status(agent: &Address, publish: &str, key: &str, so: i32) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let mut last = None;
    loop {
        if let Some(mut caller) = crate::door::caller(agent).await {
            last = Some(crate::door::try_knock(&mut caller, publish, Some(key)).await);
        }
        if last == Some(Ok(so)) {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "never {so}, at last {last:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Everything acknowledged by this many Envoys at this revision.
pub(crate) fn active(revision: u64, nodes: u32) -> impl Fn(&pb::PublishStatus) -> bool {
    move |status| {
        status.revision == revision
            && status.acked_revision == revision
            && (status.nodes_acked, status.nodes_nacked, status.nodes_behind) == (nodes, 0, 0)
            && status.error.is_none()
    }
}

/// The answer of the admin port: status and body.
pub(crate) async fn admin(agent: &Running, path: &str) -> (u16, String) {
    let answer = reqwest::get(format!("http://{}{path}", agent.admin_addr)).await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}
