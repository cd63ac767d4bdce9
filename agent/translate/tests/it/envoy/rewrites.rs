//! Rewrites of requests for the upstream.

use imp_proto::config as pb;
use imp_translate::Layout;
use pb::path_match::Kind;

use super::HOST;
use super::rig::Rig;
use crate::fixtures::{self, exact, parsed, prefix, regex, route, template};

async fn serving(base: &str, routes: Vec<pb::Route>) -> Rig {
    let mut rig = Rig::start(Layout::ScopedRoutes).await;
    let backend = fixtures::backend("b1", "127.0.0.1", rig.upstream);
    serve(&mut rig, base, backend, routes).await;
    rig
}

/// Serves one service with one backend.
pub(super) async fn serve(rig: &mut Rig, base: &str, backend: pb::Backend, routes: Vec<pb::Route>) {
    let delta = rig.assembly.set_gateway(fixtures::parsed_gateway(rig.port));
    rig.apply(&delta);
    let mut publish = fixtures::publish("p1", HOST, 1);
    publish.base_path = base.into();
    let service = fixtures::service(&mut publish);
    service.backends = vec![backend];
    service.routes = routes;
    let delta = rig.assembly.set_publish(parsed(&publish));
    rig.apply(&delta);
    rig.active("p1").await;
    assert_eq!(rig.refusals, [], "Envoy takes everything");
}

fn stripped(id: &str, path: Kind) -> pb::Route {
    let rewrite = pb::Rewrite { strip_base_path: true, ..Default::default() };
    pb::Route { rewrite: Some(rewrite), ..route(id, path) }
}

fn rewritten(id: &str, path: Kind, to: &str) -> pb::Route {
    let rewrite = pb::Rewrite { path: to.into(), ..Default::default() };
    pb::Route { rewrite: Some(rewrite), ..route(id, path) }
}

async fn sees(rig: &Rig, call: &str, line: &str) {
    let answer = rig.with_key(HOST, &format!("GET {call}")).await;
    assert_eq!(answer.status, 200, "{call}: {answer:?}");
    let seen = answer.body.lines().next().unwrap_or_default();
    assert_eq!(seen, format!("GET {line} HTTP/1.1"), "{call}");
}

#[tokio::test]
async fn the_base_path_is_taken_off_for_every_kind_of_route() {
    let routes = || {
        vec![
            stripped("root", exact("/")),
            stripped("exact", exact("/exact")),
            stripped("prefix", prefix("/prefix")),
            stripped("template", template("/pets/{id}")),
            stripped("regex", regex("/re[0-9]+/.*")),
        ]
    };
    let calls =
        ["/exact", "/exact?q=1", "/prefix", "/prefix/a/", "/pets/7?x=/store/v1", "/re42/x%20y"];
    let rig = serving("/store/v1.0", routes()).await;
    for path in calls {
        sees(&rig, &format!("/store/v1.0{path}"), path).await;
    }
    sees(&rig, "/store/v1.0", "/").await;
    sees(&rig, "/store/v1.0/?q", "/?q").await;
    let rig = serving("/", routes()).await;
    for path in calls {
        sees(&rig, path, path).await;
    }
}

#[tokio::test]
async fn variables_and_groups_stand_in_the_target() {
    for base in ["/store/v1", "/"] {
        let below = if base == "/" { "" } else { base };
        let routes = vec![
            rewritten("pets", template("/pets/{id}/photos/{photo}"), "/v2/{photo}/of/{id}"),
            rewritten("once", template("/once/{a}/{b}"), "/only/{b}"),
            rewritten("regex", regex("/re/([0-9]+)/(?P<rest>.*)"), "/{rest}/{1}"),
            rewritten("anchor", regex(r"(^/aa|/bb)+/(\d+)"), "/n/{2}"),
            rewritten("optional", regex(r"(/opt)?(^/c|/d)/(?P<n>\d+)"), "/o/{n}"),
            rewritten("either", regex("/x/(a|b)|/y/(c)"), "/got-{1}-{2}"),
        ];
        let rig = serving(base, routes).await;
        let call = async |path: &str, seen: &str| sees(&rig, &format!("{below}{path}"), seen).await;
        call("/pets/7/photos/a%20b?q=1", "/v2/a%20b/of/7?q=1").await;
        call("/once/1/2", "/only/2").await;
        call("/re/42/a/b", "/a/b/42").await;
        call("/x/b", "/got-b-").await;
        call("/y/c", "/got--c").await;
        call("/aa/7", "/n/7").await;
        call("/aa/bb/7", "/n/7").await;
        call("/bb/7", "/n/7").await;
    }
}

