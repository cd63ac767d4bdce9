//! The same calls through both doors: the agent's service and the module give the same answers, and
//! upstreams see the same request.

use serde_json::json;

use crate::envoy::{Answer, Envoy, free_port, library, raw, upstream};
use crate::fixtures::{self as of, KEY};
use crate::{agent, bootstrap};

/// What a caller sees of an answer, without what differs from call to call.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

fn seen(answer: &Answer) -> Seen {
    let kept = |name: &str| {
        let kept = ["content-type", "www-authenticate", "retry-after"];
        kept.contains(&name) || name.starts_with("ratelimit") || name.starts_with("grpc-")
    };
    let mut headers: Vec<_> =
        answer.headers.iter().filter(|(name, _)| kept(name)).cloned().collect();
    for (name, value) in &mut headers {
        if name == "retry-after" || name == "ratelimit" {
            *value = without_seconds(value);
        }
    }
    headers.sort();
    let mut body = answer.body.clone();
    if let Some(id) = answer.header("x-request-id") {
        body = body.replace(id, "<id>");
    }
    if let Ok(document) = serde_json::from_str::<serde_json::Value>(&body) {
        body = document.to_string();
    }
    // The upstream's echo of the request.
    let body = body
        .lines()
        .filter(|line| !line.starts_with("x-request-id: ") && !line.starts_with("host: "));
    let mut body: Vec<_> = body.map(str::to_owned).collect();
    body.sort();
    Seen { status: answer.status, headers, body: body.join("\n") }
}

/// `t=3599` becomes `t=`, and `3599` nothing: the two calls are not made in the same second.
fn without_seconds(value: &str) -> String {
    let behind = |part: &str| part.trim_start_matches(|c: char| c.is_ascii_digit()).to_owned();
    match value.split_once("t=") {
        None => behind(value),
        Some((first, rest)) => {
            let rest: Vec<_> = rest.split("t=").map(behind).collect();
            format!("{first}t={}", rest.join("t="))
        }
    }
}

/// The calls: method, path, further headers.
fn calls() -> Vec<(&'static str, String, Vec<Vec<u8>>)> {
    let mut calls = Vec::new();
    let paths = [
        "/closed",
        "/open",
        "/suspended",
        "/elsewhere",
        "/newer",
        "/nothing",
        "/was-closed",
        "/nobodys",
        "/direct",
        "/none",
    ];
    let header = |name: &str, value: &str| format!("{name}: {value}").into_bytes();
    let key = |key: &str| header("x-api-key", key);
    let mut presented: Vec<Vec<Vec<u8>>> = vec![vec![]];
    let keys = [
        KEY,
        of::SUSPENDED,
        of::ENDED,
        of::EXPIRED,
        of::REVOKED,
        of::ORPHAN,
        of::OTHER_PRODUCT,
        of::OTHER_ENVIRONMENT,
        of::PINNED,
        "imp_unknown",
        "",
        "a,b",
    ];
    presented.extend(keys.map(|it| vec![key(it)]));
    presented.push(vec![key(&"k".repeat(600))]);
    presented.push(vec![key(KEY), key(KEY)]);
    presented.push(vec![key(KEY), key("")]);
    presented.push(vec![key(""), key(KEY)]);
    presented.push(vec![[b"x-api-key: ".as_slice(), &[0xff, 0xfe]].concat()]);
    presented.push(vec![format!("X-API-KEY:   {KEY}  ").into_bytes()]);
    for value in ["Bearer abc", "bearer  abc", "Basic abc", "Bearer", "Bearer a,b", ""] {
        presented.push(vec![header("authorization", value)]);
        presented.push(vec![header("authorization", value), key(KEY)]);
    }
    presented.push(vec![header("authorization", "Bearer a"), header("authorization", "Bearer b")]);
    for path in paths {
        for headers in &presented {
            calls.push(("GET", path.to_owned(), headers.clone()));
        }
    }
    let forged = ["x-imp-consumer", "x-imp-subscription", "x-imp-customer", "x-imp-plan"];
    let forged: Vec<_> = forged.map(|name| header(name, "forged")).into();
    for path in ["/closed", "/open", "/was-closed"] {
        calls.push(("GET", path.to_owned(), [forged.clone(), vec![key(KEY)]].concat()));
        calls.push(("GET", path.to_owned(), forged.clone()));
        calls.push(("HEAD", path.to_owned(), vec![key(KEY)]));
        calls.push(("HEAD", path.to_owned(), vec![]));
    }
    for kind in [
        "application/grpc",
        "application/grpc+proto",
        "application/grpc-web",
        "application/grpc;a=b",
    ] {
        for path in paths {
            for it in [KEY, of::SUSPENDED, "imp_unknown"] {
                calls.push(("GET", path.to_owned(), vec![header("content-type", kind), key(it)]));
            }
        }
    }
    calls.extend(by_place());
    calls
        .extend([("GET", "/off".to_owned(), vec![]), ("GET", "/off/a".to_owned(), vec![key(KEY)])]);
    // The fourth of an hour is one too many.
    for number in 0..5 {
        calls.push(("GET", format!("/closed/{number}"), vec![key(of::LIMITED)]));
    }
    calls.push((
        "GET",
        "/closed".to_owned(),
        vec![header("content-type", "application/grpc"), key(of::LIMITED)],
    ));
    // The third of a month is one too many.
    for _ in 0..3 {
        calls.push(("GET", "/closed".to_owned(), vec![key(of::ANCHORED)]));
    }
    calls
}

