//! Every spelling of a host finds its scope, and no spelling a way around the door.

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