#[tokio::test]
async fn no_variable_leaves_the_directory_of_the_target() {
    use imp_translate::ir;
    let routes = || {
        vec![
            rewritten("files", template("/files-{name}/meta"), "/public/{name}/meta"),
            rewritten("dot", template("/dot-{name}"), "/public/.{name}"),
            rewritten("x", template("/x{name}"), "/public/{name}"),
            rewritten("json", template("/j{name}.json"), "/public/{name}/json"),
            rewritten("plain", template("/plain-{name}"), "/public/p-{name}"),
            rewritten("regex", regex("/re([^/]*)/meta"), "/public/{1}/meta"),
            rewritten("tail", regex("^/tail-(.*)$"), "/public/{1}"),
        ]
    };
    for base in ["/", "/store"] {
        let mut rig = Rig::start(Layout::ScopedRoutes).await;
        let backend = fixtures::backend("b1", "127.0.0.1", rig.upstream);
        serve(&mut rig, base, backend, routes()).await;
        let edge = ir::Edge { escaped_slash: ir::EscapedSlash::Keep, ..ir::Edge::default() };
        let gateway = ir::Gateway { edge, ..fixtures::parsed_gateway(rig.port) };
        let delta = rig.assembly.set_gateway(gateway);
        rig.apply(&delta);
        let below = base.trim_end_matches('/');
        for _ in 0..200 {
            let kept = rig.with_key(HOST, &format!("GET {below}/xa%2Fb")).await;
            if kept.status == 200 {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        let call = async |path: &str, seen: &str| sees(&rig, &format!("{below}{path}"), seen).await;
        call("/files-a/meta?u=/..", "/public/a/meta?u=/..").await;
        call("/files-..a/meta", "/public/..a/meta").await;
        call("/xa%2Fb", "/public/a%2Fb").await;
        call("/plain-..", "/public/p-..").await;
        call("/rea/meta", "/public/a/meta").await;
        call("/tail-", "/public/").await;
        call("/tail-a/b?/..", "/public/a/b?/..").await;
        for path in [
            "/files-../meta",
            "/files-../meta?x=1",
            "/files-%2e%2E/meta",
            "/files-./meta",
            "/files-..;x/meta",
            "/dot-.",
            "/x..",
            "/x..%2Fsecret",
            "/x.%2e%2fsecret",
            "/ja%2F...json",
            "/re../meta",
            "/re../meta?x=1",
            "/re/meta",
            "/re..%2Fx/meta",
            "/tail-..",
            "/tail-../secret",
            "/tail-..;/secret",
            "/tail-..?x",
        ] {
            let answer = rig.with_key(HOST, &format!("GET {below}{path}")).await;
            assert_eq!(answer.status, 404, "{path} below {base}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn the_upstream_learns_the_callers_host_and_port() {
    let to = |host: &str| Some(pb::Rewrite { host: host.into(), ..Default::default() });
    let routes = vec![
        route("kept", prefix("/kept")),
        pb::Route { rewrite: to("up.internal"), ..route("other", prefix("/other")) },
    ];
    let rig = serving("/", routes).await;
    let ported = format!("{HOST}:8443");
    let seen = async |host: &str, path: &str| {
        let spoof = "x-forwarded-host: evil\nx-forwarded-port: 666\nx-forwarded-prefix: evil";
        let answer = rig.with_key(host, &format!("GET /{path}\n{spoof}")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(!answer.body.contains("evil") && !answer.body.contains("666"), "{answer:?}");
        let header = |name: &str| {
            let start = format!("{name}: ");
            let line = answer.body.lines().find_map(|line| line.strip_prefix(&*start));
            line.map(str::to_owned)
        };
        (header("host"), header("x-forwarded-host"), header("x-forwarded-port"))
    };
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(seen(HOST, "kept").await, (some(HOST), None, None));
    assert_eq!(seen(&ported, "kept").await, (some(&ported), None, some("8443")));
    assert_eq!(seen(HOST, "other").await, (some("up.internal"), some(HOST), None));
    assert_eq!(seen(&ported, "other").await, (some("up.internal"), some(&ported), some("8443")));
    assert_eq!(seen(&format!("{HOST}.:80"), "kept").await.2, some("80"));
    for odd in [":x", ":", ":1:2", ":123456", "@evil", ":80@evil"] {
        let answer = rig.with_key(&format!("{HOST}{odd}"), "GET /kept").await;
        assert!(matches!(answer.status, 400 | 404), "{odd}: {answer:?}");
    }
}
