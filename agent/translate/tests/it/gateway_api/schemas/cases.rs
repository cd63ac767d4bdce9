//! What each class is asked to render.

use imp_grammar::classes::Class;
use imp_proto::config as pb;
use imp_translate::gateway_api::{Deployed, Plan};
use pb::publish::AuthMode;
use serde_json::Value;

use crate::fixtures::{self, exact, parsed, prefix, service};
use crate::golden::objects::{self, decider, options};

/// The objects that a publish with one feature has, the gateway's among them.
pub(super) struct Rendered {
    /// The feature's word; `plain`, or the name of a golden input.
    pub(super) feature: &'static str,
    pub(super) objects: Vec<Value>,
}

type Change = fn(&mut pb::Publish);

/// What portable classes may be able to do, by the word of the feature.
const PORTABLE: [(&str, Change); 11] = [
    ("plain", |_| {}),
    ("methods", |it| service(it).routes[0].methods = vec!["GET".into(), "POST".into()]),
    ("weights", |it| {
        service(it).backends.push(fixtures::backend("b2", "127.0.0.1", 9_001));
        let second = pb::WeightedBackend { backend_id: "b2".into(), weight: 3 };
        service(it).routes[0].backends.push(second);
    }),
    ("rewrite_path", |it| {
        service(it).routes.push(fixtures::route("r2", exact("/exact")));
        for route in &mut service(it).routes {
            route.rewrite = Some(pb::Rewrite { path: "/up".into(), ..Default::default() });
        }
    }),
    ("rewrite_host", |it| {
        let host = "up.example.com".into();
        service(it).routes[0].rewrite = Some(pb::Rewrite { host, ..Default::default() });
    }),
    ("request_headers", |it| with(it, fixtures::request_headers(headers()))),
    ("response_headers", |it| with(it, fixtures::response_headers(headers()))),
    ("cors", |it| {
        let cors = pb::Cors {
            allow_origins: vec!["https://app.example.com".into(), "https://*.example.org".into()],
            allow_methods: vec!["GET".into()],
            allow_headers: vec!["x-a".into()],
            expose_headers: vec!["x-b".into()],
            max_age_seconds: Some(600),
            allow_credentials: true,
        };
        with(it, pb::Policy { id: "c".into(), kind: Some(pb::policy::Kind::Cors(cors)) });
    }),
    ("upstream_tls", |it| {
        let backend = &mut service(it).backends[0];
        backend.protocol = pb::backend::Protocol::Http1Tls.into();
        backend.tls = Some(pb::UpstreamTls { sni: "up.example.com".into(), ..Default::default() });
    }),
    ("http2_backends", |it| {
        service(it).backends[0].protocol = pb::backend::Protocol::Http2.into();
    }),
    ("wildcard_hosts", |it| it.hostnames.push("*.example.org".into())),
];

fn with(publish: &mut pb::Publish, policy: pb::Policy) {
    publish.policies = vec![policy];
    service(publish).routes[0].policy_indexes = vec![0];
}

fn headers() -> pb::Headers {
    pb::Headers {
        set: vec![fixtures::header("x-set", "100%% sure")],
        add: vec![fixtures::header("x-add", "text/html; q=1")],
        remove: vec!["x-gone".into()],
    }
}

/// What the class renders: each portable feature that it can, and for Envoy Gateway every golden input.
pub(super) fn rendered(class: &'static Class) -> Vec<Rendered> {
    let mut all = Vec::new();
    for (feature, change) in PORTABLE {
        let mut plan = Plan::new(options());
        let deployed = Deployed { class, name: class.word.to_owned(), decider: Some(decider()) };
        let mut objects = plan.set_gateway(&fixtures::parsed_gateway(80), deployed).unwrap();
        let mut publish = fixtures::publish("p1", "a.example.com", 1);
        publish.auth_mode = AuthMode::None.into();
        service(&mut publish).routes[0].path = Some(pb::PathMatch { kind: Some(prefix("/a")) });
        change(&mut publish);
        if let Ok(of_publish) = plan.set_publish(&parsed(&publish)) {
            objects.extend(of_publish);
            let (probe, _) = plan.probe(&fixtures::parsed_gateway(80), 1);
            objects.push(probe);
            all.push(Rendered { feature, objects });
        }
    }
    if class.has_policies {
        all.push(Rendered { feature: "golden", objects: objects::all() });
    }
    all
}
