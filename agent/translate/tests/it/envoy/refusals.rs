//! Refused callers learn which rule refused them, and a request id to ask about.

use super::http2;
use super::rig::Rig;
use super::{HOST, rich};

const GRPC: &str = "POST /v1/pay\ncontent-type: application/grpc\ncontent-length: 0";

fn many(count: usize) -> Vec<(String, String)> {
    (0..count).map(|index| (format!("x-{index}"), "1".to_owned())).collect()
}

fn large(bytes: usize) -> Vec<(String, String)> {
    let value = |index: usize| (format!("x-{index}"), "v".repeat(bytes / 5));
    (0..5).map(value).collect()
}

fn cookies(count: usize) -> Vec<(String, String)> {
    (0..count).map(|index| ("cookie".to_owned(), format!("c{index}=1"))).collect()
}

/// Makes the same call over HTTP/1.1 and HTTP/2.
async fn both(rig: &Rig, headers: &[(String, String)]) -> [super::rig::Answer; 2] {
    let lines: String = headers.iter().map(|(name, value)| format!("\n{name}: {value}")).collect();
    let one = rig.with_key(HOST, &format!("GET /v1/pay{lines}")).await;
    let two = http2::call(rig, http2::get(HOST, "/v1/pay", headers)).await;
    [one, two.unwrap_or_else(|error| panic!("a reset in place of an answer: {error}"))]
}

#[tokio::test]
async fn what_browsers_send_passes_over_both_versions() {
    let rig = rich().await;
    for headers in [cookies(64), cookies(180), many(97), large(62_000)] {
        for answer in both(&rig, &headers).await {
            assert_eq!(answer.status, 200, "{answer:?}");
        }
    }
    let answer = http2::call(&rig, http2::get(HOST, "/v1/pay", &cookies(64))).await.unwrap();
    assert!(answer.body.contains("; c63=1\r\n"), "one header for the upstream: {answer:?}");
}

#[tokio::test]
async fn too_much_of_headers_is_431_with_a_code_over_both_versions() {
    let rig = rich().await;
    for (headers, code) in [
        (many(110), "too_many_headers"),
        (many(250), "too_many_headers"),
        (large(70_000), "headers_too_large"),
        (large(90_000), "headers_too_large"),
    ] {
        for answer in both(&rig, &headers).await {
            assert_eq!(answer.told(), (431, code.to_owned()));
        }
    }
    // Beyond the codec's limits HTTP/1.1 gets an answer, and HTTP/2 a reset.
    for (headers, code) in [(many(400), "too_many_headers"), (large(120_000), "headers_too_large")]
    {
        let lines: String = headers.iter().map(|(k, v)| format!("\n{k}: {v}")).collect();
        let answer = rig.with_key(HOST, &format!("GET /v1/pay{lines}")).await;
        assert_eq!(answer.told(), (431, code.to_owned()));
        let answer = http2::call(&rig, http2::get(HOST, "/v1/pay", &headers)).await;
        assert!(answer.is_err(), "{answer:?}");
    }
}

