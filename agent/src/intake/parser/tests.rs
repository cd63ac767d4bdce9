use imp_process::random::random;
use imp_proto::config::ResourceType;

use super::super::{Access, Item};
use super::*;

fn message(id: &str, hosts: usize, port: u32) -> pb::Publish {
    let route = pb::Route {
        id: "r".into(),
        path: Some(pb::PathMatch { kind: Some(pb::path_match::Kind::Prefix("/".into())) }),
        backends: vec![pb::WeightedBackend { backend_id: "b".into(), weight: 1 }],
        ..Default::default()
    };
    let endpoint = pb::Endpoint { host: "10.0.0.1".into(), port, weight: 1 };
    let backend = pb::Backend { id: "b".into(), endpoints: vec![endpoint], ..Default::default() };
    let service = pb::ApiService {
        id: "s".into(),
        routes: vec![route],
        backends: vec![backend],
        ..Default::default()
    };
    pb::Publish {
        id: id.into(),
        gateway_id: "g".into(),
        hostnames: (0..hosts).map(|host| format!("{id}-{host}.example.com")).collect(),
        base_path: "/v1".into(),
        revision: 3,
        api_services: vec![service],
        ..Default::default()
    }
}

fn resource(message: &pb::Publish) -> Resource {
    Resource::new(message.id.as_str(), "v", message.encode_to_vec().into())
}

/// What a parser that remembers takes of a publish is what one takes that has never seen another.
fn same(parser: &mut Parser, resource: &Resource) -> bool {
    let both = [
        parser.parse(ResourceType::Publish, resource),
        super::super::parse(ResourceType::Publish, resource),
    ];
    let [known, new] = both.map(|it| {
        it.map(|item| match item {
            Item::Publish(publish) => (publish.routes, publish.access, publish.wire),
            other => panic!("{other:?}"),
        })
    });
    assert_eq!(known, new);
    let access = |parser: &mut Parser| match parser.parse_access(ResourceType::Publish, resource) {
        Ok(Access::Publish(access, revision)) => Ok((access, revision)),
        Ok(_) => panic!("not a publish"),
        Err(rejected) => Err(rejected),
    };
    assert_eq!(access(parser), access(&mut Parser::default()));
    known.is_ok()
}

#[test]
fn a_publish_of_a_known_content_is_what_it_is_alone() {
    let mut parser = Parser::default();
    for (id, hosts, port) in [("aa", 1, 80), ("bb", 1, 80), ("cc", 1, 81), ("dd", 2, 80)] {
        assert!(same(&mut parser, &resource(&message(id, hosts, port))), "{id}");
    }
    assert_eq!(parser.publishes.len(), 2, "one for each content");
    let contents: Vec<_> = ["ee", "ff"]
        .map(|id| parser.publish(&message(id, 1, 80).encode_to_vec().into(), &id.into()).unwrap())
        .into();
    assert!(contents[0].access.shares_rules_with(&contents[1].access));
    let next = pb::Publish { revision: 4, suspended: true, ..message("aa", 1, 80) };
    assert!(same(&mut parser, &resource(&next)));
}

/// What other tenants hold below a wildcard is of that wildcard alone.
#[test]
fn publishes_of_one_content_keep_out_hosts_of_their_own() {
    let mut parser = Parser::default();
    for (id, kept_out) in [("aa", 0), ("bb", 2), ("cc", 1), ("dd", 3), ("ee", 0)] {
        let wildcard = pb::Publish {
            hostnames: vec![format!("*.{id}.org")],
            kept_out_hosts: (0..kept_out).map(|n| format!("{n}.{id}.org")).collect(),
            ..message(id, 0, 80)
        };
        assert!(same(&mut parser, &resource(&wildcard)), "{id}");
        let parsed = parser.publish(&wildcard.encode_to_vec().into(), &id.into()).unwrap();
        let hosts: Vec<_> = parsed.routes.kept_out.iter().map(|it| it.to_string()).collect();
        assert_eq!(hosts, wildcard.kept_out_hosts);
    }
    assert_eq!(parser.publishes.len(), 1, "one content");
}

#[test]
fn what_is_wrong_with_the_own_part_is_found_in_a_known_content() {
    let mut parser = Parser::default();
    assert!(same(&mut parser, &resource(&message("good", 1, 80))));
    let good = message("good", 1, 80);
    for hostnames in [
        vec![],
        vec!["UPPER.example.com".to_owned()],
        vec!["a.example.com".to_owned(), "a.example.com".to_owned()],
        vec!["a.example.com".to_owned(); 100_000],
        vec!["a".repeat(300)],
    ] {
        assert!(!same(&mut parser, &resource(&pb::Publish { hostnames, ..good.clone() })));
    }
    let id = "not an id".to_owned();
    assert!(!same(&mut parser, &resource(&pb::Publish { id, ..good.clone() })));
    let under_another = Resource::new("other", "v", good.encode_to_vec().into());
    assert!(!same(&mut parser, &under_another));
    let mut bytes = good.encode_to_vec();
    bytes.push(0xff);
    assert!(!same(&mut parser, &Resource::new("good", "v", bytes.into())));
}

/// A publish that is within the bounds with one host, and not with as many as it has.
#[test]
fn hosts_count_for_the_bounds_of_a_known_content() {
    let mut parser = Parser::default();
    let heavy = |id: &str, hosts: usize| {
        let mut publish = message(id, hosts, 80);
        let service = publish.api_services.first_mut().unwrap();
        let route = service.routes.first().cloned().unwrap();
        service.routes = (0..2_000)
            .map(|number| {
                let path = format!("/{}/{number}", "a".repeat(200));
                let path = Some(pb::PathMatch { kind: Some(pb::path_match::Kind::Exact(path)) });
                pb::Route { id: format!("r{number}"), path, ..route.clone() }
            })
            .collect();
        publish
    };
    assert!(same(&mut parser, &resource(&heavy("one", 1))));
    assert!(!same(&mut parser, &resource(&heavy("all", 50))));
}

#[test]
fn what_is_remembered_is_bounded() {
    let mut parser = Parser::default();
    let mut most = 0;
    for number in 0..1_000_u32 {
        let mut publish = message("p", 1, 80);
        publish.environment = format!("{}{:x}", "e".repeat(16_000), random::<u32>());
        publish.revision = number.into();
        assert!(parser.parse(ResourceType::Publish, &resource(&publish)).is_ok());
        most = most.max(parser.publishes.len());
    }
    assert!(most < 2 * BYTES / 16_000, "{most}");
}
