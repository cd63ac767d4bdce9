//! An API server in memory: apply, list, watch and delete, without schemas.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;

/// The objects by path, and all events in order, each with its collection.
#[derive(Default)]
struct Objects {
    live: BTreeMap<String, Value>,
    events: Vec<(String, Value)>,
}

/// Clones share one server.
#[derive(Clone)]
pub(crate) struct ApiServer {
    objects: Arc<Mutex<Objects>>,
    news: Arc<watch::Sender<usize>>,
    pub(crate) address: SocketAddr,
}

impl ApiServer {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            objects: Arc::default(),
            news: Arc::new(watch::Sender::new(0)),
            address: listener.local_addr().unwrap(),
        };
        let app = Router::new().fallback(answer).with_state(server.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        server
    }

    pub(crate) fn kubeconfig(&self, directory: &Path) -> PathBuf {
        let path = directory.join("kubeconfig");
        let text = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "t",
            "clusters": [{ "name": "t", "cluster": { "server": format!("http://{}", self.address) } }],
            "users": [{ "name": "t", "user": {} }],
            "contexts": [{ "name": "t", "context": { "cluster": "t", "user": "t" } }],
        });
        std::fs::write(&path, text.to_string()).unwrap();
        path
    }

    /// Kind and name of all objects.
    pub(crate) fn names(&self) -> Vec<String> {
        let objects = self.objects.lock().unwrap();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let name = |it: &Value| format!("{} {}", text(&it["kind"]), text(&it["metadata"]["name"]));
        objects.live.values().map(name).collect()
    }

    pub(crate) fn find(&self, kind: &str, name: &str) -> Option<Value> {
        let objects = self.objects.lock().unwrap();
        let is = |it: &&Value| it["kind"] == kind && it["metadata"]["name"] == name;
        objects.live.values().find(is).cloned()
    }

    /// Changes objects as somebody else: these for which `change` says so.
    pub(crate) fn change(&self, change: impl Fn(&mut Value) -> bool) {
        let mut objects = self.objects.lock().unwrap();
        let mut changed = Vec::new();
        for (path, object) in &objects.live {
            let mut object = object.clone();
            if change(&mut object) {
                changed.push((path.clone(), object));
            }
        }
        for (path, object) in changed {
            objects.put(&path, object, "MODIFIED");
        }
        self.news.send_replace(objects.events.len());
    }

    /// A controller accepts everything.
    pub(crate) fn accept(&self) {
        self.accept_if(|_| true);
    }

    /// It accepts these.
    pub(crate) fn accept_if(&self, of: impl Fn(&Value) -> bool) {
        self.change(|object| {
            if !of(object) {
                return false;
            }
            let generation = object["metadata"]["generation"].clone();
            let yes = |kind: &str| {
                json!({ "type": kind, "status": "True", "observedGeneration": generation })
            };
            let conditions = json!([yes("Accepted"), yes("ResolvedRefs")]);
            let parents = object.pointer("/spec/parentRefs/0").cloned();
            let gateway = json!({ "kind": "Gateway", "name": format!("imp-{}", crate::fixtures::GATEWAY) });
            let status = json!({
                "addresses": object.pointer("/status/addresses"),
                "conditions": conditions,
                "parents": [{ "parentRef": parents, "conditions": conditions }],
                "ancestors": [{ "ancestorRef": gateway, "conditions": conditions }],
            });
            let is_new = object["status"] != status;
            object["status"] = status;
            is_new
        });
    }
}

impl Objects {
    fn put(&mut self, path: &str, mut object: Value, event: &str) {
        let version = self.events.len() + 1;
        object["metadata"]["resourceVersion"] = json!(version.to_string());
        let collection = path.rsplit_once('/').unwrap().0.to_owned();
        self.events.push((collection, json!({ "type": event, "object": object })));
        match event {
            "DELETED" => drop(self.live.remove(path)),
            _ => drop(self.live.insert(path.to_owned(), object)),
        }
    }

    fn apply(&mut self, path: &str, mut object: Value) -> Value {
        let known = self.live.get(path).cloned();
        let generation = known.as_ref().and_then(|it| it["metadata"]["generation"].as_u64());
        let same = known.as_ref().is_some_and(|known| known["spec"] == object["spec"]);
        let generation = generation.unwrap_or(0) + u64::from(!same);
        object["metadata"]["generation"] = json!(generation);
        object["metadata"]["uid"] = json!(path);
        if let Some(status) = known.as_ref().and_then(|known| known.get("status")) {
            object["status"] = status.clone();
        }
        let event = if known.is_some() { "MODIFIED" } else { "ADDED" };
        self.put(path, object, event);
        self.live[path].clone()
    }
}

async fn answer(
    State(server): State<ApiServer>,
    method: Method,
    uri: Uri,
    body: Bytes,
) -> Response {
    let path = uri.path().to_owned();
    let query = uri.query().unwrap_or_default();
    if query.contains("watch=true") {
        let from = query.split('&').find_map(|it| it.strip_prefix("resourceVersion="));
        let from = from.and_then(|it| it.parse().ok()).unwrap_or(0);
        return watched(server, path, from);
    }
    let mut objects = server.objects.lock().unwrap();
    let answer = match method.as_str() {
        "PATCH" => objects.apply(&path, serde_json::from_slice(&body).unwrap()),
        "DELETE" => match objects.live.get(&path).cloned() {
            Some(object) => {
                objects.put(&path, object, "DELETED");
                json!({ "kind": "Status", "status": "Success" })
            }
            None => return (StatusCode::NOT_FOUND, "{}").into_response(),
        },
        _ if objects.live.contains_key(&path) => objects.live[&path].clone(),
        _ => {
            let below = format!("{path}/");
            let items = objects.live.iter().filter(|(at, _)| at.starts_with(&below));
            let items: Vec<_> = items.map(|(_, object)| object.clone()).collect();
            let version = objects.events.len().to_string();
            json!({ "kind": "List", "metadata": { "resourceVersion": version }, "items": items })
        }
    };
    server.news.send_replace(objects.events.len());
    axum::Json(answer).into_response()
}

/// Events of a collection from there on, and those to come.
fn watched(server: ApiServer, path: String, from: usize) -> Response {
    let news = server.news.subscribe();
    let stream = futures::stream::unfold(from, move |from| {
        let (server, path, mut news) = (server.clone(), path.clone(), news.clone());
        async move {
            loop {
                news.borrow_and_update();
                let (lines, seen): (Vec<String>, usize) = {
                    let objects = server.objects.lock().unwrap();
                    let new = objects.events.iter().skip(from);
                    let of = new.filter(|(collection, _)| *collection == path);
                    (of.map(|(_, event)| format!("{event}\n")).collect(), objects.events.len())
                };
                if !lines.is_empty() {
                    return Some((Ok::<_, std::convert::Infallible>(lines.concat()), seen));
                }
                news.changed().await.ok()?;
            }
        }
    });
    Body::from_stream(stream).into_response()
}
