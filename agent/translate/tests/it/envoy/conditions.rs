//! Conditions on headers and query parameters, combined with the edge.

use imp_grammar::headers::{self, Change};
use imp_proto::config as pb;
use imp_translate::ir::Publish;
use pb::value_match::Kind;

use super::HOST;
use super::policies::serving;
use super::rig::Rig;
use crate::fixtures::{self, exact, prefix, route, value};

fn with_query(id: &str, conditions: Vec<pb::ValueMatch>) -> pb::Route {
    pb::Route { query: conditions, ..route(id, exact(&format!("/{id}"))) }
}

async fn takes(rig: &Rig, target: &str) -> bool {
    let answer = rig.with_key(HOST, &format!("GET {target}")).await;
    assert!(matches!(answer.status, 200 | 404), "{target}: {answer:?}");
    answer.status == 200
}

#[tokio::test]
async fn a_query_condition_compares_what_the_caller_meant() {
    let is = |name: &str, text: &str| value(name, Kind::Exact(text.into()));
    let begins = |name: &str, text: &str| value(name, Kind::Prefix(text.into()));
    let routes = vec![
        with_query("city", vec![is("city", "new york")]),
        with_query("begins", vec![begins("city", "new y")]),
        with_query("filter", vec![is("filter[näme]", "a+b&c=d%/?ü")]),
        with_query("there", vec![value("a.b", Kind::Present(true))]),
        with_query("absent", vec![value("a.b", Kind::Present(false))]),
        with_query("empty", vec![is("e", "")]),
        with_query("two", vec![is("a", "1"), is("b", "2")]),
        with_query("sent", vec![value("x", Kind::Regex("a%20b|c".into()))]),
        with_query("long", vec![is("x", &"k".repeat(1_000))]),
    ];
    let rig = serving(routes, None).await;
    let taken = [
        "/city?city=new%20york",
        "/city?city=new+york",
        "/city?city=%6Eew%20york",
        "/city?city=%6eew+yor%6B",
        "/city?%63it%79=new+york",
        "/city?x=1&city=new+york&y=2",
        "/begins?city=new+york",
        "/begins?city=%6Eew%20y",
        "/filter?filter%5Bn%C3%A4me%5D=a%2Bb%26c%3Dd%25%2F%3F%C3%BC",
        "/filter?filter[n%c3%a4me]=a%2bb%26c=d%25/?%c3%bc",
        "/there?a.b",
        "/there?a%2Eb=",
        "/there?x&a%2eb=7&y",
        "/absent",
        "/absent?a=b&axb=1&xa.b=2&a.bc=3&c=a.b",
        "/empty?e",
        "/empty?e=",
        "/empty?e=&x",
        "/two?b=%32&a=1",
        "/sent?x=a%20b",
        "/sent?x=c",
    ];
    for target in taken {
        assert!(takes(&rig, target).await, "{target}");
    }
    assert!(takes(&rig, &format!("/long?x={}", "k".repeat(1_000))).await);
    let passed_by = [
        "/city",
        "/city?city=newyork",
        "/city?city=new%2Byork",
        "/city?city=New+york",
        "/city?city=new+york2",
        "/city?xcity=new+york",
        "/city?x=city=new+york",
        "/city?city%3Dnew+york",
        "/begins?city=old+new+york",
        "/filter?filter%5Bn%C3%A4me%5D=a+b%26c%3Dd%25%2F%3F%C3%BC",
        "/filter?filter%5Bn%C3%A4me%5D=a%2Bb&c%3Dd%25%2F%3F%C3%BC",
        "/there?axb=1",
        "/absent?a%2eb",
        "/empty?e=1",
        "/empty?ex",
        "/two?a=1",
        "/sent?x=a+b",
    ];
    for target in passed_by {
        assert!(!takes(&rig, target).await, "{target}");
    }
}

/// Common ones, one of each family, and those that the edge removes by name.
fn names() -> Vec<&'static str> {
    let families = [
        "x-imp-plan",
        "x-envoy-retry-on",
        "x-forwarded-proto",
        "x-forwarded-host",
        "x-original-url",
    ];
    let of_envoy = [
        "connection",
        "expect",
        "keep-alive",
        "proxy-connection",
        "transfer-encoding",
        "x-request-id",
    ];
    let seen = [
        "accept",
        "accept-encoding",
        "authorization",
        "cache-control",
        "content-type",
        "cookie",
        "date",
        "if-match",
        "origin",
        "proxy-authorization",
        "range",
        "referer",
        "server",
        "traceparent",
        "user-agent",
        "via",
        "x-b3-traceid",
        "x-own",
        "te",
        "content-length",
    ];
    [&families[..], &of_envoy, &headers::FOREIGN_NAMES, &seen].concat()
}

