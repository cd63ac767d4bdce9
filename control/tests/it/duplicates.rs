//! Two processes with one agent's identity.

use imp_control::config::Config;
use imp_control::hub::presence::Duplicates;
use imp_proto::method;
use imp_xds::testing::FakeClient;
use serde_json::json;
use tonic::Code;

use crate::agent::{Agent, Credential, Report, channel, eventually, shows};
use crate::control_plane::ControlPlane;

async fn start(policy: Duplicates) -> (ControlPlane, String, Agent) {
    let change = |config: Config| Config { duplicate_agents: policy, ..config };
    let plane = ControlPlane::start_with(change).await;
    let made = plane.admin.make("clusters", json!({ "name": "here" })).await;
    let cluster = made["id"].as_str().unwrap().to_owned();
    let agent = Agent::start(&plane, &cluster).await;
    let path = format!("/v1/clusters/{cluster}/agents/{}", agent.id);
    (plane, path, agent)
}

async fn reads(plane: &ControlPlane, credential: &Credential) -> Result<FakeClient, tonic::Status> {
    let at = channel(plane.running.agent_addr);
    FakeClient::connect_with(at, credential.metadata(method::DELTA), "agent").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_reader_is_noticed_logged_counted_and_shown() {
    let (plane, path, agent) = start(Duplicates::Allow).await;
    assert_eq!(plane.admin.get(&path).await.ok()["duplicate_seen_at"], json!(null));
    let thief = agent.credential.copied("thief");
    let _stream = reads(&plane, &thief).await.unwrap();
    // The real one opens another stream while the newcomer is there: both live.
    let _report = agent.report().await;
    let shown = shows(&plane.admin, &path, |it| it["duplicate_seen_at"].is_string()).await;
    assert_ne!(shown["status"], "revoked");
    let metrics = plane.admin.request(reqwest::Method::GET, "/metrics").send().await.unwrap();
    assert!(metrics.text().await.unwrap().contains("imp_agent_duplicate_streams_total"));
    assert!(agent.held.is_connected(), "the real one is not disturbed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_reader_is_refused_by_choice_and_let_in_when_the_first_is_gone() {
    let (plane, _path, agent) = start(Duplicates::Refuse).await;
    let second = agent.credential.copied("second");
    let refused = reads(&plane, &second).await.unwrap_err();
    assert_eq!(refused.code(), Code::AlreadyExists);
    let refused = Report::open(agent.address, &second).await.map(drop).unwrap_err();
    assert_eq!(refused.code(), Code::AlreadyExists);
    // A reconnect of the first is no duplicate.
    let _again = reads(&plane, &agent.credential).await.unwrap();
    drop((agent, _again));
    eventually("a place for the second", || async { reads(&plane, &second).await.ok() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reconnect_takes_the_place_of_the_stream_that_is_left_behind() {
    for policy in [Duplicates::Allow, Duplicates::Refuse] {
        let (plane, _path, agent) = start(policy).await;
        let other = Credential { instance: "restarted".to_owned(), ..agent.credential.clone() };
        drop(agent);
        let open = || async { reads(&plane, &other).await.ok() };
        let mut first = eventually("the first stream", open).await;
        let mut second = reads(&plane, &other).await.unwrap();
        assert_eq!(first.next().await.unwrap_err().code(), Code::Aborted);
        second.subscribe("type.test/None", &[]).await.unwrap();
        second.accept().await.unwrap();
    }
}
