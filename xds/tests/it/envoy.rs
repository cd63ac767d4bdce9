//! A real Envoy 1.40 as the client, over both protocols.

mod config;
mod fresh;
mod grpc;
mod poisoned;
mod rig;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use imp_xds::stream::Variant;
use imp_xds::{Change, Resource, ResourceSet, ServerConfig, TypeRules};

use crate::support::Running;
use config::{
    CLUSTER, ENDPOINTS, EXTENSION, LISTENER, ROUTES, RUNTIME, Routing, SCOPE, SECRET, VIRTUAL_HOST,
    bad_cluster, cluster, endpoints, extension, host, listener, routes, routes_on_demand, runtime,
    scope, scope_of_its_own, secret, waiting_scope,
};
use rig::{Envoy, free_port, get, get_of, get_tls, upstream};

const CERTIFICATES: [&str; 2] =
    [include_str!("envoy/test-only-1.pem"), include_str!("envoy/test-only-2.pem")];

const PATIENCE: Duration = Duration::from_secs(20);

fn rules() -> ServerConfig {
    let full = |url, phase| TypeRules { full_state: true, ..TypeRules::new(url, phase) };
    let named = |url, phase| TypeRules { legacy_wildcard: false, ..TypeRules::new(url, phase) };
    ServerConfig::new(vec![
        named(RUNTIME, 0),
        full(CLUSTER, 0),
        named(ENDPOINTS, 0),
        named(SECRET, 1),
        TypeRules { never_remove: true, ..named(EXTENSION, 1) },
        full(LISTENER, 2),
        full(SCOPE, 3),
        named(ROUTES, 3),
        TypeRules {
            missing_is_empty: true,
            named_after: Some(ROUTES.into()),
            ..named(VIRTUAL_HOST, 4)
        },
    ])
}

/// Envoy with every type of resource, and the ports of its listeners.
struct Rig {
    running: Running,
    envoy: Envoy,
    plain: u16,
    scoped: u16,
    tls: u16,
    upstreams: [u16; 2],
}

