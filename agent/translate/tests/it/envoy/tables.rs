//! Hosts that share a table, in a real Envoy.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use imp_translate::{Layout, xds};
use tokio::task::JoinHandle;

use super::rig::{self, Rig};
use crate::fixtures::{self, ruled};

/// Some calls are made between two moves.
const BETWEEN: Duration = Duration::from_millis(20);

const HOSTS: [&str; 3] = ["a.example.com", "b.example.com", "c.example.com"];

/// The publish of a host.
fn id(host: &str) -> &str {
    host.split('.').next().unwrap()
}

/// A rig with a gateway.
async fn start() -> Rig {
    let mut rig = Rig::start(Layout::ScopedRoutes).await;
    let delta = rig.assembly.set_gateway(fixtures::parsed_gateway(rig.port));
    rig.apply(&delta);
    rig
}

/// Gives a host a content that its tag decides.
fn set(rig: &mut Rig, host: &str, revision: u64, tag: &str) {
    let mut publish = fixtures::publish(id(host), host, revision);
    let service = fixtures::service(&mut publish);
    service.backends = vec![fixtures::backend("b1", "127.0.0.1", rig.upstream)];
    service.routes = vec![fixtures::route("r1", fixtures::prefix("/"))];
    if tag == "bad" {
        // RE2 does not know this escape.
        service.routes.push(fixtures::route("r2", fixtures::regex(r"/\u0041")));
    }
    let delta = rig.assembly.set_publish(ruled(&publish, &format!("{tag}@{revision}")));
    rig.apply(&delta);
}

fn table(rig: &Rig, host: &str) -> Option<String> {
    let (_, needs) = rig.assembly.requirements(id(host))?;
    needs.iter().find(|(url, ..)| *url == xds::ROUTES).map(|(_, name, _)| name.to_string())
}

/// Polls a host until it is told to stop; the number of calls and the answers that were not 200.
struct Poll {
    stop: Arc<AtomicBool>,
    calls: JoinHandle<(usize, Vec<u16>)>,
}

impl Poll {
    fn start(rig: &Rig, host: &'static str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (port, stopped) = (rig.port, stop.clone());
        let calls = tokio::spawn(async move {
            let head = "x-api-key: good\r\nconnection: close";
            let request = format!("GET / HTTP/1.1\r\nhost: {host}\r\n{head}\r\n\r\n");
            let (mut count, mut wrong) = (0, Vec::new());
            while !stopped.load(Ordering::Relaxed) {
                let status = rig::raw(port, &request).await.status;
                count += 1;
                wrong.extend((status != 200).then_some(status));
            }
            (count, wrong)
        });
        Self { stop, calls }
    }

    async fn end(self) -> (usize, Vec<u16>) {
        self.stop.store(true, Ordering::Relaxed);
        self.calls.await.unwrap()
    }
}

/// What the agent was asked about the last call.
fn judged(rig: &Rig) -> std::collections::BTreeMap<String, String> {
    rig.stub.checks.lock().unwrap().pop().unwrap()
}

#[tokio::test]
async fn hosts_with_equal_content_share_a_table_and_the_agent_learns_the_host() {
    let mut rig = start().await;
    for host in HOSTS {
        set(&mut rig, host, 1, if host == HOSTS[2] { "other" } else { "same" });
    }
    rig.has_all(id(HOSTS[0])).await;
    rig.has_all(id(HOSTS[1])).await;
    assert!(table(&rig, HOSTS[0]).is_some() && table(&rig, HOSTS[0]) == table(&rig, HOSTS[1]));
    assert_eq!(table(&rig, HOSTS[2]), None, "alone");
    for host in HOSTS {
        for spelled in [host.to_owned(), format!("{host}:8443")] {
            assert_eq!(rig.with_key(&spelled, "GET /x").await.status, 200, "{spelled}");
            let seen = judged(&rig);
            assert_eq!(seen["header:x-imp-host"], spelled);
            assert_eq!((&*seen["route"], &*seen["base_path"]), ("r1", "/"));
        }
    }
    assert!(rig.refusals.is_empty(), "{:?}", rig.refusals);
}

