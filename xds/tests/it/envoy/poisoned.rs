//! Wrong scopes among good ones (R94).

use std::collections::HashSet;

use imp_xds::Batching;

use super::config::{restamp, table};
use super::*;

const SCOPES: usize = 64;

fn rules_of_batches() -> ServerConfig {
    let batching = Batching::UpTo {
        unproven: SCOPES,
        unproven_bytes: 1 << 20,
        proven: 1024,
        proven_bytes: 2 << 20,
    };
    let mut config = rules();
    for rules in &mut config.types {
        if [SCOPE, ROUTES].contains(&rules.type_url.as_str()) {
            rules.batching = batching;
        }
        if rules.type_url.as_str() == SCOPE {
            rules.restamp = Some(restamp);
        }
    }
    config
}

/// Envoy with one listener and good scopes of version 1.
struct Scopes {
    running: Running,
    envoy: Envoy,
    port: u16,
}

impl Scopes {
    async fn start() -> Self {
        Self::with((0..SCOPES).map(|n| (SCOPE, scope_of_its_own(&name(n), "v1", false)))).await
    }

    async fn with(scopes: impl Iterator<Item = (&'static str, Resource)>) -> Self {
        let port = free_port().await;
        let set = ResourceSet::new();
        let mut first = vec![
            (EXTENSION, extension("extension", "1")),
            (LISTENER, listener("scoped", "1", port, &Routing::Scoped, None)),
        ];
        first.extend(scopes);
        put(&set, first);
        let running = Running::start(set, rules_of_batches()).await;
        let envoy = Envoy::start(running.address.port(), Variant::Delta).await;
        let scopes = Self { running, envoy, port };
        scopes.until_served(&HashSet::new(), "v1").await;
        scopes
    }

    /// The version that answers for a scope.
    async fn served(&self, n: usize) -> String {
        let header = format!("x-scope: {}\r\n", name(n));
        let answer = get(self.port, "/", &header).await.unwrap_or_default();
        answer.rsplit("\r\n").next().unwrap_or_default().to_owned()
    }

    /// Waits until all but these serve this version.
    async fn until_served(&self, others: &HashSet<usize>, version: &str) {
        let deadline = Instant::now() + PATIENCE;
        for n in (0..SCOPES).filter(|n| !others.contains(n)) {
            while self.served(n).await != version {
                let log = self.envoy.log();
                assert!(Instant::now() < deadline, "{} serves another version\n{log}", name(n));
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }

    /// How many of a type Envoy has rejected alone.
    fn refused(&self, type_url: &str) -> usize {
        let status = self.running.server.status();
        let types = status.iter().flat_map(|stream| &stream.types);
        types.filter(|of| of.type_url.as_str() == type_url).map(|of| of.refused.len()).sum()
    }

    /// How many responses had scopes so far, and how many of them were refused.
    fn responses(&self) -> (usize, usize) {
        let notes = self.running.notes.all();
        let of = |what: &str| {
            let about_scopes = format!("{what} host");
            notes.iter().filter(|note| note.starts_with(&about_scopes)).count()
        };
        (of("sent"), of("nacked"))
    }
}

fn name(n: usize) -> String {
    format!("host{n:02}")
}

async fn all_good_ones_are_served(wrong: &[usize], most_responses: usize) {
    let scopes = Scopes::start().await;
    let wrong: HashSet<_> = wrong.iter().copied().collect();
    let before = scopes.responses();
    let second = (0..SCOPES).map(|n| scope_of_its_own(&name(n), "v2", wrong.contains(&n)));
    put(&scopes.running.set, second.map(|scope| (SCOPE, scope)).collect());
    scopes.until_served(&wrong, "v2").await;
    let all_refused = || scopes.refused(SCOPE) == wrong.len();
    crate::support::until("the wrong ones are found", all_refused).await;
    for n in &wrong {
        assert_eq!(scopes.served(*n).await, "v1", "{} is wrong", name(*n));
    }
    let responses = scopes.responses().0 - before.0;
    assert!(responses <= most_responses, "{responses} responses: {:?}", scopes.running.notes.all());
}

#[tokio::test]
async fn r94_of_64_scopes_with_a_wrong_one_all_good_ones_are_served() {
    all_good_ones_are_served(&[40], 13).await;
}

#[tokio::test]
async fn r94_of_64_scopes_with_three_wrong_ones_all_good_ones_are_served() {
    all_good_ones_are_served(&[3, 30, 60], 33).await;
}

#[tokio::test]
async fn r94_of_many_tables_a_wrong_one_keeps_back_its_own_scope() {
    // Makes Envoy subscribe to a table before any host needs it.
    let holder =
        |table: &str| (SCOPE, waiting_scope(&format!("of-{table}"), "1", table).with_required([]));
    let by_name = |n: usize, version: &str, table: &str| waiting_scope(&name(n), version, table);
    let first = (0..SCOPES).flat_map(|n| {
        let old = format!("old{n:02}");
        [(SCOPE, by_name(n, "1", &old)), (ROUTES, table(&old, "v1", false)), holder(&old)]
    });
    let scopes = Scopes::with(first).await;
    scopes.until_served(&HashSet::new(), "v1").await;
    let wrong = HashSet::from([40]);
    let second = (0..SCOPES).flat_map(|n| {
        let new = format!("new{n:02}");
        let table = table(&new, "v2", wrong.contains(&n));
        [(SCOPE, by_name(n, "2", &new)), (ROUTES, table), holder(&new)]
    });
    put(&scopes.running.set, second.collect());
    scopes.until_served(&wrong, "v2").await;
    let found = || scopes.refused(ROUTES) == 1;
    crate::support::until("the wrong table is found", found).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!((scopes.served(40).await.as_str(), scopes.refused(SCOPE)), ("v1", 0));
}
