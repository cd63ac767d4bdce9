//! Every spelling of a host finds its scope, and no spelling a way around the door.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use serde_json::{Value, json};

use crate::bootstrap;
use crate::envoy::{Envoy, free_port, library, raw, upstream};
use crate::fixtures::{self as of, KEY};

/// A scope that answers with its own key, and has a closed route.
fn scope(port: u16, key: &str) -> Value {
    let status = key.strip_prefix('!').map_or(200, |code| code.parse().unwrap());
    let answer = json!({"match": {"prefix": "/"}, "metadata": {"filter_metadata": {"imp.door":
        {"publish": "open"}}}, "direct_response": {"status": status, "body": {"inline_string": key}}});
    let routes = json!([bootstrap::route("/closed", "closed", ""), answer]);
    json!({"name": format!("{port}/{key}"), "key": {"fragments": [{"string_key": key}]},
        "route_configuration": {"name": format!("{port}/{key}"),
            "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]}})
}

/// A listener whose scopes are found by the key that the module writes.
fn listener(port: u16, file: &std::path::Path, tls: bool, keys: &[&str]) -> Value {
    let state = json!({"snapshot": file});
    let config = json!({"state": state, "port": port, "tls": tls});
    let fragment = json!({"header_value_extractor": {"name": "x-imp-host", "element_separator": ":", "index": 0}});
    let keys = keys.iter().chain(&["!400", "!404", "!421"]);
    let scopes: Vec<Value> = keys.map(|key| scope(port, key)).collect();
    let more = json!({
        "early_header_mutation_extensions": bootstrap::scope_key(&library(), &config),
        "scoped_routes": {"name": "imp", "scope_key_builder": {"fragments": [fragment]},
            "scoped_route_configurations_list": {"scoped_route_configurations": scopes}},
    });
    bootstrap::listener(port, bootstrap::door(&library(), "door", &json!({"state": state})), &more)
}

#[test]
fn every_spelling_of_a_host_finds_its_scope() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("snapshot");
    let (first, second) = (free_port(), free_port());
    let hosts = [
        (first, "a.example.com"),
        (first, "*.example.com"),
        (first, "*.deep.example.com"),
        (second, "b.test"),
        (second, "*"),
    ];
    of::write_snapshot(&file, of::everything(&hosts));
    let keys = |port| hosts.iter().filter(move |(of, _)| *of == port).map(|(_, key)| *key);
    let listeners =
        [first, second].map(|port| listener(port, &file, false, &keys(port).collect::<Vec<_>>()));
    let envoy = Envoy::start(&bootstrap::bootstrap(&listeners, upstream(), 1), 1);
    let ask = |port: u16, line: &str, host: &str, headers: &str| {
        let request = format!("GET {line} HTTP/1.1\r\nhost: {host}\r\n{headers}\r\n");
        let answer = raw(port, request.as_bytes());
        answer.unwrap_or_else(|| panic!("{host:?}: {}", envoy.log()))
    };
    for (port, host, key) in [
        (first, "a.example.com", "a.example.com"),
        (first, "A.Example.COM", "a.example.com"),
        (first, "a.example.com:8443", "a.example.com"),
        (first, "a.example.com.", "a.example.com"),
        (first, "A.EXAMPLE.com.:8443", "a.example.com"),
        (first, "b.example.com", "*.example.com"),
        (first, "B.c.EXAMPLE.com", "*.example.com"),
        (first, "x.deep.example.com", "*.deep.example.com"),
        (first, "deep.example.com", "*.example.com"),
        (first, "example.com", "!404"),
        (first, "other.org", "!404"),
        (first, "[::1]", "!404"),
        (first, "b.test", "!404"),
        (first, "a..example.com", "!400"),
        (first, "a.example.com..", "!400"),
        (first, "*.example.com", "!400"),
        (first, "a.example.com:port", "!400"),
        (first, "!404", "!400"),
        (second, "B.test", "b.test"),
        (second, "a.example.com", "*"),
        (second, "127.0.0.1", "*"),
    ] {
        let answer = ask(port, "/", host, "");
        let status = key.strip_prefix('!').map_or(200, |code| code.parse().unwrap());
        assert_eq!((answer.status, answer.body.as_str()), (status, key), "{host}");
    }
    // The absolute form takes precedence over the header.
    let answer = ask(first, "http://A.Example.com:80/", "b.example.com", "");
    assert_eq!(answer.body, "a.example.com");
    // Callers do not choose their scope.
    let answer =
        ask(first, "/", "other.org", "x-imp-host: a.example.com\r\nX-Imp-Host: b.test\r\n");
    assert_eq!(answer.body, "!404");
    // No spelling leads around the door.
    for host in ["a.example.com", "A.EXAMPLE.COM", "a.example.com.", "z.Example.com"] {
        assert_eq!(ask(first, "/closed", host, "").status, 401, "{host}");
        let answer = ask(first, "/closed", host, &format!("x-api-key: {KEY}\r\n"));
        assert_eq!(answer.status, 200, "{host}");
    }
}

/// A listener with TLS, whose certificate is for these names.
fn with_tls(mut listener: Value, names: &[&str]) -> (Value, rustls::RootCertStore) {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    let text = |pem: String| json!({"inline_string": pem});
    listener["listener_filters"] = json!([{"name": "tls_inspector", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector"}}]);
    listener["filter_chains"][0]["transport_socket"] = json!({"name": "tls", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        "common_tls_context": {"tls_certificates": [{
            "certificate_chain": text(made.cert.pem()),
            "private_key": text(made.signing_key.serialize_pem())}]}}});
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    (listener, roots)
}

/// The answer to a call with this name in the handshake, and this host in the request.
fn ask_tls(port: u16, client: &Arc<rustls::ClientConfig>, name: &str, host: &str) -> String {
    // An address is no name: the handshake then has none.
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let connection = rustls::ClientConnection::new(client.clone(), name).unwrap();
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let mut stream = rustls::StreamOwned::new(connection, stream);
    let request = format!("GET / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    // Envoy may close without a goodbye.
    let _end = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or(answer)
}

#[test]
fn the_host_is_the_one_that_tls_was_made_for() {
    let _installed = rustls::crypto::ring::default_provider().install_default();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("snapshot");
    let port = free_port();
    let keys = ["a.example.com", "*.example.com"];
    of::write_snapshot(&file, of::everything(&keys.map(|key| (port, key))));
    let names = ["a.example.com", "b.example.com", "127.0.0.1"];
    let (listener, roots) = with_tls(listener(port, &file, true, &keys), &names);
    let envoy = Envoy::start(&bootstrap::bootstrap(&[listener], upstream(), 1), 1);
    let client = rustls::ClientConfig::builder().with_root_certificates(roots);
    let client = Arc::new(client.with_no_client_auth());
    for (name, host, key) in [
        ("a.example.com", "a.example.com", "a.example.com"),
        ("a.example.com", "A.Example.com.:8443", "a.example.com"),
        ("A.EXAMPLE.COM", "a.example.com", "a.example.com"),
        ("b.example.com", "b.example.com", "*.example.com"),
        ("a.example.com", "b.example.com", "!421"),
        ("b.example.com", "a.example.com", "!421"),
        ("127.0.0.1", "a.example.com", "!421"),
        ("a.example.com", "a..example.com", "!400"),
    ] {
        let answer = ask_tls(port, &client, name, host);
        assert_eq!(answer, key, "{name} {host}: {}", envoy.log());
    }
}
