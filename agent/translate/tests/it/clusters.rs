//! Which clusters are of one shape, so that what refers to one does not wait for Envoy's word.

use imp_proto::config as pb;
use imp_translate::xds::{CLUSTER, cluster};

use crate::fixtures::{self, assembly, parsed, parsed_gateway, service};

type Edit<'a> = &'a dyn Fn(&mut pb::Backend);

fn shape(edit: Edit<'_>) -> Option<u64> {
    let mut publish = fixtures::publish("p1", "api.example.com", 1);
    edit(&mut service(&mut publish).backends[0]);
    let mut assembly = assembly();
    assembly.set_gateway(parsed_gateway(8080));
    let delta = assembly.set_publish(parsed(&publish));
    let rendered = delta.all.upserts.iter().find(|rendered| rendered.type_url == CLUSTER).unwrap();
    cluster::shape(&rendered.value)
}

fn at(host: &'static str, port: u32) -> impl Fn(&mut pb::Backend) {
    move |backend| backend.endpoints = vec![pb::Endpoint { host: host.into(), port, weight: 1 }]
}

/// Endpoints are ejected and checked only if there is another one.
fn two(backend: &mut pb::Backend) {
    let endpoint = |host: &str| pb::Endpoint { host: host.into(), port: 80, weight: 1 };
    backend.endpoints = vec![endpoint("9.9.9.9"), endpoint("9.9.9.10")];
}

#[test]
fn clusters_that_differ_in_addresses_and_timeouts_have_one_shape() {
    let one = shape(&at("10.0.0.1", 80));
    assert!(one.is_some());
    for (host, port) in [("10.0.0.2", 80), ("10.0.0.1", 8_443), ("2001:db8::1", 80)] {
        assert_eq!(shape(&at(host, port)), one, "{host}:{port}");
    }
    let patient = shape(&|backend| {
        at("10.0.0.1", 80)(backend);
        backend.connect_timeout_ms = 7;
    });
    assert_eq!(patient, one);
}

#[test]
fn clusters_that_differ_in_anything_else_do_not() {
    let one = shape(&two);
    let others: [(&str, Edit<'_>); 4] = [
        ("endpoints", &|b| b.endpoints.push(pb::Endpoint { port: 81, ..b.endpoints[0].clone() })),
        ("protocol", &|b| b.protocol = pb::backend::Protocol::Http2.into()),
        ("policy", &|b| b.lb_policy = pb::backend::LbPolicy::Random.into()),
        ("ejection", &|b| {
            b.outlier_detection =
                Some(pb::OutlierDetection { disabled: true, ..Default::default() });
        }),
    ];
    for (what, edit) in others {
        let other = shape(&|backend| {
            two(backend);
            edit(backend);
        });
        assert!(other.is_some(), "{what}");
        assert_ne!(other, one, "{what}");
    }
}

#[test]
fn what_is_resolved_checked_or_encrypted_is_waited_for() {
    let waited_for: [(&str, Edit<'_>); 3] = [
        ("resolved", &at("backend.example.com", 80)),
        ("checked", &|b| {
            two(b);
            b.health_check = Some(pb::HealthCheck { path: "/ok".into(), ..Default::default() });
        }),
        ("encrypted", &|b| {
            at("10.0.0.1", 443)(b);
            b.protocol = pb::backend::Protocol::Http1Tls.into();
            b.tls = Some(pb::UpstreamTls::default());
        }),
    ];
    for (what, edit) in waited_for {
        assert_eq!(shape(edit), None, "{what}");
    }
    assert_eq!(cluster::shape(b"\xff"), None, "no cluster");
}
