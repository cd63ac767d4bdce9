use std::sync::{Arc, Mutex};

use futures::pin_mut;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use kube::client::Body;
use serde_json::json;

use super::*;
use crate::kinds::{GATEWAY_CLASS, HTTP_ROUTE};

/// What an API server was asked: method and path with query, content type, body.
pub(crate) type Asked = Arc<Mutex<Vec<(String, String, String)>>>;

/// An API server that answers with these statuses and bodies, in turn.
pub(crate) fn server(answers: Vec<(u16, Value)>) -> (Cluster, Asked) {
    let asked = Asked::default();
    let answers = Arc::new(Mutex::new(answers.into_iter()));
    let heard = asked.clone();
    let service = tower::service_fn(move |request: Request<Body>| {
        let (heard, answers) = (heard.clone(), answers.clone());
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await?.to_bytes();
            let line = format!("{} {}", head.method, head.uri);
            let content_type = head.headers.get("content-type").map(|v| v.to_str().unwrap_or(""));
            let text = String::from_utf8_lossy(&body).into_owned();
            heard.lock().unwrap().push((line, content_type.unwrap_or("").to_owned(), text));
            let (code, answer) = answers.lock().unwrap().next().expect("one request too many");
            let answer = Body::from(answer.to_string().into_bytes());
            Ok::<_, kube::Error>(Response::builder().status(code).body(answer).unwrap())
        }
    });
    (Cluster::new(Client::new(service, "default")), asked)
}

fn route(name: &str) -> Value {
    json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": {"name": name, "namespace": "edge", "generation": 3}})
}

pub(crate) fn failure(code: u16, message: &str) -> (u16, Value) {
    let reason = if code == 404 { "NotFound" } else { "Because" };
    (
        code,
        json!({"kind": "Status", "apiVersion": "v1", "code": code, "message": message,
        "status": "Failure", "reason": reason}),
    )
}

#[tokio::test]
async fn apply_is_a_patch_under_our_name_and_takes_nothing_from_others_unless_told() {
    let (cluster, asked) = server(vec![(200, route("a")), (201, route("a"))]);
    let object = Object::new(route("a")).unwrap();
    let applied = cluster.apply(&object, Force::No).await.unwrap();
    assert_eq!(applied.generation(), 3);
    cluster.apply(&object, Force::Yes).await.unwrap();
    let asked = asked.lock().unwrap();
    let path = "PATCH /apis/gateway.networking.k8s.io/v1/namespaces/edge/httproutes/a?";
    assert!(asked[0].0.starts_with(path), "{}", asked[0].0);
    assert!(asked[0].0.contains("fieldManager=imp-gateway") && !asked[0].0.contains("force"));
    assert!(asked[1].0.contains("force=true"), "{}", asked[1].0);
    assert_eq!(asked[0].1, "application/apply-patch+yaml");
    assert_eq!(serde_json::from_str::<Value>(&asked[0].2).unwrap(), route("a"));
}

#[tokio::test]
async fn objects_of_the_cluster_have_no_namespace_in_the_path() {
    let (cluster, asked) = server(vec![failure(404, "no such class")]);
    let key = Key { kind: &GATEWAY_CLASS, namespace: None, name: "eg".to_owned() };
    assert_eq!(cluster.get(&key).await, Ok(None));
    let path = "GET /apis/gateway.networking.k8s.io/v1/gatewayclasses/eg";
    assert_eq!(asked.lock().unwrap()[0].0.trim_end_matches('?'), path);
}

#[tokio::test]
async fn a_list_reads_all_pages_and_names_the_kind_of_each() {
    let page = |name: &str, next: Option<&str>| {
        let item = json!({"metadata": {"name": name, "namespace": "edge"}});
        (
            200,
            json!({"apiVersion": "v1", "kind": "HTTPRouteList", "items": [item],
            "metadata": {"continue": next}}),
        )
    };
    let (cluster, asked) = server(vec![page("a", Some("t1")), page("b", None)]);
    let found = cluster.list(&HTTP_ROUTE, None, "a=b").await.unwrap();
    let keys: Vec<_> = found.iter().map(|o| Key::of(o).unwrap().to_string()).collect();
    assert_eq!(keys, ["HTTPRoute edge/a", "HTTPRoute edge/b"]);
    let asked = asked.lock().unwrap();
    assert!(asked[0].0.contains("labelSelector=a%3Db"), "{}", asked[0].0);
    assert!(asked[1].0.contains("continue=t1"), "{}", asked[1].0);
}