#[tokio::test]
async fn a_host_that_moves_to_a_new_table_answers_all_along() {
    let mut rig = start().await;
    for host in HOSTS {
        set(&mut rig, host, 1, "first");
        rig.has_all(id(host)).await;
    }
    let polls = [Poll::start(&rig, HOSTS[0]), Poll::start(&rig, HOSTS[1])];
    let mut last = table(&rig, HOSTS[0]);
    for revision in 2..42 {
        let tag = format!("tag{revision}");
        // The first one there has it in its scope; the second one makes the table.
        set(&mut rig, HOSTS[0], revision, &tag);
        if revision % 2 == 0 {
            rig.has_all(id(HOSTS[0])).await;
        }
        set(&mut rig, HOSTS[1], revision, &tag);
        rig.has_all(id(HOSTS[1])).await;
        let now = table(&rig, HOSTS[0]);
        assert!(now.is_some() && now != last && now == table(&rig, HOSTS[1]), "{revision}");
        last = now;
        tokio::time::sleep(BETWEEN).await;
    }
    for poll in polls {
        let (calls, wrong) = poll.end().await;
        assert!(calls > 40 && wrong.is_empty(), "{calls}: {wrong:?}");
    }
    assert!(rig.refusals.is_empty(), "{:?}", rig.refusals);
    assert_eq!(rig.counter("listener_manager.lds.update_success").await, 1);
    assert_eq!(rig.counter("listener_manager.listener_modified").await, 0);
}

#[tokio::test]
async fn from_its_own_scope_to_a_table_and_back_a_host_answers_all_along() {
    let mut rig = start().await;
    set(&mut rig, HOSTS[0], 1, "same");
    rig.has_all(id(HOSTS[0])).await;
    let poll = Poll::start(&rig, HOSTS[0]);
    for _ in 0..20 {
        set(&mut rig, HOSTS[1], 1, "same");
        rig.has_all(id(HOSTS[1])).await;
        assert!(table(&rig, HOSTS[0]).is_some());
        let delta = rig.assembly.remove_publish(id(HOSTS[1]));
        rig.apply(&delta);
        rig.has_all(id(HOSTS[0])).await;
        assert_eq!(table(&rig, HOSTS[0]), None);
        tokio::time::sleep(BETWEEN).await;
    }
    let (calls, wrong) = poll.end().await;
    assert!(calls > 20 && wrong.is_empty(), "{calls}: {wrong:?}");
    assert_eq!(rig.with_key(HOSTS[1], "GET /").await.status, 404, "it is gone");
    assert!(rig.refusals.is_empty(), "{:?}", rig.refusals);
}

#[tokio::test]
async fn a_bad_table_costs_its_own_publishes_and_their_hosts_keep_the_former_routes() {
    let mut rig = start().await;
    for host in HOSTS {
        set(&mut rig, host, 1, "good");
        rig.has_all(id(host)).await;
    }
    let polls = [Poll::start(&rig, HOSTS[0]), Poll::start(&rig, HOSTS[2])];
    // Both before Envoy has judged either, so that only the table is judged.
    let stub = rig.stub.clone();
    stub.paused.store(true, Ordering::Relaxed);
    set(&mut rig, HOSTS[0], 2, "bad");
    set(&mut rig, HOSTS[1], 2, "bad");
    stub.paused.store(false, Ordering::Relaxed);
    set(&mut rig, "late.example.com", 1, "good");
    rig.until(|_, assembly| assembly.refused(id(HOSTS[1])).is_some()).await;
    assert_eq!(rig.refusals.len(), 1, "one verdict for both: {:?}", rig.refusals);
    let (name, words) = &rig.refusals[0];
    assert!(name.starts_with('r') && words.contains("invalid escape sequence"), "{name}: {words}");
    let mut blamed: Vec<_> = rig.blames.iter().map(|it| it.publish_id.as_str()).collect();
    blamed.sort_unstable();
    assert_eq!(blamed, HOSTS[..2].iter().map(|host| id(host)).collect::<Vec<_>>());
    assert_eq!(rig.assembly.refused(id(HOSTS[2])), None);
    for host in HOSTS {
        assert_eq!(rig.with_key(host, "GET /").await.status, 200, "{host}");
        assert!(judged(&rig)["access"].starts_with("good"), "{host}");
    }
    set(&mut rig, HOSTS[0], 3, "mended");
    set(&mut rig, HOSTS[1], 3, "mended");
    rig.has_all(id(HOSTS[1])).await;
    rig.with_key(HOSTS[1], "GET /").await;
    for poll in polls {
        let (calls, wrong) = poll.end().await;
        assert!(calls > 2 && wrong.is_empty(), "{calls}: {wrong:?}");
    }
    assert!(table(&rig, HOSTS[1]).is_some());
}