#[tokio::test]
async fn every_refusal_has_a_code_and_an_id() {
    let rig = rich().await;
    let host = format!("host: {HOST}");
    let slow = format!("GET /v1/pay HTTP/1.1\r\n{host}\r\n");
    let cases: [(u16, &str, String); 21] = [
        (400, "escaped_slash", format!("GET /v1/a%2Fb HTTP/1.1\r\n{host}\r\n\r\n")),
        (400, "escaped_slash", format!("GET /v1/a%5cb HTTP/1.1\r\n{host}\r\n\r\n")),
        (400, "bad_path", format!("GET /v1/a%00b HTTP/1.1\r\n{host}\r\n\r\n")),
        (400, "bad_path", format!("GET /v1/a#b HTTP/1.1\r\n{host}\r\n\r\n")),
        (400, "bad_request", format!("GET /v1/a b HTTP/1.1\r\n{host}\r\n\r\n")),
        (400, "bad_request", format!("BREW /v1/pay HTTP/1.1\r\n{host}\r\n\r\n")),
        (400, "bad_request", format!("GET /v1/pay HTTP/1.1\r\n{host}\r\nx y: 1\r\n\r\n")),
        (400, "bad_request", format!("GET /v1/pay HTTP/1.1\r\n{host}\r\nx: a\u{1}b\r\n\r\n")),
        (
            400,
            "bad_request",
            format!(
                "POST / HTTP/1.1\r\n{host}\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n"
            ),
        ),
        (501, "bad_request", format!("POST / HTTP/1.1\r\n{host}\r\ntransfer-encoding: x\r\n\r\n")),
        (400, "bad_request", "\u{16}\u{3}\u{1}\r\n\r\n".to_owned()),
        (400, "missing_host", "GET /v1/pay HTTP/1.1\r\n\r\n".to_owned()),
        (400, "missing_host", "GET /v1/pay HTTP/1.0\r\n\r\n".to_owned()),
        (400, "bad_host", "GET /v1/pay HTTP/1.1\r\nhost: a b@c\r\n\r\n".to_owned()),
        (404, "no_route", "GET /v1/pay HTTP/1.1\r\nhost: other.test\r\n\r\n".to_owned()),
        (404, "no_route", format!("GET /v1/nothing HTTP/1.1\r\n{host}\r\n\r\n")),
        (404, "no_route", format!("OPTIONS * HTTP/1.1\r\n{host}\r\n\r\n")),
        (404, "no_route", format!("CONNECT {HOST}:443 HTTP/1.1\r\n{host}\r\n\r\n")),
        (421, "host_spelling", "GET /v1/pay HTTP/1.1\r\nhost: API.example.com\r\n\r\n".to_owned()),
        (
            403,
            "upgrade_not_allowed",
            format!(
                "GET /v1/pay HTTP/1.1\r\n{host}\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n"
            ),
        ),
        (408, "request_timeout", slow),
    ];
    for (status, code, request) in cases {
        let answer = rig.raw(&request).await;
        assert_eq!(answer.told(), (status, code.to_owned()), "{request}");
    }
    for (path, code) in [("/v1/a%2Fb", "escaped_slash"), ("/nothing", "no_route")] {
        let answer = http2::call(&rig, http2::get(HOST, path, &[])).await.unwrap();
        assert_eq!(answer.told().1, code, "{path}");
    }
}

#[tokio::test]
async fn grpc_is_refused_in_the_words_of_grpc() {
    let rig = rich().await;
    let at = |path: &str| GRPC.replace("/v1/pay", path);
    for (host, request, status, message) in [
        (HOST, at("/v1/nothing"), "12", "no_route: No such route"),
        ("API.example.com", at("/v1/pay"), "12", "host_spelling: Write the host in lower case"),
        (
            HOST,
            at("/v1/a%2Fb"),
            "13",
            "escaped_slash: Paths with %252F or %255C are not served here",
        ),
        (HOST, at("/v1/method"), "12", "method_not_allowed: Not with this method; see Allow"),
    ] {
        let answer = rig.with_key(host, &request).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.header("content-type"), Some("application/grpc"), "{answer:?}");
        assert_eq!(answer.header("grpc-status"), Some(status), "{answer:?}");
        assert_eq!(answer.header("grpc-message"), Some(message), "{answer:?}");
        assert!(answer.header("x-request-id").is_some(), "{answer:?}");
    }
    for (kind, is_grpc) in [
        ("application/grpc+proto", true),
        ("application/grpc;charset=utf-8", false),
        ("application/grpc-web", false),
        ("application/grpc-web+proto", false),
        ("application/grpcx", false),
    ] {
        let request = at("/v1/a%2Fb").replace("application/grpc", kind);
        let answer = rig.with_key(HOST, &request).await;
        assert_eq!(answer.status, if is_grpc { 200 } else { 400 }, "{kind}: {answer:?}");
        assert_eq!(answer.header("grpc-status").is_some(), is_grpc, "{kind}: {answer:?}");
    }
    let many: String = many(110).iter().map(|(k, v)| format!("\n{k}: {v}")).collect();
    let answer = rig.with_key(HOST, &format!("{GRPC}{many}")).await;
    assert_eq!(answer.header("grpc-status"), Some("8"), "{answer:?}");
}
