//! The delta client, against the server and against faulty ones.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use imp_xds::client::{ClientConfig, DeltaClient, Subscriber, Update};
use imp_xds::{Change, Resource, ResourceSet, TypeUrl, wire};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::metadata::MetadataMap;
use tonic::transport::{Channel, Endpoint};

use crate::peer::{A, B, config, put, remove, resource_set};
use crate::support::{Running, until};

/// Stores everything except one version.
#[derive(Default)]
struct Shelf {
    held: Mutex<BTreeMap<(String, String), String>>,
    connected: AtomicBool,
    updates: AtomicUsize,
    /// The cause of the newest resource that has one.
    cause: Mutex<Option<String>>,
}

const BAD: &str = "bad";

impl Shelf {
    fn text(&self) -> String {
        let held = self.held.lock().expect("held");
        let parts: Vec<_> = held.iter().map(|((_, name), v)| format!("{name}@{v}")).collect();
        parts.join(" ")
    }
}

impl Subscriber for Shelf {
    fn held(&self, type_url: &TypeUrl) -> Vec<(String, String)> {
        let held = self.held.lock().expect("held");
        let of_type = held.iter().filter(|((of, _), _)| of == type_url.as_str());
        of_type.map(|((_, name), version)| (name.clone(), version.clone())).collect()
    }

    fn apply(&self, update: Update) -> Vec<(String, String)> {
        self.updates.fetch_add(1, Ordering::Relaxed);
        let mut held = self.held.lock().expect("held");
        let mut rejected = Vec::new();
        for resource in update.upserts {
            let (name, version) = (resource.name().to_string(), resource.version().to_string());
            if let Some(metadata) = resource.metadata() {
                *self.cause.lock().expect("cause") = metadata.text("test", "cause").map(Into::into);
            }
            if version == BAD {
                rejected.push((name, "it is bad".to_owned()));
            } else {
                held.insert((update.type_url.to_string(), name), version);
            }
        }
        for name in update.removals {
            held.remove(&(update.type_url.to_string(), name));
        }
        rejected
    }

    fn connected(&self, connected: bool) {
        self.connected.store(connected, Ordering::Relaxed);
    }
}

pub(crate) struct Pulling {
    shelf: Arc<Shelf>,
    cancel: CancellationToken,
    tries: Arc<Mutex<Vec<Instant>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Pulling {
    /// Type, name and version of everything held.
    pub(crate) fn all(&self) -> BTreeMap<(String, String), String> {
        self.shelf.held.lock().expect("held").clone()
    }
}

pub(crate) fn pull(address: std::net::SocketAddr) -> Pulling {
    let shelf = Arc::new(Shelf::default());
    let cancel = CancellationToken::new();
    let tries = Arc::new(Mutex::new(Vec::new()));
    let mut config = ClientConfig::new("agent", vec![A.into(), B.into()]);
    config.backoff = (Duration::from_millis(20), Duration::from_millis(160));
    let client = DeltaClient::new(config, shelf.clone());
    let (stop, tried) = (cancel.clone(), tries.clone());
    let task = tokio::spawn(async move {
        let connect = || {
            tried.lock().expect("tries").push(Instant::now());
            async move { channel(address).await.map(|channel| (channel, MetadataMap::new())) }
        };
        client.run(connect, stop).await;
    });
    Pulling { shelf, cancel, tries, task }
}

async fn channel(address: std::net::SocketAddr) -> Result<Channel, Status> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"));
    let endpoint = endpoint.map_err(|error| Status::internal(error.to_string()))?;
    let endpoint = imp_xds::KeepAlive {
        interval: Duration::from_millis(500),
        timeout: Duration::from_secs(2),
    }
    .on_client(endpoint);
    endpoint.connect().await.map_err(|error| Status::unavailable(error.to_string()))
}

async fn holds(pulling: &Pulling, text: &str) {
    until(text, || pulling.shelf.text() == text).await;
}