/// The API refuses exactly the headers that the edge hides.
#[tokio::test]
async fn a_condition_on_a_header_acts_unless_it_is_refused() {
    let names = names();
    let on = |name: &&str| pb::Route {
        headers: vec![value(name, Kind::Present(true))],
        ..route(&name.replace('-', "_"), prefix(&format!("/{name}")))
    };
    let rig = serving(names.iter().map(on).collect(), None).await;
    for name in names {
        let sent = match name {
            "te" => "trailers",
            "content-length" => "0",
            "transfer-encoding" => "chunked\n",
            "expect" => "100-continue",
            _ => "1",
        };
        let call = if name == "transfer-encoding" { "POST" } else { "GET" };
        let with = rig.with_key(HOST, &format!("{call} /{name}\n{name}: {sent}")).await.status;
        let without = rig.with_key(HOST, &format!("GET /{name}")).await.status;
        let acts = with == 200 && without == 404;
        assert_eq!(acts, !headers::is_hidden_from_routes(name), "{name}: {with}, {without}");
    }
}

#[tokio::test]
async fn a_condition_on_the_host_ignores_the_port() {
    let on = |id: &str, kind| pb::Route {
        headers: vec![value("host", kind)],
        ..route(id, prefix(&format!("/{id}")))
    };
    let routes = vec![
        on("exact", Kind::Exact(HOST.into())),
        on("regex", Kind::Regex(r"api\..*\.com".into())),
        on("other", Kind::Exact("other.example.com".into())),
    ];
    let rig = serving(routes, None).await;
    for host in [HOST.to_owned(), format!("{HOST}:8443")] {
        for (path, status) in [("exact", 200), ("regex", 200), ("other", 404)] {
            let answer = rig.with_key(&host, &format!("GET /{path}")).await;
            assert_eq!(answer.status, status, "{host} {path}");
        }
    }
}

/// The API refuses exactly the changes that the listener would undo.
#[tokio::test]
async fn a_change_of_an_answer_acts_unless_it_is_refused() {
    let names = [
        "server",
        "x-request-id",
        "date",
        "via",
        "content-type",
        "cache-control",
        "vary",
        "etag",
        "set-cookie",
        "location",
        "retry-after",
        "alt-svc",
        "strict-transport-security",
        "x-upstream",
        "www-authenticate",
        "access-control-allow-origin",
    ];
    let changing = |name: &str, change: Change| {
        let headers = match change {
            Change::Write => {
                pb::Headers { set: vec![fixtures::header(name, "mine")], ..Default::default() }
            }
            Change::Remove => pb::Headers { remove: vec![name.to_owned()], ..Default::default() },
        };
        let id = format!("{change:?}_{}", name.replace('-', "_"));
        let policies = vec![fixtures::response_headers(headers)];
        pb::Route { policies, ..route(&id, prefix(&format!("/{change:?}/{name}"))) }
    };
    let both = names
        .iter()
        .flat_map(|name| [Change::Write, Change::Remove].map(|change| changing(name, change)));
    let rig = serving(both.collect(), None).await;
    for name in names {
        for change in [Change::Write, Change::Remove] {
            let answer = rig.with_key(HOST, &format!("GET /{change:?}/{name}")).await;
            assert_eq!(answer.status, 200, "{answer:?}");
            let acts = match change {
                Change::Write => answer.header(name) == Some("mine"),
                Change::Remove => answer.header(name).is_none(),
            };
            assert_eq!(acts, !headers::is_undone(name, change), "{change:?} {name}: {answer:?}");
        }
    }
}

/// A former release accepted these; an agent keeps serving them.
#[test]
fn conditions_that_are_refused_now_are_still_parsed() {
    let mut publish = fixtures::publish("p1", HOST, 1);
    let route = &mut fixtures::service(&mut publish).routes[0];
    route.headers =
        vec![value("x-real-ip", Kind::Present(true)), value("host", Kind::Exact("A".into()))];
    route.query = vec![value("a b", Kind::Regex("new york".into()))];
    assert!(Publish::parse(&publish).is_ok());
}
