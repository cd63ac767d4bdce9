//! An Envoy that starts while there are many scopes (R69).

use imp_xds::Batching;

use super::*;

const SCOPES: usize = 300;
const TABLES: usize = 3;
const ENVOYS: usize = 20;

/// Scopes and routes in many small responses; the filter of the listener behind them, if so.
fn many_responses(filter_waits: bool) -> ServerConfig {
    let most = if filter_waits { 8 } else { 1 };
    let few = Batching::UpTo {
        unproven: most,
        unproven_bytes: 1 << 20,
        proven: most,
        proven_bytes: 1 << 20,
    };
    let mut config = rules();
    for rules in &mut config.types {
        match rules.type_url.as_str() {
            SCOPE | ROUTES => rules.batching = few,
            EXTENSION if filter_waits => {
                rules.after_first_answers = vec![SCOPE.into(), ROUTES.into()]
            }
            _ => {}
        }
    }
    config
}

fn name(n: usize) -> String {
    format!("host{n:03}")
}

/// Scopes with routes of their own, and others by the names of tables that they require; a holder
/// of each table is what makes Envoy subscribe to it.
fn all(port: u16) -> Vec<(&'static str, Resource)> {
    let mut all = vec![
        (CLUSTER, cluster("up", "1", 500)),
        (EXTENSION, extension("extension", "1")),
        (LISTENER, listener("scoped", "1", port, &Routing::Scoped, None)),
    ];
    for n in 0..SCOPES {
        let scope = match n % 2 {
            0 => scope_of_its_own(&name(n), "v1", false),
            _ => waiting_scope(&name(n), "v1", &format!("table{}", n % TABLES)),
        };
        all.push((SCOPE, scope));
    }
    for n in 0..TABLES {
        let table = format!("table{n}");
        all.push((SCOPE, scope_without_children(&format!("holder{n}"), &table)));
        all.push((ROUTES, routes(&table, "1", "up")));
    }
    all
}

fn scope_without_children(name: &str, routes: &str) -> Resource {
    waiting_scope(name, "1", routes).with_required([])
}

/// The statuses of calls to the last hosts, from before Envoy opens its port until it has everything.
async fn statuses(filter_waits: bool) -> Vec<String> {
    let port = free_port().await;
    let set = ResourceSet::new();
    put(&set, all(port));
    let running = Running::start(set, many_responses(filter_waits)).await;
    let endpoints_port = upstream("one").await;
    put(&running.set, vec![(ENDPOINTS, endpoints("up", "1", endpoints_port))]);
    let _envoy = Envoy::start(running.address.port(), Variant::Delta).await;
    let has_all = || {
        let status = running.server.status();
        let mut types = status.iter().flat_map(|stream| &stream.types);
        let of = |of: &imp_xds::TypeStatus| {
            of.type_url.as_str() == SCOPE && of.acked > 30 && of.pending == 0
        };
        types.any(of)
    };
    let (deadline, mut statuses, mut good) = (Instant::now() + PATIENCE, Vec::new(), 0);
    while good < 200 || !has_all() {
        assert!(Instant::now() < deadline, "{:?}", running.notes.all());
        for n in [SCOPES - 1, SCOPES - 2] {
            let header = format!("x-scope: {}\r\n", name(n));
            let Some(answer) = get(port, "/", &header).await else { continue };
            let status = answer.get(9..12).unwrap_or_default().to_owned();
            good += usize::from(status == "200");
            statuses.push(status);
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    statuses
}

#[tokio::test]
async fn r69_a_fresh_envoy_opens_its_port_when_it_has_all_scopes_and_routes() {
    let statuses = statuses(true).await;
    assert!(statuses.iter().all(|status| status == "200"), "{statuses:?}");
}

/// How long the port is open too early depends on the machine, so one Envoy of several must show it.
#[tokio::test]
async fn r69_without_the_filter_that_waits_it_opens_its_port_too_early() {
    for _ in 0..ENVOYS {
        if statuses(false).await.iter().any(|status| status == "404") {
            return;
        }
    }
    panic!("the test above tests nothing");
}
