//! Tests of hosts: what the module finds in Envoy's place, and what is told of it.

use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::listener::v3 as listener;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
use envoy_types::pb::envoy::extensions::http::early_header_mutation::dynamic_modules::v3::DynamicModuleEarlyHeaderMutation;
use envoy_types::pb::google::protobuf::StringValue;
use imp_proto::config as pb;
use imp_translate::assembly::{Host, Misplaced};
use imp_translate::xds::names::Place;
use imp_translate::xds::{EXTENSION, LISTENER, SCOPE};
use imp_translate::{Assembly, Delta, Door, Layout, Module, Options};
use prost::Message as _;

use crate::fixtures::{self, assembly, parsed, parsed_gateway, publish, scope};

fn with_module() -> Assembly {
    let module = Module { file: "/module/libimp.so".into(), state: r#"{"feed":"f"}"#.into() };
    Assembly::new(Options { door: Door::Module(module), ..fixtures::options(Layout::ScopedRoutes) })
}

fn manager(delta: &Delta) -> hcm::HttpConnectionManager {
    let listeners = || delta.all.upserts.iter().filter(|it| it.type_url == LISTENER);
    let [one] = listeners().collect::<Vec<_>>()[..] else { panic!("{delta:?}") };
    let listener = listener::Listener::decode(one.value.clone()).unwrap();
    let filter = listener.filter_chains[0].filters[0].config_type.clone().unwrap();
    let listener::filter::ConfigType::TypedConfig(manager) = filter else { panic!("{filter:?}") };
    hcm::HttpConnectionManager::decode(manager.value.as_slice()).unwrap()
}

fn mutations(delta: &Delta) -> Vec<core::TypedExtensionConfig> {
    manager(delta).early_header_mutation_extensions
}

fn names(delta: &Delta) -> Vec<String> {
    mutations(delta).into_iter().map(|it| it.name).collect()
}

fn place(host: &str) -> Place {
    Place { port: 8080, host: Some(host.into()) }
}

#[test]
fn the_module_writes_the_key_after_everything_that_callers_could_forge_is_gone() {
    let mut assembly = with_module();
    let delta = assembly.set_gateway(parsed_gateway(8080));
    assert_eq!(names(&delta), ["strip", "canon", "host"]);
    let last = mutations(&delta).pop().unwrap().typed_config.unwrap();
    let last = DynamicModuleEarlyHeaderMutation::decode(last.value.as_slice()).unwrap();
    assert_eq!(last.early_header_mutation_name, "host");
    let config = last.early_header_mutation_config.unwrap();
    let config = StringValue::decode(config.value.as_slice()).unwrap().value;
    assert_eq!(config, r#"{"state":{"feed":"f"},"port":8080}"#);
    assert!(last.dynamic_module_config.unwrap().do_not_close);

    // An Envoy that cannot have it gets the listener of an agent without it.
    let plain = fixtures::assembly().set_gateway(parsed_gateway(8080));
    let of = |delta: &Delta| {
        delta.all.upserts.iter().find(|it| it.type_url == LISTENER).cloned().unwrap()
    };
    let listener = of(&delta);
    assert_eq!(*listener.plain.clone().unwrap(), of(&plain));
    assert_eq!(assembly.with_plain(LISTENER, &listener.name), Some(&listener));
    let told: Vec<_> = assembly.plain().map(|it| it.type_url).collect();
    assert_eq!(told, [LISTENER, EXTENSION]);
    assert_eq!(fixtures::assembly().plain().count(), 0);
    // Another setting of the gateway changes both.
    let mut gateway = parsed_gateway(8080);
    gateway.edge.refuse_http10 = true;
    let changed = of(&assembly.set_gateway(gateway.clone()));
    assert_ne!(changed.version, listener.version);
    assert_eq!(*changed.plain.unwrap(), of(&fixtures::assembly().set_gateway(gateway)));
}

#[test]
fn modules_are_told_of_the_hosts_that_have_a_scope() {
    let mut assembly = with_module();
    assembly.set_gateway(parsed_gateway(8080));
    let told = |delta: &Delta| -> Vec<(Place, bool)> {
        let known = |host: &Host| (host.place.clone(), host.gateway.is_some());
        delta.hosts.values().map(known).collect()
    };
    for (id, host) in [("p1", "a.example.com"), ("p2", "*.example.com"), ("p3", "*")] {
        let delta = assembly.set_publish(parsed(&publish(id, host, 1)));
        assert_eq!(told(&delta), [(place(host), true)]);
        let [name] = delta.hosts.keys().collect::<Vec<_>>()[..] else { panic!("{delta:?}") };
        assert_eq!(**name, scope(8080, host));
    }
    let delta = assembly.remove_publish("p2");
    assert_eq!(told(&delta), [(place("*.example.com"), false)]);

    let mut plain = fixtures::assembly();
    plain.set_gateway(parsed_gateway(8080));
    assert!(plain.set_publish(parsed(&publish("p1", "a.example.com", 1))).hosts.is_empty());
}

#[test]
fn a_wildcard_is_served_with_the_module_only() {
    let wildcard = || parsed(&publish("p1", "*.example.com", 1));
    let mut plain = assembly();
    plain.set_gateway(parsed_gateway(8080));
    let delta = plain.set_publish(wildcard());
    assert!(delta.all.upserts.is_empty(), "{delta:?}");
    assert_eq!(plain.misplaced("p1"), Some(&Misplaced::NoModule("*.example.com".into())));

    let mut assembly = with_module();
    assembly.set_gateway(parsed_gateway(8080));
    assembly.set_publish(wildcard());
    assert_eq!(assembly.misplaced("p1"), None);
    assert!(assembly.requirements("p1").is_some());
    assert_eq!(assembly.wildcard_of("p1"), Some("*.example.com"));
    assembly.set_publish(parsed(&publish("p1", "a.example.com", 2)));
    assert_eq!(assembly.wildcard_of("p1"), None);
}

/// An Envoy without the module would compare it as a name.
#[test]
fn a_scope_says_whether_only_the_module_finds_it() {
    let mut assembly = with_module();
    assembly.set_gateway(parsed_gateway(8080));
    for (id, host, is_wildcard) in
        [("p1", "a.example.com", false), ("p2", "*.example.com", true), ("p3", "*", true)]
    {
        let delta = assembly.set_publish(parsed(&publish(id, host, 1)));
        let of = delta.all.upserts.iter().find(|it| it.type_url == SCOPE).unwrap();
        assert_eq!(imp_translate::xds::scope::is_of_a_wildcard(&of.value), is_wildcard, "{host}");
    }
}

#[test]
fn what_others_hold_is_kept_out_of_a_wildcard_while_it_is_served() {
    let mut assembly = with_module();
    assembly.set_gateway(parsed_gateway(8080));
    let keeping_out = |id: &str, revision, hosts: &[&str]| {
        let kept_out_hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
        parsed(&pb::Publish { kept_out_hosts, ..publish(id, "*.example.com", revision) })
    };
    let both = ["team.example.com", "*.team.example.com"];
    let delta = assembly.set_publish(keeping_out("p1", 1, &both));
    let expected = both.map(|host| (place(host), true));
    assert_eq!(delta.kept_out, expected.clone().into_iter().collect());
    assert!(delta.hosts.values().all(|host| host.place == place("*.example.com")));
    // Another publish of the same wildcard says the same.
    let other = pb::Publish { base_path: "/v1".into(), ..publish("p2", "*.example.com", 1) };
    let other = pb::Publish { kept_out_hosts: both.map(str::to_owned).into(), ..other };
    assert!(assembly.set_publish(parsed(&other)).kept_out.values().all(|is_there| *is_there));
    // The same revision with others.
    let delta = assembly.set_publish(keeping_out("p1", 1, &["*.team.example.com"]));
    assert_eq!(delta.kept_out, [(place("team.example.com"), true)].into(), "p2 keeps it out");
    let delta = assembly.remove_publish("p2");
    assert_eq!(
        delta.kept_out,
        [(place("team.example.com"), false), (place("*.team.example.com"), true)].into()
    );
    // The wildcard itself is somebody else's by now.
    let delta = assembly.set_publish(keeping_out("p1", 1, &["*.example.com"]));
    assert_eq!(assembly.misplaced("p1"), Some(&Misplaced::KeptOut("*.example.com".into())));
    assert_eq!(delta.kept_out, [(place("*.team.example.com"), false)].into());
    assert!(delta.hosts.values().all(|host| host.gateway.is_none()));
}
