//! Tests of TLS between the agent and the control plane, both in one process.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use imp_agent::config::Config as AgentConfig;
use imp_agent::link::LinkState;
use imp_bench::process::eventually;
use imp_control::config::Config as ControlConfig;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::json;

const PATIENCE: Duration = Duration::from_secs(60);

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Result<Authority> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    Ok(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?)
}

/// Writes a new certificate and its key; the key first, as operators should.
fn write(authority: &Authority, directory: &Path) -> Result<()> {
    let key = KeyPair::generate()?;
    let cert = CertificateParams::new(vec!["localhost".to_owned()])?.signed_by(&key, authority)?;
    std::fs::write(directory.join("hub.key"), key.serialize_pem())?;
    Ok(std::fs::write(directory.join("hub.crt"), cert.pem())?)
}

fn agent_config(directory: &Path, port: u16, ca: &str, token: &str) -> AgentConfig {
    let control = format!("https://localhost:{port}");
    AgentConfig {
        control_ca: Some(directory.join(ca)),
        registration_token: Some(token.to_owned()),
        ..AgentConfig::in_process(&control, &directory.join(format!("agent-{ca}")))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_trusts_one_authority_and_goes_on_through_a_new_certificate() -> Result<()> {
    imp_bench::install_crypto();
    let directory = tempfile::tempdir()?;
    let (ours, stranger) = (authority()?, authority()?);
    std::fs::write(directory.path().join("ours"), ours.pem())?;
    std::fs::write(directory.path().join("strangers"), stranger.pem())?;
    write(&ours, directory.path())?;
    let config = ControlConfig {
        agent_tls_cert: Some(directory.path().join("hub.crt")),
        agent_tls_key: Some(directory.path().join("hub.key")),
        ..ControlConfig::in_process(&directory.path().join("control"))
    };
    let control = imp_control::app::App::start(config).await?;
    let (port, token) = (control.agent_addr.port(), control.admin_token.clone());
    let admin = imp_bench::rest::Rest::new(
        format!("http://{}", control.rest_addr),
        token.context("a first token")?,
    );
    let cluster = admin.post("/v1/clusters", &json!({ "name": "here" })).await?;
    let path =
        format!("/v1/clusters/{}/registration-tokens", cluster["id"].as_str().context("an id")?);
    let made = admin.post(&path, &json!({})).await?;
    let token = made["token"].as_str().context("a token")?.to_owned();

    // A control plane that the agent's authority did not sign is refused: the token is not sent to
    // it.
    let deceived = agent_config(directory.path(), port, "strangers", &token);
    let deceived = imp_agent::app::App::start(deceived).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(*deceived.link_state.borrow(), LinkState::Registering);
    deceived.shutdown().await;

    let agent = agent_config(directory.path(), port, "ours", &token);
    let agent = imp_agent::app::App::start(agent).await?;
    let is = async |connected: bool| {
        let now = *agent.link_state.borrow() == LinkState::Connected;
        Ok((now == connected).then_some(()))
    };
    eventually("connected", PATIENCE, async || is(true).await).await?;
    // The next connection uses another certificate.
    write(&ours, directory.path())?;
    control.shutdown().await;
    eventually("away", PATIENCE, async || is(false).await).await?;
    let config = ControlConfig {
        agent_listen: format!("127.0.0.1:{port}"),
        agent_tls_cert: Some(directory.path().join("hub.crt")),
        agent_tls_key: Some(directory.path().join("hub.key")),
        ..ControlConfig::in_process(&directory.path().join("control"))
    };
    let control = imp_control::app::App::start(config).await?;
    eventually("connected again", PATIENCE, async || is(true).await).await?;
    agent.shutdown().await;
    control.shutdown().await;
    Ok(())
}
