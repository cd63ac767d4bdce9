//! Tests of the port over TCP: a certificate is required, and is for one node.

use std::path::Path;

use envoy_types::pb::envoy::service::auth::v3 as auth;
use imp_agent::app::Running;
use imp_agent::config::Config;
use imp_agent::port::{AGENT_NAME, Address, issue};
use imp_translate::xds::SCOPE;
use imp_xds::testing::FakeClient;
use tonic::Code;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use crate::control::{Control, TOKEN};
use crate::fixtures::{self, GATEWAY, id};
use crate::rig::{self, config, control_with};

const OTHER: &str = "00000000-0000-7000-8000-000000000002";

async fn over_tcp() -> (Control, tempfile::TempDir, Running) {
    let control = control_with(0).await;
    for (number, gateway) in [(1, GATEWAY), (2, OTHER)] {
        let mut publish = fixtures::publish(number, 9_000);
        publish.gateway_id = gateway.to_owned();
        publish.auth_mode = imp_proto::config::publish::AuthMode::None.into();
        control.state.set(&publish);
    }
    let state = tempfile::tempdir().unwrap();
    let config = Config {
        registration_token: Some(TOKEN.into()),
        xds_listen: Some("127.0.0.1:0".parse().unwrap()),
        ..config(&control.url(), state.path())
    };
    let agent = rig::start(config).await.unwrap();
    rig::ready(&agent).await;
    (control, state, agent)
}

/// The files of a certificate for this gateway and node.
fn certificate(state: &Path, gateway: Option<&str>, node: &str) -> tempfile::TempDir {
    let out = tempfile::tempdir().unwrap();
    let gateway = gateway.map(|id| id.parse().unwrap());
    issue(state, gateway, node, 30, out.path()).unwrap();
    out
}

async fn dial(
    agent: &Running,
    authority: &Path,
    own: Option<&Path>,
) -> Result<Channel, tonic::transport::Error> {
    let Address::Tcp(address) = &agent.xds else { panic!("{}", agent.xds) };
    let pem = |directory: &Path, name: &str| std::fs::read(directory.join(name)).unwrap();
    let mut tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(pem(authority, "ca.pem")))
        .domain_name(AGENT_NAME);
    if let Some(own) = own {
        tls = tls.identity(Identity::from_pem(pem(own, "node.pem"), pem(own, "node.key")));
    }
    let endpoint = Endpoint::from_shared(format!("https://{address}")).unwrap();
    endpoint.tls_config(tls).unwrap().connect().await
}

/// The code with which a stream under these names ends; `None` if it is served.
async fn refused(channel: &Channel, node: &str, cluster: &str) -> Option<Code> {
    let client = FakeClient::connect(channel.clone(), node).await;
    let mut client = match client {
        Ok(client) => client.in_cluster(cluster),
        Err(status) => return Some(status.code()),
    };
    client.subscribe(SCOPE, &[]).await.unwrap();
    rig::within("an answer", client.next()).await.err().map(|status| status.code())
}

async fn check(channel: &Channel, publish: &str) -> Result<i32, Code> {
    let mut client = auth::authorization_client::AuthorizationClient::new(channel.clone());
    let context = [("publish".to_owned(), publish.to_owned())];
    let attributes =
        auth::AttributeContext { context_extensions: context.into(), ..Default::default() };
    let request = auth::CheckRequest { attributes: Some(attributes) };
    let answer = client.check(request).await.map_err(|status| status.code())?.into_inner();
    Ok(match answer.http_response.unwrap() {
        auth::check_response::HttpResponse::DeniedResponse(denied) => denied.status.unwrap().code,
        _ => 200,
    })
}

#[tokio::test]
async fn without_a_certificate_of_this_agent_nobody_is_served() {
    let (_control, state, agent) = over_tcp().await;
    let ours = certificate(state.path(), None, "n");
    // The authority of a different agent.
    let elsewhere = tempfile::tempdir().unwrap();
    std::fs::copy(state.path().join("identity.json"), elsewhere.path().join("identity.json"))
        .unwrap();
    let theirs = certificate(elsewhere.path(), None, "n");
    for own in [None, Some(theirs.path())] {
        let served = match dial(&agent, ours.path(), own).await {
            Ok(channel) => check(&channel, &id(1, 1)).await.is_ok(),
            Err(_) => false,
        };
        assert!(!served, "{own:?}");
    }
    assert!(agent.fleet.nodes().is_empty());
    let channel = dial(&agent, ours.path(), Some(ours.path())).await.unwrap();
    assert_eq!(check(&channel, &id(1, 1)).await, Ok(200));
    agent.shutdown().await;
}

#[tokio::test]
async fn a_node_gets_its_own_gateway_and_asks_about_no_other() {
    let (_control, state, agent) = over_tcp().await;
    let files = certificate(state.path(), Some(GATEWAY), "n");
    let channel = dial(&agent, files.path(), Some(files.path())).await.unwrap();
    assert_eq!(refused(&channel, "n", GATEWAY).await, None);
    let denied = Some(Code::PermissionDenied);
    assert_eq!(refused(&channel, "n", "all").await, denied);
    assert_eq!(refused(&channel, "n", OTHER).await, denied);
    assert_eq!(refused(&channel, "another", GATEWAY).await, denied);
    assert_eq!(check(&channel, &id(1, 1)).await, Ok(200));
    assert_eq!(check(&channel, &id(1, 2)).await, Ok(403), "another gateway's publish");

    let files = certificate(state.path(), None, "m");
    let channel = dial(&agent, files.path(), Some(files.path())).await.unwrap();
    assert_eq!(refused(&channel, "m", "all").await, None);
    assert_eq!(refused(&channel, "m", OTHER).await, None);
    assert_eq!(check(&channel, &id(1, 2)).await, Ok(200));
    agent.shutdown().await;
}
