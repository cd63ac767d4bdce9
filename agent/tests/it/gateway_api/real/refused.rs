//! What proxies or admission refuse.

use std::time::Duration;

use imp_proto::config as pb;
use pb::publish::AuthMode;
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::rig::Rig;
use crate::fixtures;
use crate::rig::{active, reported};

#[ignore = "needs an API server with Envoy Gateway: IMP_TEST_KUBE"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publish_is_not_active_while_proxies_refuse_what_somebody_wrote() {
    let rig = Rig::start().await;
    rig.control.state.set(&rig.publish(1, 1, AuthMode::None));
    rig.until(1, "/a", None, 200).await;
    rig.gets_an_address().await;
    rig.control.state.set(&rig.publish(2, 1, AuthMode::None));
    reported(&rig.control, 2, "active, and served", active(1, 1)).await;
    assert_eq!(rig.call(2, "/a", None).await.0, 200);

    // Envoy Gateway accepts this value, and Envoy refuses the whole table with it.
    let routes = "/apis/gateway.networking.k8s.io/v1/namespaces/edge/httproutes";
    let parent = format!("imp-{}", fixtures::GATEWAY);
    let theirs = json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": { "name": "theirs", "namespace": "edge" },
        "spec": { "parentRefs": [{ "name": parent }], "hostnames": ["theirs.example.com"], "rules": [{
            "filters": [
                { "type": "ResponseHeaderModifier", "responseHeaderModifier": { "set": [{ "name": "x-share", "value": "100%" }] } },
                { "type": "RequestRedirect", "requestRedirect": { "hostname": "www.example.com" } },
            ],
        }]},
    });
    rig.kubectl("POST", routes, Some(theirs)).await;
    let path = format!("{routes}/theirs");
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let found = rig.kubectl("GET", &path, None).await;
        if found["status"]["parents"][0]["conditions"][0]["status"] == "True" {
            break;
        }
        assert!(Instant::now() < deadline, "{found}");
        sleep(Duration::from_millis(20)).await;
    }
    rig.control.state.set(&rig.publish(3, 1, AuthMode::None));
    reported(&rig.control, 3, "not served", |status| {
        status.error.as_ref().is_some_and(|error| error.code == "not_served")
    })
    .await;
    assert_eq!(rig.call(3, "/a", None).await.0, 404);
    assert_eq!(rig.call(1, "/a", None).await.0, 200, "what was served is");

    rig.kubectl("DELETE", &path, None).await;
    reported(&rig.control, 3, "active", active(1, 1)).await;
    assert_eq!(rig.call(3, "/a", None).await.0, 200);
    rig.removes(&[1, 2, 3]).await;
    rig.stop().await;
}

#[ignore = "needs an API server with Envoy Gateway: IMP_TEST_KUBE"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_admission_refuses_is_told_and_applied_when_it_is_allowed_again() {
    let rig = Rig::start().await;
    rig.control.state.set(&rig.publish(1, 1, AuthMode::None));
    rig.until(1, "/a", None, 200).await;
    // What is accepted before the freeze asks proxies for a mark that cannot be written any more.
    rig.gets_an_address().await;

    let admission = "/apis/admissionregistration.k8s.io/v1";
    let policies = format!("{admission}/validatingadmissionpolicies");
    let bindings = format!("{admission}/validatingadmissionpolicybindings");
    let policy = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
        "metadata": { "name": "freeze" },
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": { "resourceRules": [{
                "apiGroups": ["gateway.networking.k8s.io"], "apiVersions": ["*"],
                "operations": ["CREATE", "UPDATE"], "resources": ["httproutes"],
            }]},
            "validations": [{ "expression": "false", "message": "routes are frozen until Monday" }],
        },
    });
    let binding = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": { "name": "freeze" },
        "spec": { "policyName": "freeze", "validationActions": ["Deny"] },
    });
    rig.kubectl("POST", &policies, Some(policy)).await;
    rig.kubectl("POST", &bindings, Some(binding)).await;
    // It takes a moment until the API server goes by it.
    let mut revision = 1;
    let deadline = Instant::now() + Duration::from_secs(60);
    let error = loop {
        revision += 1;
        rig.control.state.set(&rig.publish(2, revision, AuthMode::None));
        let told = reported(&rig.control, 2, "told of", |status| {
            status.revision == revision && (status.error.is_some() || active(revision, 1)(status))
        });
        if let Some(error) = told.await.error {
            break error;
        }
        assert!(Instant::now() < deadline, "never refused");
    };
    assert_eq!(error.code, "gateway_api_refused");
    assert!(error.hint.contains("routes are frozen until Monday"), "{error:?}");
    assert_eq!(rig.call(1, "/a", None).await.0, 200, "what was served is");

    rig.kubectl("DELETE", &format!("{bindings}/freeze"), None).await;
    rig.kubectl("DELETE", &format!("{policies}/freeze"), None).await;
    reported(&rig.control, 2, "active", active(revision, 1)).await;
    rig.until(2, "/a", None, 200).await;
    rig.removes(&[1, 2]).await;
    rig.stop().await;
}