#[tokio::test]
async fn it_follows_its_resource_set_and_resumes_by_versions() {
    let running = Running::start(resource_set(&[(A, "a", "1"), (B, "b", "1")]), config()).await;
    let pulling = pull(running.address);
    holds(&pulling, "a@1 b@1").await;
    put(&running.set, &[(A, "c", "1")]);
    holds(&pulling, "a@1 c@1 b@1").await;
    remove(&running.set, A, "a");
    holds(&pulling, "c@1 b@1").await;

    let (address, set) = (running.address, running.set.clone());
    running.kill();
    until("down", || !pulling.shelf.connected.load(Ordering::Relaxed)).await;
    put(&set, &[(B, "b", "2")]);
    remove(&set, A, "c");
    let running = Running::restart(address, set, config()).await;
    holds(&pulling, "b@2").await;
    let sent: Vec<_> =
        running.notes.all().into_iter().filter(|note| note.starts_with("sent")).collect();
    assert!(!sent.iter().any(|note| note.contains('a')), "only the difference: {sent:?}");
    pulling.cancel.cancel();
    pulling.task.await.expect("it stops");
    assert!(!pulling.shelf.connected.load(Ordering::Relaxed));
}

#[tokio::test]
async fn metadata_come_along_and_alone_make_nothing_new() {
    let running = Running::start(resource_set(&[(A, "a", "1")]), config()).await;
    let pulling = pull(running.address);
    holds(&pulling, "a@1").await;
    let caused = |version: &str, cause: &str| {
        let metadata = wire::Metadata::of("test", [("cause", cause)]);
        let resource = Resource::new("a", version, b"value".as_slice().into());
        let mut change = Change::default();
        change.upsert(A, resource.with_metadata(metadata));
        running.set.apply(change);
    };
    caused("1", "nobody hears of it");
    caused("2", "request 7");
    holds(&pulling, "a@2").await;
    assert_eq!(pulling.shelf.cause.lock().expect("cause").as_deref(), Some("request 7"));
    assert_eq!(pulling.shelf.updates.load(Ordering::Relaxed), 3, "both types, and one change");
}

#[tokio::test]
async fn r87_what_it_rejects_is_refused_by_name_and_not_held() {
    let running = Running::start(resource_set(&[(A, "a", "1"), (A, "b", BAD)]), config()).await;
    let pulling = pull(running.address);
    holds(&pulling, "a@1").await;
    until("refused alone", || running.notes.all().contains(&"nacked b: b: it is bad".to_owned()))
        .await;
    put(&running.set, &[(A, "b", "2")]);
    holds(&pulling, "a@1 b@2").await;
}

#[tokio::test]
async fn r87_tries_spread_out_up_to_the_longest_wait() {
    let nobody = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = nobody.local_addr().expect("an address");
    drop(nobody);
    let pulling = pull(address);
    until("seven tries", || pulling.tries.lock().expect("tries").len() >= 7).await;
    let tries = pulling.tries.lock().expect("tries").clone();
    let waits: Vec<_> = tries.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let steps = [20, 40, 80, 160, 160, 160].map(Duration::from_millis);
    for (wait, step) in waits.iter().zip(steps) {
        assert!(*wait >= step / 2, "{waits:?}");
    }
    pulling.cancel.cancel();
    pulling.task.await.expect("it stops");
}

#[tokio::test]
async fn r7_it_waits_for_a_server_that_is_not_ready() {
    let running = Running::start(ResourceSet::new(), config()).await;
    let pulling = pull(running.address);
    until("refused a few times", || pulling.tries.lock().expect("tries").len() > 3).await;
    assert_eq!(pulling.shelf.updates.load(Ordering::Relaxed), 0);
    put(&running.set, &[(A, "a", "1")]);
    holds(&pulling, "a@1").await;
}

#[tokio::test]
async fn r87_a_server_that_serves_and_breaks_is_not_asked_without_end() {
    let aged = imp_xds::ServerConfig { max_stream_age: Some(Duration::from_millis(1)), ..config() };
    let running = Running::start(resource_set(&[(A, "a", "1")]), aged).await;
    let pulling = pull(running.address);
    until("six tries", || pulling.tries.lock().expect("tries").len() >= 6).await;
    let tries = pulling.tries.lock().expect("tries").clone();
    assert!(tries[5] - tries[4] >= Duration::from_millis(80), "{tries:?}");
}

#[tokio::test]
async fn r85_a_server_that_falls_silent_is_left() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let pulling = pull(silent.local_addr().expect("an address"));
    let mut open = Vec::new();
    while open.len() < 2 {
        // Accepted, and never answered.
        let next = tokio::time::timeout(Duration::from_secs(15), silent.accept()).await;
        open.push(next.expect("another try in time").expect("a connection"));
    }
    assert!(pulling.tries.lock().expect("tries").len() >= 2);
    pulling.cancel.cancel();
    pulling.task.await.expect("it stops");
}