#[tokio::test]
async fn deleting_what_is_gone_is_no_fault_and_another_object_of_the_name_is_left() {
    let conflict = failure(409, "the UID in the precondition does not match");
    let (cluster, asked) = server(vec![failure(404, "not found"), conflict]);
    let key = Object::new(route("a")).unwrap().key().clone();
    assert_eq!(cluster.delete(&key, None).await, Ok(false));
    let refused = cluster.delete(&key, Some("u1")).await;
    assert!(matches!(refused, Err(Fault::Conflict(_))), "{refused:?}");
    assert!(asked.lock().unwrap()[1].2.contains(r#""uid":"u1""#));
}

#[tokio::test]
async fn faults_are_told_apart() {
    let text = |code| failure(code, "text");
    let namespace = (
        404,
        json!({"kind": "Status", "apiVersion": "v1", "code": 404,
        "status": "Failure", "reason": "NotFound", "message": "namespaces \"edge\" not found",
        "details": {"name": "edge", "kind": "namespaces"}}),
    );
    let (cluster, _asked) =
        server(vec![text(403), text(404), namespace, text(409), text(422), text(503)]);
    let object = Object::new(route("a")).unwrap();
    let mut faults = Vec::new();
    for _ in 0..6 {
        faults.push(cluster.apply(&object, Force::No).await.unwrap_err());
    }
    let expected = [
        Fault::Forbidden("text".to_owned()),
        Fault::KindMissing("HTTPRoute".to_owned()),
        Fault::NamespaceMissing("namespaces \"edge\" not found".to_owned()),
        Fault::Conflict("text".to_owned()),
        Fault::Invalid("text".to_owned()),
        Fault::Away("503 text".to_owned()),
    ];
    assert_eq!(faults, expected);
}

#[tokio::test]
async fn a_watch_lists_first_and_again_when_its_version_has_expired() {
    let list = |version: &str| {
        (
            200,
            json!({"apiVersion": "v1", "kind": "HTTPRouteList",
            "metadata": {"resourceVersion": version}, "items": [route("a")]}),
        )
    };
    let expired = json!({"type": "ERROR", "object": failure(410, "too old").1});
    let (cluster, _asked) = server(vec![list("1"), (200, expired), list("9")]);
    let changes = cluster.watch(&HTTP_ROUTE, Some("edge"), "a=b");
    pin_mut!(changes);
    let mut told = Vec::new();
    while told.len() < 6 {
        told.push(changes.next().await.unwrap());
    }
    let whole = |told: &[Result<Change, Fault>]| {
        assert_eq!(told[0], Ok(Change::ListBegins));
        assert!(matches!(told[1], Ok(Change::Listed(_))), "{told:?}");
        assert_eq!(told[2], Ok(Change::ListEnds));
    };
    whole(&told[..3]);
    // The expiry itself is told, or the list begins at once.
    told.retain(|change| *change != Err(Fault::Expired));
    while told.len() < 6 {
        told.push(changes.next().await.unwrap());
    }
    whole(&told[3..]);
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_is_forbidden_is_tried_less_and_less_often() {
    let (cluster, _asked) = server(vec![failure(403, "no"); 8]);
    let changes = cluster.watch(&HTTP_ROUTE, Some("edge"), "a=b");
    pin_mut!(changes);
    let begun = tokio::time::Instant::now();
    for _ in 0..8 {
        let told = changes.next().await.unwrap();
        assert!(matches!(told, Err(Fault::Forbidden(_))), "nothing has answered: {told:?}");
    }
    assert!(begun.elapsed() > std::time::Duration::from_secs(60), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn an_api_server_that_is_away_is_said_in_one_line() {
    let _provider = rustls::crypto::ring::default_provider().install_default();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("kubeconfig");
    // Nobody listens on port 1.
    std::fs::write(
        &path,
        "{apiVersion: v1, kind: Config, current-context: t, \
         clusters: [{name: t, cluster: {server: 'http://127.0.0.1:1'}}], \
         users: [{name: a, user: {token: x}}], \
         contexts: [{name: t, context: {cluster: t, user: a}}]}",
    )
    .unwrap();
    let cluster = crate::Access::Kubeconfig(path).connect().await.unwrap();
    let fault = cluster.list(&HTTP_ROUTE, None, "").await.unwrap_err();
    assert!(matches!(fault, Fault::Away(_)), "{fault:?}");
    assert!(fault.to_string().contains("refused"), "{fault}");
}

#[tokio::test]
async fn a_wrong_kubeconfig_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("kubeconfig");
    let error = |path: std::path::PathBuf| async {
        let error = crate::Access::Kubeconfig(path).connect().await.err().unwrap().to_string();
        assert!(!error.contains('\n'), "{error}");
        error
    };
    assert!(error(path.clone()).await.contains("No such file"));
    std::fs::write(&path, "{{{").unwrap();
    assert!(error(path.clone()).await.contains("no YAML of a kubeconfig"));
    std::fs::write(&path, "{apiVersion: v1, kind: Config, current-context: t}").unwrap();
    let text = error(path.clone()).await;
    assert!(text.contains("kubeconfig") && text.contains("context"), "{text}");
}
