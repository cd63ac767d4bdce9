//! The objects for a Gateway of Envoy Gateway: `envoy_gateway/<name>.snap`, written by
//! `INSTA_UPDATE=always cargo test -p imp-translate envoy_gateway`.

use std::collections::{BTreeMap, BTreeSet};

use imp_translate::envoy_gateway::{
    Agent, Attachment, Certificate, Dedicated, Led, Listener, Protocol, envoy_proxy, lead, policy,
    secret,
};
use imp_translate::{Layout, Options, ir};
use serde_json::Value;

use crate::fixtures::{self, parsed_gateway};

fn attachment() -> Attachment {
    Attachment {
        namespace: "edge".into(),
        name: "gw".into(),
        gateway_id: "00000000-0000-7000-8000-000000000001".into(),
    }
}

fn options() -> Options {
    Options { tells_hosts: true, ..fixtures::options(Layout::InlineScopes) }
}

fn led(table: &str, hosts: &[&str]) -> Led {
    let hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
    let upgrades = BTreeSet::from(["websocket".to_owned()]);
    Led { table: table.into(), port: 8080, hosts, upgrades }
}

fn shows(name: &str, object: &Value) {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/envoy_gateway");
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(folder);
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_yaml_snapshot!(name, object));
}

#[test]
fn the_policy_adds_and_changes_nothing() {
    let tables = [
        led("edge/gw/http", &["*.shop.example.com", "api.example.com"]),
        led("edge/gw/https", &["api.example.com"]),
        led("edge/gw/empty", &[]),
    ];
    let made = policy(&attachment(), &tables, &[], &ir::Edge::default(), &options()).unwrap();
    let patches = made.pointer("/spec/jsonPatches").unwrap().as_array().unwrap();
    for patch in patches {
        let operation = patch.get("operation").unwrap();
        assert_eq!(operation.get("op").unwrap(), "add");
        let path = operation.get("path").unwrap().as_str().unwrap();
        assert!(["", "/virtual_hosts/-"].contains(&path), "{path} is Envoy Gateway's");
    }
    // One listener and cluster for all tables of a port; a virtual host needs a host.
    assert_eq!(patches.len(), 4);
    shows("policy", &made);
}

#[test]
fn a_dedicated_gateways_connection_managers_are_ours_and_what_led_before_stays() {
    let tables = [led("edge/gw/http", &["*"])];
    let owned = Dedicated { listener: "edge/gw/http".into(), port: 8080 };
    let made = policy(&attachment(), &tables, &[owned], &ir::Edge::default(), &options()).unwrap();
    let patches = made.pointer("/spec/jsonPatches").unwrap().as_array().unwrap();
    let operations: Vec<_> =
        patches.iter().map(|it| it.pointer("/operation/op").unwrap().as_str().unwrap()).collect();
    assert_eq!(operations, ["add", "add", "add", "replace"]);
    let last = patches.last().unwrap();
    let at = |pointer: &str| last.pointer(pointer).unwrap();
    assert_eq!(at("/operation/path"), "/typed_config");
    let manager = at("/operation/value");
    // Callers are met there, so nothing that they say of themselves counts.
    assert_eq!(manager.get("use_remote_address").unwrap(), true);
    assert!(manager.get("scoped_routes").is_some() && manager.get("rds").is_none());
    assert!(manager.get("local_reply_config").is_some());
    shows("dedicated", last);
}

#[test]
fn the_bootstrap_finds_the_agent_by_its_certificate() {
    let agent = Agent {
        cluster: "agent".into(),
        host: "imp-agent.imp-system.svc".into(),
        port: 18000,
        uri: "spiffe://imp/agent".into(),
    };
    shows("proxy", &envoy_proxy(&attachment(), &agent));
    let files = Certificate {
        authority: "A".into(),
        certificate: "C".into(),
        key: "K".into(),
        annotations: vec![("imp-gateway.io/valid-until", "then".into())],
    };
    shows("secret", &secret(&attachment(), "envoy-gateway-system", &files));
}

fn listener(name: &str, port: u16, protocol: Protocol, hostname: Option<&str>) -> Listener {
    Listener { name: name.into(), port, protocol, hostname: hostname.map(str::to_owned) }
}

/// The tables and their hosts, for one host at port 8080 and one at 9090.
fn leads(listeners: &[Listener], ours: &[(&str, u16)]) -> Vec<(String, u16, Vec<String>)> {
    let mut gateway = parsed_gateway(8080);
    gateway.listeners = ours
        .iter()
        .map(|(name, port)| ir::Listener { name: (*name).into(), port: *port, hostname: None })
        .collect();
    let hosts = BTreeMap::from([
        (8080, BTreeSet::from(["api.example.com".to_owned()])),
        (9090, BTreeSet::from(["admin.example.com".to_owned()])),
    ]);
    let led = lead(("edge", "gw"), listeners, &gateway, &hosts, &BTreeSet::new());
    led.into_iter().map(|it| (it.table, it.port, it.hosts.into_iter().collect())).collect()
}

#[test]
fn a_listener_of_ours_is_found_by_name_then_port_and_an_only_one_by_all() {
    let api = || vec!["api.example.com".to_owned()];
    let theirs =
        [listener("a", 80, Protocol::Http, None), listener("b", 443, Protocol::Https, None)];
    let all = leads(&theirs, &[("x", 8080)]);
    assert_eq!(all, [("edge/gw/a".to_owned(), 8080, api()), ("edge/gw/b".to_owned(), 8080, api())]);
    let named = leads(&theirs, &[("b", 8080), ("a", 9090)]);
    assert_eq!((named[0].1, named[1].1), (9090, 8080));
    let at_port = leads(&theirs, &[("x", 8080), ("y", 443)]);
    assert_eq!(at_port, [("edge/gw/b".to_owned(), 443, vec![])], "the other one is left alone");
}

#[test]
fn hosts_lead_where_a_listener_admits_them() {
    let only = |hostname| {
        let all = leads(&[listener("a", 80, Protocol::Http, Some(hostname))], &[("x", 8080)]);
        all[0].2.clone()
    };
    assert_eq!(only("api.example.com"), ["api.example.com"]);
    assert_eq!(only("*.example.com"), ["api.example.com"]);
    assert!(only("*.example.org").is_empty());
    assert!(only("example.com").is_empty());
    // Plain listeners of one port have one table, that of the first.
    let shared = leads(
        &[
            listener("a", 80, Protocol::Http, Some("x.test")),
            listener("b", 80, Protocol::Http, Some("api.example.com")),
        ],
        &[("x", 8080)],
    );
    assert_eq!(shared, [("edge/gw/a".to_owned(), 8080, vec!["api.example.com".to_owned()])]);
}
