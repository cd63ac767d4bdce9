//! What publishes cost in the assembly's memory, once Envoy has accepted them:
//! `cargo run -p imp-translate --example publishes -- <publishes> <contents>`. The resources themselves
//! are dropped here; an agent holds each once, in its resource sets.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a measurement is printed, and may fail"
)]

use std::time::Instant;

use imp_proto::config as pb;
use imp_translate::xds::{ROUTES, SCOPE};
use imp_translate::{Assembly, Delta, Layout, Options, Upstreams, ir};

fn main() {
    let mut numbers = std::env::args().skip(1).map(|number| number.parse::<u32>().unwrap());
    let (publishes, contents) = (numbers.next().unwrap(), numbers.next().unwrap());
    let mut assembly = Assembly::new(Options {
        bind_address: "0.0.0.0".into(),
        layout: Layout::ScopedRoutes,
        agent_cluster: "agent".into(),
        upstreams: Upstreams::default(),
        door: Default::default(),
        tells_hosts: false,
    });
    let listener = pb::Listener {
        name: "http".into(),
        port: 80,
        protocol: pb::listener::Protocol::Http.into(),
        hostname: String::new(),
    };
    let gateway = pb::Gateway { id: id(0), listeners: vec![listener], ..Default::default() };
    accept(&mut assembly, vec![Delta::default()]);
    let first = assembly.set_gateway(ir::Gateway::parse(&gateway).unwrap());
    accept(&mut assembly, vec![first]);
    let (before, begin) = (resident(), Instant::now());
    let mut bytes = 0;
    for number in 0..publishes {
        let delta = assembly.set_publish(publish(number, number % contents));
        bytes += accept(&mut assembly, vec![delta]);
    }
    let each = |total: u64| total / u64::from(publishes);
    println!(
        "{publishes} publishes of {contents} contents: {} bytes each in the assembly, {} sent, {} us",
        each(resident().saturating_sub(before)),
        each(bytes),
        begin.elapsed().as_micros() / u128::from(publishes),
    );
}

fn id(number: u32) -> String {
    format!("0198c0de-0000-7000-8000-{number:012x}")
}

/// Two routes to a backend, with a key.
fn publish(number: u32, content: u32) -> ir::Publish {
    let route = |route: u32, path: &str| pb::Route {
        id: id(content * 2 + route),
        path: Some(pb::PathMatch { kind: Some(pb::path_match::Kind::Prefix(path.into())) }),
        backends: vec![pb::WeightedBackend { backend_id: "b".into(), weight: 1 }],
        ..Default::default()
    };
    let [_, second, third, fourth] = (content + 1).to_be_bytes();
    let endpoint =
        pb::Endpoint { host: format!("10.{second}.{third}.{fourth}"), port: 443, weight: 1 };
    let backend = pb::Backend { id: "b".into(), endpoints: vec![endpoint], ..Default::default() };
    let message = pb::Publish {
        id: id(number),
        gateway_id: id(0),
        tenant_id: id(content % 10),
        product_id: id(content),
        environment: "prod".into(),
        hostnames: vec![format!("host-{number}.customers.example.com")],
        base_path: "/v1".into(),
        revision: 1,
        auth_mode: pb::publish::AuthMode::ApiKey.into(),
        api_services: vec![pb::ApiService {
            id: id(content),
            routes: vec![route(0, "/orders"), route(1, "/items")],
            backends: vec![backend],
            ..Default::default()
        }],
        ..Default::default()
    };
    let access = format!("api_key.{content:012x}.88e72ffb9af3428e");
    let mut publish = ir::Publish::parse(&message).unwrap();
    publish.access = access;
    publish
}

/// Accepts everything, like an Envoy. Returns the bytes of scopes and tables.
fn accept(assembly: &mut Assembly, mut deltas: Vec<Delta>) -> u64 {
    let mut bytes = 0;
    while let Some(delta) = deltas.pop() {
        for resource in delta.all.upserts {
            if [SCOPE, ROUTES].contains(&resource.type_url) {
                bytes += resource.value.len() as u64;
            }
            let (name, version) = (&*resource.name, &*resource.version);
            let next = assembly.accepted(resource.type_url, name, version);
            if next != Delta::default() {
                deltas.push(next);
            }
        }
    }
    bytes
}

/// Bytes of memory in use.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}