#[tokio::test]
async fn a_table_goes_with_its_last_host_and_nobody_calls_its_holder() {
    let mut rig = start().await;
    for host in HOSTS {
        set(&mut rig, host, 1, "same");
        rig.has_all(id(host)).await;
    }
    let table = table(&rig, HOSTS[0]).unwrap();
    let hash = table.strip_prefix('r').unwrap();
    for (host, headers) in [
        (hash, ""),
        ("#", ""),
        (HOSTS[0], "x-imp-port: #"),
        (hash, "x-imp-port: #"),
        ("nobody.example.com", &*format!("x-imp-port: #\nx-imp-host: {hash}")),
    ] {
        let answer = rig.with_key(host, &format!("GET /\n{headers}")).await;
        let expected = if host == HOSTS[0] { 200 } else { 404 };
        assert!([expected, 400].contains(&answer.status), "{host} {headers}: {answer:?}");
    }
    for host in &HOSTS[..2] {
        let delta = rig.assembly.remove_publish(id(host));
        rig.apply(&delta);
    }
    rig.has_all(id(HOSTS[2])).await;
    // Then Envoy unsubscribes from the table by itself.
    let holder = format!("h{hash}");
    rig.until(|verdict, _| verdict.name == holder && verdict.version.is_none()).await;
    assert!(rig.stub.holds(xds::ROUTES).is_empty());
    assert_eq!(rig.stub.holds(xds::SCOPE), [fixtures::scope(rig.port, HOSTS[2])]);
    assert_eq!(rig.with_key(HOSTS[2], "GET /").await.status, 200);
    assert_eq!(rig.with_key(HOSTS[0], "GET /").await.status, 404);
}

/// Envoy refuses two scopes with one key, but not when the message that brings one removes the other.
/// It tells its workers of the two one after the other: a call that comes between them is 404.
#[tokio::test]
async fn a_scope_replaces_that_of_a_former_release_in_one_message() {
    let mut rig = start().await;
    rig.stub.former_names.store(true, Ordering::Relaxed);
    set(&mut rig, HOSTS[0], 1, "same");
    rig.has_all(id(HOSTS[0])).await;
    let poll = Poll::start(&rig, HOSTS[0]);
    // As if the agent had been replaced by this release.
    rig.stub.former_names.store(false, Ordering::Relaxed);
    set(&mut rig, HOSTS[0], 2, "same");
    rig.has_all(id(HOSTS[0])).await;
    assert_eq!(rig.with_key(HOSTS[0], "GET /").await.status, 200);
    let (_, wrong) = poll.end().await;
    assert!(wrong.len() < 10 && wrong.iter().all(|status| *status == 404), "{wrong:?}");
    assert!(rig.refusals.is_empty(), "{:?}", rig.refusals);
}

/// Why the stub, like the agent, waits for the table: see [`xds::table`].
#[test]
fn a_table_that_is_sent_again_differs_in_its_stamp_only() {
    use envoy_types::pb::envoy::config::route::v3::RouteConfiguration;
    use prost::Message as _;
    let mut assembly = fixtures::assembly();
    assembly.set_gateway(fixtures::parsed_gateway(8080));
    let mut sent = Vec::new();
    for host in &HOSTS[..2] {
        let publish = fixtures::publish(id(host), host, 1);
        sent.extend(assembly.set_publish(ruled(&publish, "same")).all.upserts);
    }
    let table = sent.iter().find(|it| it.type_url == xds::ROUTES).unwrap();
    let read = |bytes: &[u8]| RouteConfiguration::decode(bytes).unwrap();
    let first = xds::table::restamp(&table.value, 1);
    let second = xds::table::restamp(&first, 2);
    assert!(first != table.value && second != first);
    assert_eq!(read(&second).metadata, read(&xds::table::restamp(&table.value, 2)).metadata);
    assert_eq!(RouteConfiguration { metadata: None, ..read(&second) }, read(&table.value));
    for scope in sent.iter().filter(|it| it.type_url == xds::SCOPE) {
        let by_name = scope.name.starts_with('h') || scope.table.is_some();
        assert_eq!(xds::scope::names_a_table(&scope.value), by_name);
        let former = xds::scope::former_name(&scope.value);
        assert_eq!(former.is_none(), scope.name.starts_with('h'), "{former:?}");
    }
}

/// Why the agent tells Envoy to remove a parameter only if it is there.
#[tokio::test]
async fn a_query_from_which_nothing_is_removed_reaches_the_upstream_as_it_was() {
    let mut rig = start().await;
    set(&mut rig, HOSTS[0], 1, "same");
    rig.has_all(id(HOSTS[0])).await;
    for (sent, removed, seen) in [
        ("/?b=1&a&a=2", "", "/?b=1&a&a=2"),
        ("/?b=1&k=secret&a&a=2&k=other", "k", "/?a=&a=2&b=1"),
        ("/?k=secret", "k", "/"),
    ] {
        let answer = rig.with_key(HOSTS[0], &format!("GET {sent}\nx-probe-key: {removed}")).await;
        assert_eq!(answer.body.split(' ').nth(1), Some(seen), "{answer:?}");
    }
}
