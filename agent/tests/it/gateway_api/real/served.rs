//! What is published, changed and removed.

use std::time::Duration;

use imp_proto::config as pb;
use pb::publish::AuthMode;
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::rig::Rig;
use crate::fixtures::{self, KEY, credential, host, id};
use crate::rig::{active, reported};

#[ignore = "needs an API server with Envoy Gateway: IMP_TEST_KUBE"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publish_is_served_guarded_corrected_and_removed() {
    let rig = Rig::start().await;
    rig.control.state.set(&rig.publish(1, 1, AuthMode::ApiKey));
    rig.control.state.set(&rig.publish(2, 1, AuthMode::None));
    reported(&rig.control, 1, "active", active(1, 1)).await;
    reported(&rig.control, 2, "active", active(1, 1)).await;
    // The agent decides, and says who calls; nobody else can.
    rig.until(1, "/a", None, 401).await;
    let seen = rig.until(1, "/a", Some(KEY), 200).await;
    assert!(seen.contains("x-imp-consumer: consumer") && !seen.contains("forged"), "{seen}");
    assert!(!seen.contains(KEY), "{seen}");
    rig.until(1, "/a", Some("wrong"), 401).await;
    let seen = rig.until(2, "/a", None, 200).await;
    assert!(!seen.contains("x-imp-"), "{seen}");

    // A revocation needs no object.
    let mut revoked = credential();
    revoked.state = pb::credential::State::Revoked.into();
    rig.control.state.set(&revoked);
    rig.until(1, "/a", Some(KEY), 401).await;
    rig.control.state.set(&credential());
    rig.until(1, "/a", Some(KEY), 200).await;

    // Somebody edits and deletes.
    let prefix = format!("imp-{}-k0", id(1, 1));
    let name = rig.routes().await.into_iter().find(|name| name.starts_with(&prefix)).unwrap();
    let route = format!("/apis/gateway.networking.k8s.io/v1/namespaces/edge/httproutes/{name}");
    let policy = format!(
        "/apis/gateway.envoyproxy.io/v1alpha1/namespaces/edge/securitypolicies/imp-{}",
        fixtures::GATEWAY
    );
    let edit = json!({ "spec": { "hostnames": ["theirs.example.com"] } });
    let before = Instant::now();
    rig.kubectl("PATCH", &format!("{route}?fieldManager=somebody"), Some(edit)).await;
    loop {
        let now = rig.kubectl("GET", &route, None).await;
        if now["spec"]["hostnames"] == json!([host(1)]) {
            break;
        }
        assert!(before.elapsed() < Duration::from_secs(10), "{now}");
        sleep(Duration::from_millis(5)).await;
    }
    println!("an edit was corrected after {:?}", before.elapsed());
    rig.kubectl("DELETE", &policy, None).await;
    let before = Instant::now();
    while rig.kubectl("GET", &policy, None).await["kind"] != "SecurityPolicy" {
        assert!(before.elapsed() < Duration::from_secs(10));
        sleep(Duration::from_millis(5)).await;
    }
    println!("a deletion was corrected after {:?}", before.elapsed());
    rig.until(1, "/a", None, 401).await;

    // A new revision, a suspension, the end.
    let mut second = rig.publish(1, 2, AuthMode::ApiKey);
    second.base_path = "/v2".into();
    rig.control.state.set(&second);
    reported(&rig.control, 1, "active at 2", active(2, 1)).await;
    rig.until(1, "/v2/a", Some(KEY), 200).await;
    rig.until(1, "/a", Some(KEY), 404).await;
    rig.control.state.set(&pb::Publish { suspended: true, revision: 2, ..second.clone() });
    let body = rig.until(1, "/v2/a", Some(KEY), 503).await;
    assert!(body.contains("publish_suspended"), "{body}");
    rig.removes(&[1, 2]).await;
    rig.stop().await;
}

#[ignore = "needs an API server with Envoy Gateway: IMP_TEST_KUBE"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn how_long_a_publish_takes() {
    let rig = Rig::start().await;
    rig.control.state.set(&rig.publish(0, 1, AuthMode::None));
    rig.until(0, "/a", None, 200).await;
    let mut times = Vec::new();
    for number in 1..=20 {
        let before = Instant::now();
        rig.control.state.set(&rig.publish(number, 1, AuthMode::None));
        rig.until(number, "/a", None, 200).await;
        times.push(before.elapsed());
    }
    times.sort();
    println!("publish to the first 200: p50 {:?}, most {:?}", times[10], times[19]);
    // Few at a time: many at once would be held back.
    for number in 0..=20 {
        rig.control.state.remove::<pb::Publish>(&id(1, number));
        let left = 20 - number;
        while number % 7 == 6 && rig.routes().await.len() > 2 * left + 2 {
            sleep(Duration::from_millis(20)).await;
        }
    }
    rig.stop().await;
}
