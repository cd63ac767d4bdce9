//! Publishes to start from.

use imp_grammar::network::Networks;
use imp_proto::config as pb;
use imp_translate::ir;
use imp_translate::xds::names::Place;
use imp_translate::{Assembly, Layout, Options, Upstreams};

pub(crate) const GATEWAY: &str = "g1";

pub(crate) fn options(layout: Layout) -> Options {
    Options {
        bind_address: "127.0.0.1".into(),
        layout,
        agent_cluster: "agent".into(),
        upstreams: loopback(),
        door: Default::default(),
        tells_hosts: false,
    }
}

/// Allows loopback, where the tests' upstreams are.
pub(crate) fn loopback() -> Upstreams {
    let nets = ["127.0.0.0/8", "::1/128"].map(|net| net.parse().unwrap());
    Upstreams { networks: Networks::allowing(&nets), ..Default::default() }
}

pub(crate) fn assembly() -> Assembly {
    Assembly::new(options(Layout::ScopedRoutes))
}

pub(crate) fn gateway(port: u16) -> pb::Gateway {
    let http = pb::Listener {
        name: "http".into(),
        port: port.into(),
        protocol: pb::listener::Protocol::Http.into(),
        hostname: String::new(),
    };
    pb::Gateway { id: GATEWAY.into(), listeners: vec![http], ..Default::default() }
}

pub(crate) fn parsed_gateway(port: u16) -> ir::Gateway {
    ir::Gateway::parse(&gateway(port)).unwrap()
}

/// One route "/" to one backend, at one host.
pub(crate) fn publish(id: &str, host: &str, revision: u64) -> pb::Publish {
    pb::Publish {
        id: id.into(),
        gateway_id: GATEWAY.into(),
        tenant_id: "t1".into(),
        hostnames: vec![host.into()],
        base_path: "/".into(),
        revision,
        auth_mode: pb::publish::AuthMode::ApiKey.into(),
        api_services: vec![pb::ApiService {
            id: "s1".into(),
            name: "service".into(),
            routes: vec![route("r1", prefix("/"))],
            backends: vec![backend("b1", "127.0.0.1", 9000)],
            policies: vec![],
        }],
        ..Default::default()
    }
}

/// Its routes name `<id>@<revision>` as access rules, so each revision has a content of its own.
pub(crate) fn parsed(message: &pb::Publish) -> ir::Publish {
    ruled(message, &format!("{}@{}", message.id, message.revision))
}

/// With these access rules. Publishes that are equal but for id, revision and hosts share a content.
pub(crate) fn ruled(message: &pb::Publish, access: &str) -> ir::Publish {
    let mut publish = ir::Publish::parse(message).unwrap();
    publish.access = access.to_owned();
    publish
}

/// The name of the scope of a host at a port.
pub(crate) fn scope(port: u16, host: &str) -> String {
    Place { port, host: Some(host.into()) }.name()
}

pub(crate) fn service(publish: &mut pb::Publish) -> &mut pb::ApiService {
    publish.api_services.first_mut().unwrap()
}

pub(crate) fn route(id: &str, path: pb::path_match::Kind) -> pb::Route {
    pb::Route {
        id: id.into(),
        name: id.into(),
        path: Some(pb::PathMatch { kind: Some(path) }),
        backends: vec![pb::WeightedBackend { backend_id: "b1".into(), weight: 1 }],
        ..Default::default()
    }
}

pub(crate) fn backend(id: &str, host: &str, port: u16) -> pb::Backend {
    let endpoint = pb::Endpoint { host: host.into(), port: port.into(), weight: 1 };
    pb::Backend { id: id.into(), name: id.into(), endpoints: vec![endpoint], ..Default::default() }
}

pub(crate) fn exact(path: &str) -> pb::path_match::Kind {
    pb::path_match::Kind::Exact(path.into())
}

pub(crate) fn prefix(path: &str) -> pb::path_match::Kind {
    pb::path_match::Kind::Prefix(path.into())
}

pub(crate) fn template(path: &str) -> pb::path_match::Kind {
    pb::path_match::Kind::Template(path.into())
}

pub(crate) fn regex(expression: &str) -> pb::path_match::Kind {
    pb::path_match::Kind::Regex(expression.into())
}

pub(crate) fn value(name: &str, kind: pb::value_match::Kind) -> pb::ValueMatch {
    pb::ValueMatch { name: name.into(), kind: Some(kind) }
}

pub(crate) fn header(name: &str, value: &str) -> pb::Header {
    pb::Header { name: name.into(), value: value.into() }
}

pub(crate) fn request_headers(headers: pb::Headers) -> pb::Policy {
    pb::Policy { id: "p1".into(), kind: Some(pb::policy::Kind::RequestHeaders(headers)) }
}

pub(crate) fn response_headers(headers: pb::Headers) -> pb::Policy {
    pb::Policy { id: "p2".into(), kind: Some(pb::policy::Kind::ResponseHeaders(headers)) }
}