fn put(set: &ResourceSet, resources: Vec<(&'static str, Resource)>) {
    let mut change = Change::default();
    resources.into_iter().for_each(|(type_url, resource)| change.upsert(type_url, resource));
    set.apply(change);
}

impl Rig {
    async fn start(variant: Variant) -> Self {
        let upstreams = [upstream("one").await, upstream("two").await];
        let (plain, scoped, tls) = (free_port().await, free_port().await, free_port().await);
        let set = ResourceSet::new();
        let named = Routing::Named("routes");
        put(
            &set,
            vec![
                (RUNTIME, runtime("runtime", "first", "test.value")),
                (CLUSTER, cluster("up", "1", 500)),
                (ENDPOINTS, endpoints("up", "1", upstreams[0])),
                (SECRET, secret("cert", "1", CERTIFICATES[0])),
                (EXTENSION, extension("extension", "1")),
                (LISTENER, listener("plain", "1", plain, &named, None)),
                (LISTENER, listener("scoped", "1", scoped, &Routing::Scoped, None)),
                (LISTENER, listener("tls", "1", tls, &named, Some("cert"))),
                (SCOPE, scope("scope", "1", "s", "routes")),
                (ROUTES, routes("routes", "1", "up")),
            ],
        );
        let running = Running::start(set, rules()).await;
        let envoy = Envoy::start(running.address.port(), variant).await;
        let rig = Self { running, envoy, plain, scoped, tls, upstreams };
        rig.until_served().await;
        rig
    }

    async fn until_served(&self) {
        self.until("plain", async || self.plain("one").await).await;
        let scoped = async || {
            let answer = get(self.scoped, "/", "x-scope: s\r\n").await;
            answer.is_some_and(|text| text.starts_with("HTTP/1.1 200") && text.ends_with("one"))
        };
        self.until("scoped", scoped).await;
        self.until("tls", async || get_tls(self.tls, CERTIFICATES[0]).await == Some(200)).await;
    }

    /// Whether the upstream of this name answers.
    async fn plain(&self, name: &str) -> bool {
        let answer = get(self.plain, "/", "").await;
        answer.is_some_and(|text| text.starts_with("HTTP/1.1 200") && text.ends_with(name))
    }

    async fn until(&self, what: &str, so: impl AsyncFn() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !so().await {
            let notes = self.running.notes.all();
            assert!(Instant::now() < deadline, "{what}: {notes:?}\n{}", self.envoy.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// The version of all clusters in Envoy's config dump.
    async fn shown_version(&self) -> String {
        let dump = get(self.envoy.admin, "/config_dump", "").await.unwrap_or_default();
        let clusters = dump.split("ClustersConfigDump\",").nth(1).unwrap_or_default();
        let version = clusters.trim_start().strip_prefix("\"version_info\": \"");
        version.and_then(|text| text.split('"').next()).unwrap_or_default().to_owned()
    }

    fn refusals(&self) -> Vec<String> {
        let notes = self.running.notes.all();
        notes.into_iter().filter(|note| note.starts_with("nacked")).collect()
    }

    /// Changes every type, and checks that each change takes effect.
    async fn changes_act(&self) {
        put(&self.running.set, vec![(ENDPOINTS, endpoints("up", "2", self.upstreams[1]))]);
        self.until("endpoints", async || self.plain("two").await).await;

        // R55: Envoy shows the version of a type in the resource set.
        let before = self.shown_version().await;
        assert_eq!(before.len(), 16, "{before}");

        put(&self.running.set, vec![(RUNTIME, runtime("runtime", "second", "test.value"))]);
        let loaded = async || {
            let text = get(self.envoy.admin, "/runtime", "").await.unwrap_or_default();
            text.contains("second")
        };
        self.until("the runtime", loaded).await;

        // R62: Envoy drops the endpoints of a cluster that changes, and waits for them.
        put(&self.running.set, vec![(CLUSTER, cluster("up", "2", 700))]);
        let updated = async || self.envoy.stat("cluster_manager.cluster_updated").await >= 1;
        self.until("the cluster is replaced", updated).await;
        let warm = async || self.envoy.stat("cluster_manager.warming_clusters").await == 0;
        self.until("the cluster is warm", warm).await;
        assert!(self.plain("two").await);
        assert_ne!(self.shown_version().await, before);

        put(&self.running.set, vec![(EXTENSION, extension("extension", "2"))]);
        let extended = async || {
            let answer = get(self.plain, "/", "").await.unwrap_or_default();
            answer.contains("x-extension: 2\r\n")
        };
        self.until("the extension", extended).await;

        put(&self.running.set, vec![(SECRET, secret("cert", "2", CERTIFICATES[1]))]);
        let rotated = async || get_tls(self.tls, CERTIFICATES[1]).await == Some(200);
        self.until("the secret", rotated).await;

        // R60: a route to a cluster that is sent with it never causes a 503.
        put(
            &self.running.set,
            vec![
                (ROUTES, routes("routes", "2", "new")),
                (CLUSTER, cluster("new", "1", 500)),
                (ENDPOINTS, endpoints("new", "1", self.upstreams[0])),
            ],
        );
        let deadline = Instant::now() + PATIENCE;
        while !self.plain("one").await {
            assert!(self.plain("two").await || self.plain("one").await, "make before break");
            assert!(Instant::now() < deadline, "the route does not move");
        }
        put(&self.running.set, vec![(SCOPE, scope("scope", "2", "t", "routes"))]);
        let scoped = async || {
            let answer = get(self.scoped, "/", "x-scope: t\r\n").await.unwrap_or_default();
            answer.starts_with("HTTP/1.1 200")
        };
        self.until("the scope", scoped).await;

        let named = Routing::Named("routes");
        let port = free_port().await;
        put(&self.running.set, vec![(LISTENER, listener("plain", "2", port, &named, None))]);
        let moved = async || get(port, "/", "").await.is_some_and(|text| text.contains(" 200 "));
        self.until("the listener", moved).await;
        assert_eq!(self.refusals(), Vec::<String>::new());
    }

    /// The server dies and comes back while calls continue.
    async fn restart_under_traffic(self) {
        let Self { running, envoy, plain, scoped, tls, upstreams } = self;
        let (stop, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let traffic = tokio::spawn({
            let (stop, calls) = (stop.clone(), calls.clone());
            async move {
                let mut failed = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let answer = get(plain, "/", "").await.unwrap_or_default();
                    if !answer.starts_with("HTTP/1.1 200") {
                        failed.push(answer);
                    }
                    calls.fetch_add(1, Ordering::Relaxed);
                }
                failed
            }
        });
        let (address, set) = (running.address, running.set.clone());
        running.kill();
        put(&set, vec![(EXTENSION, extension("extension", "2"))]);
        let running = Running::restart(address, set, rules()).await;
        let rig = Self { running, envoy, plain, scoped, tls, upstreams };
        let extended = async || {
            let answer = get(plain, "/", "").await.unwrap_or_default();
            answer.contains("x-extension: 2\r\n")
        };
        rig.until("the stream is back", extended).await;
        rig.until_served().await;
        // The secret is still subscribed: a rotation after the restart arrives.
        put(&rig.running.set, vec![(SECRET, secret("cert", "2", CERTIFICATES[1]))]);
        let rotated = async || get_tls(tls, CERTIFICATES[1]).await == Some(200);
        rig.until("the secret survives", rotated).await;
        put(&rig.running.set, vec![(ENDPOINTS, endpoints("up", "2", upstreams[1]))]);
        rig.until("the endpoints survive", async || rig.plain("two").await).await;
        stop.store(true, Ordering::Relaxed);
        let failed = traffic.await.expect("traffic");
        assert_eq!(failed, Vec::<String>::new(), "of {}", calls.load(Ordering::Relaxed));
        assert_eq!(rig.refusals(), Vec::<String>::new());
        rig.check_what_was_sent();
    }

    /// Envoy's resources of the wildcard types were not sent again over delta (R37).
    fn check_what_was_sent(&self) {
        let notes = self.running.notes.all();
        if !notes.iter().any(|note| note.starts_with("held")) {
            return; // the state of the world knows no versions
        }
        assert!(notes.contains(&"held up".to_owned()), "{notes:?}");
        assert!(notes.contains(&"held plain scoped tls".to_owned()), "{notes:?}");
        let sent = notes.iter().filter(|note| note.starts_with("sent"));
        assert!(!sent.clone().any(|note| note.contains("plain")), "{notes:?}");
    }

    /// One cluster that Envoy rejects, among good ones.
    async fn a_bad_resource_stands_alone(&self, bad: Resource, isolated: bool) {
        let good: Vec<String> = (0..10).map(|n| format!("good{n}")).collect();
        let mut resources = vec![(CLUSTER, bad)];
        for name in &good {
            resources.push((CLUSTER, cluster(name, "1", 500)));
            resources.push((ENDPOINTS, endpoints(name, "1", self.upstreams[0])));
        }
        resources.push((ROUTES, routes("routes", "2", "good7")));
        resources.push((EXTENSION, extension("extension", "2")));
        put(&self.running.set, resources);
        let refused = || self.refusals().iter().any(|note| note.starts_with("nacked bad:"));
        if isolated {
            self.until("the bad one is refused alone", async || refused()).await;
        } else {
            self.until("it is refused", async || !self.refusals().is_empty()).await;
        }
        let active = async || {
            let answer = get(self.plain, "/", "").await.unwrap_or_default();
            answer.contains("x-extension: 2\r\n") && answer.ends_with("one")
        };
        self.until("the others act", active).await;
        let total = self.refusals().len();
        assert!(total <= 5, "{:?}", self.refusals());
        put(&self.running.set, vec![(CLUSTER, cluster("bad", "2", 500))]);
        let added = async || self.envoy.stat("cluster_manager.cluster_added").await >= 13;
        self.until("R36: repaired", added).await;
        assert_eq!(self.refusals().len(), total, "R33");
    }
}

/// Envoy keeps a resource with a TTL while the server lives, changed or not, and no longer.
async fn stays_while_the_server_lives(variant: Variant) {
    let rig = Rig::start(variant).await;
    // Half of it is the delay that a busy machine may cause.
    let ttl = Duration::from_secs(2);
    let kept = |version, timeout| (CLUSTER, cluster("kept", version, timeout).with_ttl(ttl));
    let there = async || {
        let text = get(rig.envoy.admin, "/clusters", "").await.unwrap_or_default();
        text.contains("kept::")
    };
    put(
        &rig.running.set,
        vec![kept("1", 500), (ENDPOINTS, endpoints("kept", "1", rig.upstreams[0]))],
    );
    rig.until("it comes", there).await;
    for (version, timeout) in [("2", 600), ("3", 700)] {
        let until = Instant::now() + 2 * ttl;
        while Instant::now() < until {
            assert!(there().await, "it goes though the server lives");
            tokio::time::sleep(ttl / 10).await;
        }
        put(&rig.running.set, vec![kept(version, timeout)]);
    }
    assert_eq!(rig.envoy.stat("cluster_manager.cluster_removed").await, 0);
    assert_eq!(rig.refusals(), Vec::<String>::new());
    let Rig { running, envoy, .. } = rig;
    running.kill();
    let killed = Instant::now();
    while envoy.stat("cluster_manager.cluster_removed").await == 0 {
        assert!(killed.elapsed() < PATIENCE, "it stays though the server is gone");
        tokio::time::sleep(ttl / 10).await;
    }
    let text = get(envoy.admin, "/clusters", "").await.unwrap_or_default();
    assert!(text.contains("up::") && !text.contains("kept::"), "and nothing else goes");
}

#[tokio::test]
async fn r75_what_has_a_ttl_stays_with_envoy_while_the_server_lives_over_delta() {
    stays_while_the_server_lives(Variant::Delta).await;
}

#[tokio::test]
async fn r75_what_has_a_ttl_stays_with_envoy_while_the_server_lives_over_the_state_of_the_world() {
    stays_while_the_server_lives(Variant::StateOfTheWorld).await;
}

#[tokio::test]
async fn envoy_takes_every_type_and_every_change_over_delta() {
    Rig::start(Variant::Delta).await.changes_act().await;
}

#[tokio::test]
async fn envoy_takes_every_type_and_every_change_over_the_state_of_the_world() {
    Rig::start(Variant::StateOfTheWorld).await.changes_act().await;
}

#[tokio::test]
async fn r37_r38_a_restart_under_traffic_fails_no_call_over_delta() {
    Rig::start(Variant::Delta).await.restart_under_traffic().await;
}

#[tokio::test]
async fn r54_a_restart_under_traffic_fails_no_call_over_the_state_of_the_world() {
    Rig::start(Variant::StateOfTheWorld).await.restart_under_traffic().await;
}

#[tokio::test]
async fn r34_envoys_refusal_of_one_of_many_stands_alone_over_delta() {
    let bad = bad_cluster("bad", "1");
    Rig::start(Variant::Delta).await.a_bad_resource_stands_alone(bad, true).await;
}

#[tokio::test]
async fn r34_it_is_found_though_envoy_does_not_name_it() {
    // Envoy checks durations before it looks at clusters, and says only "Invalid duration".
    let bad = cluster("bad", "1", 1_000);
    Rig::start(Variant::Delta).await.a_bad_resource_stands_alone(bad, true).await;
}

#[tokio::test]
async fn r33_envoys_refusal_holds_up_nobody_over_the_state_of_the_world() {
    let bad = bad_cluster("bad", "1");
    Rig::start(Variant::StateOfTheWorld).await.a_bad_resource_stands_alone(bad, false).await;
}

#[tokio::test]
async fn r70_envoy_asks_for_virtual_hosts_on_demand() {
    let rig = Rig::start(Variant::Delta).await;
    let port = free_port().await;
    let on_demand = Routing::Named("hosts");
    put(
        &rig.running.set,
        vec![
            (VIRTUAL_HOST, host("hosts", "1", "known.test", "up")),
            (ROUTES, routes_on_demand("hosts", "1")),
            (LISTENER, listener("hosts", "1", port, &on_demand, None)),
        ],
    );
    let call = async |domain: &str| {
        let header = format!("host: {domain}\r\n");
        get_of(port, "/", &header).await.and_then(|text| text.get(9..12).map(str::to_owned))
    };
    let served = async || call("known.test").await.as_deref() == Some("200");
    rig.until("a known host", served).await;
    // R71: the negative answer is as fast.
    assert_eq!(call("unknown.test").await.as_deref(), Some("404"));
    put(&rig.running.set, vec![(VIRTUAL_HOST, host("hosts", "1", "unknown.test", "up"))]);
    let served = async || call("unknown.test").await.as_deref() == Some("200");
    rig.until("it is known now", served).await;
    assert_eq!(rig.refusals(), Vec::<String>::new());
}
