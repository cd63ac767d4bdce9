//! Calls are allowed or refused by the address that Envoy would connect to.

use std::net::{IpAddr, SocketAddr};

use imp_grammar::network::{METADATA, NOT_PUBLIC_V4, NOT_PUBLIC_V6, Networks};
use imp_proto::config as pb;
use imp_translate::{Closed, Layout, Options, Upstreams};

use super::HOST;
use super::rig::{Answer, Rig};
use crate::fixtures::{self, parsed, prefix, route, service};

fn options(allowed: &[&str], closed: Vec<Closed>) -> Options {
    let nets: Vec<_> = allowed.iter().map(|net| net.parse().unwrap()).collect();
    let networks = Networks::allowing(&nets);
    let upstreams = Upstreams { networks, closed, ..Default::default() };
    Options { upstreams, ..fixtures::options(Layout::ScopedRoutes) }
}

/// One route `/<n>` per upstream.
async fn publish(rig: &mut Rig, upstreams: &[(String, u16)]) {
    let delta = rig.assembly.set_gateway(fixtures::parsed_gateway(rig.port));
    rig.apply(&delta);
    let mut publish = fixtures::publish("p1", HOST, 1);
    let service = service(&mut publish);
    service.backends.clear();
    service.routes.clear();
    for (index, (host, port)) in upstreams.iter().enumerate() {
        let id = format!("b{index}");
        let mut backend = fixtures::backend(&id, host, *port);
        backend.connect_timeout_ms = 1_000;
        service.backends.push(backend);
        service.routes.push(pb::Route {
            backends: vec![pb::WeightedBackend { backend_id: id.clone(), weight: 1 }],
            ..route(&format!("r{index}"), prefix(&format!("/{index}")))
        });
    }
    let delta = rig.assembly.set_publish(parsed(&publish));
    rig.apply(&delta);
    rig.active("p1").await;
    assert_eq!(rig.refusals, [], "Envoy takes everything");
}

async fn call(rig: &Rig, index: usize) -> Answer {
    rig.with_key(HOST, &format!("GET /{index}")).await
}

fn is_forbidden(answer: &Answer) -> bool {
    (answer.status, answer.problem().as_deref()) == (502, Some("upstream_forbidden"))
}

#[tokio::test]
async fn no_address_that_is_not_public_sees_a_connection() {
    let v4 = NOT_PUBLIC_V4.iter().flat_map(|(net, _)| [net.network(), net.broadcast()]);
    let v6 = NOT_PUBLIC_V6.iter().flat_map(|(net, _)| [net.network(), net.broadcast()]);
    let inside = ["::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "::7f00:1"];
    let addresses: Vec<IpAddr> = v4
        .map(IpAddr::from)
        .chain(v6.map(IpAddr::from))
        .chain(METADATA)
        .chain(inside.map(|text| text.parse().unwrap()))
        .collect();
    let mut rig = Rig::start_with(options(&[], vec![])).await;
    let upstream = rig.upstream;
    let mut upstreams: Vec<_> =
        addresses.iter().map(|address| (address.to_string(), upstream)).collect();
    // A name that Envoy's own host resolves.
    upstreams.push(("localhost".to_owned(), upstream));
    publish(&mut rig, &upstreams).await;
    for (index, (host, _)) in upstreams.iter().enumerate() {
        let answer = call(&rig, index).await;
        assert!(is_forbidden(&answer), "{host}: {answer:?}");
        assert!(!answer.body.contains("RBAC"), "{answer:?}");
    }
    assert_eq!(rig.connections().await, 0);
}

#[tokio::test]
async fn what_the_deployment_allows_is_called_and_nothing_beside_it() {
    let mut rig = Rig::start_with(options(&["127.0.0.1/32"], vec![])).await;
    let at = |host: &str| (host.to_owned(), rig.upstream);
    let upstreams =
        ["127.0.0.1", "localhost", "127.0.0.2", "::127.0.0.1", "::ffff:127.0.0.1"].map(at);
    publish(&mut rig, &upstreams).await;
    for index in 0..2 {
        let answer = call(&rig, index).await;
        assert_eq!(answer.status, 200, "{:?}: {answer:?}", upstreams.get(index));
    }
    for index in 2..5 {
        let answer = call(&rig, index).await;
        assert!(is_forbidden(&answer), "{:?}: {answer:?}", upstreams.get(index));
    }
}

#[tokio::test]
async fn the_platforms_own_ports_stay_closed_in_an_allowed_network() {
    let own = |address: &str| Closed::socket(address.parse::<SocketAddr>().unwrap());
    let closed = vec![
        own("127.0.0.1:18000"),
        own("0.0.0.0:18001"),
        Closed::network("127.0.9.0/24".parse().unwrap()),
    ];
    let mut rig = Rig::start_with(options(&["127.0.0.0/8", "::1/128", "0.0.0.0/32"], closed)).await;
    let at = |host: &str, port: u16| (host.to_owned(), port);
    let upstreams = [
        at("127.0.0.1", 18_000),
        at("::ffff:127.0.0.1", 18_000),
        at("0.0.0.0", 18_000),
        at("127.0.0.1", 18_001),
        at("127.3.2.1", 18_001),
        at("::1", 18_001),
        at("127.0.9.7", rig.upstream),
        at("127.0.0.1", rig.upstream),
    ];
    publish(&mut rig, &upstreams).await;
    let (open, closed) = upstreams.split_last().unwrap();
    for (index, upstream) in closed.iter().enumerate() {
        let answer = call(&rig, index).await;
        assert!(is_forbidden(&answer), "{upstream:?}: {answer:?}");
    }
    let answer = call(&rig, closed.len()).await;
    assert_eq!(answer.status, 200, "{open:?}: {answer:?}");
}