/// Calls on routes whose publish is found by its place, and keys where the route names places.
fn by_place() -> Vec<(&'static str, String, Vec<Vec<u8>>)> {
    let header = |name: &str, value: &str| format!("{name}: {value}").into_bytes();
    let bearer = format!("Bearer {KEY}");
    let presented = [
        vec![],
        vec![("x-api-key", KEY)],
        vec![("apikey", KEY)],
        vec![("apikey", "imp_unknown")],
        vec![("x-api-key", "imp_unknown"), ("apikey", KEY)],
        vec![("apikey", KEY), ("apikey", KEY)],
        vec![("authorization", &*bearer)],
        vec![("apikey", KEY), ("authorization", &*bearer)],
    ];
    let paths = ["/placed", "/placed-keys", "/placed-bearer", "/unplaced", "/unclear"];
    let queries = [
        String::new(),
        "?".to_owned(),
        "?a=1".to_owned(),
        format!("?key={KEY}"),
        format!("?a=1&key={KEY}"),
        format!("?key={KEY}&key={KEY}"),
        "?key=imp_unknown&z=1".to_owned(),
        "?key=".to_owned(),
        "?apikey=a".to_owned(),
    ];
    let hosts = ["a.test", "a.test:8080", "b.test", "!421", ""];
    let mut calls = Vec::new();
    for path in paths {
        for query in &queries {
            for headers in &presented {
                let mut all: Vec<_> = headers.iter().map(|(k, v)| header(k, v)).collect();
                all.push(header("x-imp-host", "a.test"));
                calls.push(("GET", format!("{path}{query}"), all));
            }
        }
        for host in hosts {
            let all = vec![header("x-imp-host", host), header("x-api-key", KEY)];
            calls.push(("GET", path.to_owned(), all));
        }
        calls.push(("GET", path.to_owned(), vec![header("x-api-key", KEY)]));
    }
    calls
}

fn request(method: &str, path: &str, headers: &[Vec<u8>]) -> Vec<u8> {
    let mut request = format!("{method} {path} HTTP/1.1\r\nhost: a.test\r\n").into_bytes();
    for header in headers {
        request.extend_from_slice(header);
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    request
}

#[test]
fn both_doors_give_the_same_answers() {
    let agent = agent::start(of::engine(), "gateway");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("snapshot");
    of::write_snapshot(&file, of::everything(&[]));
    let (through_module, through_agent) = (free_port(), free_port());
    let config = json!({"state": {"snapshot": file}, "gateway": "gateway"});
    let listeners = [
        bootstrap::listener(
            through_module,
            bootstrap::door(&library(), "door", &config),
            &json!({}),
        ),
        bootstrap::listener(through_agent, bootstrap::ext_authz(), &json!({})),
    ];
    let envoy = Envoy::start(&bootstrap::bootstrap(&listeners, upstream(), agent.port), 1);
    let calls = calls();
    assert!(calls.len() > 400, "{}", calls.len());
    let (mut statuses, mut different) = (std::collections::BTreeMap::new(), Vec::new());
    for (method, path, headers) in &calls {
        let request = request(method, path, headers);
        let [module, agent] = [through_module, through_agent].map(|port| {
            let answer = raw_head(port, &request, *method == "HEAD");
            seen(&answer.unwrap_or_else(|| panic!("no answer: {}", envoy.log())))
        });
        *statuses.entry(agent.status).or_insert(0) += 1;
        if module != agent {
            let headers: Vec<_> = headers.iter().map(|it| String::from_utf8_lossy(it)).collect();
            different.push(format!("{method} {path} {headers:?}:\n  {module:?}\n  {agent:?}"));
        }
    }
    assert!(
        different.is_empty(),
        "{} of {}:\n{}",
        different.len(),
        calls.len(),
        different.join("\n")
    );
    // The table has calls of every kind.
    for status in [200, 401, 403, 404, 418, 429, 503] {
        assert!(statuses.contains_key(&status), "{status}: {statuses:?}");
    }
}

/// An answer to HEAD has a length and no body.
fn raw_head(port: u16, request: &[u8], is_head: bool) -> Option<Answer> {
    if !is_head {
        return raw(port, request);
    }
    let text = String::from_utf8(request.to_vec()).ok()?;
    let closing = text.replacen("\r\n", "\r\nconnection: close\r\n", 1);
    crate::envoy::raw_to_end(port, closing.as_bytes())
}
