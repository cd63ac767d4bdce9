//! Envoy silently ignores settings that no filter takes, so every name and type is compared with
//! the table.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use envoy_types::pb::envoy::config::core::v3::TypedExtensionConfig;
use envoy_types::pb::envoy::config::listener::v3 as envoy;
use envoy_types::pb::envoy::config::route::v3::FilterConfig;
use envoy_types::pb::envoy::extensions::filters::http::router::v3::Router;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
use envoy_types::pb::google::protobuf::Any;
use hcm::http_filter::ConfigType;
use imp_translate::xds::filter::{self, Entry};
use imp_translate::xds::{EXTENSION, LISTENER};
use prost::{Message as _, Name as _};

use crate::fixtures::{assembly, parsed_gateway};
use crate::golden;
use crate::resource_set::routes;

/// The chain of a rendered listener.
fn chain() -> Vec<hcm::HttpFilter> {
    let delta = assembly().set_gateway(parsed_gateway(8080));
    let listener = delta.all.upserts.iter().find(|it| it.type_url == LISTENER).unwrap();
    let listener = envoy::Listener::decode(listener.value.clone()).unwrap();
    let config = listener.filter_chains[0].filters[0].config_type.clone();
    let Some(envoy::filter::ConfigType::TypedConfig(manager)) = config else { panic!() };
    hcm::HttpConnectionManager::decode(manager.value.as_slice()).unwrap().http_filters
}

fn names(table: &[Entry]) -> Vec<&str> {
    table.iter().map(|entry| entry.name).collect()
}

/// Checks that every filter has the type of the table, and a slot accepts that type.
fn takes(filters: &[hcm::HttpFilter], table: &[Entry]) {
    let found: Vec<_> = filters.iter().map(|filter| filter.name.as_str()).collect();
    assert_eq!(found, names(table));
    for (filter, entry) in filters.iter().zip(table) {
        let types = match filter.config_type.as_ref().unwrap() {
            ConfigType::TypedConfig(config) => vec![config.type_url.clone()],
            ConfigType::ConfigDiscovery(slot) => slot.type_urls.clone(),
        };
        assert!(types.contains(&entry.config), "{}: {types:?}, not {}", entry.name, entry.config);
    }
}

#[test]
fn the_chain_is_the_table() {
    let table = filter::chain();
    let distinct: BTreeSet<_> = names(&table).into_iter().collect();
    assert_eq!(distinct.len(), table.len(), "a name twice");
    let chain = chain();
    takes(&chain, &table);
    let Some(ConfigType::TypedConfig(router)) = chain.last().unwrap().config_type.clone() else {
        panic!()
    };
    let router = Router::decode(router.value.as_slice()).unwrap();
    takes(&router.upstream_http_filters, &filter::upstream());
}

/// Names of filters with the types of settings that some route has for them.
fn rendered_settings() -> BTreeMap<String, BTreeSet<String>> {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut take = |settings: std::collections::HashMap<String, Any>| {
        for (name, settings) in settings {
            found.entry(name).or_default().insert(settings.type_url);
        }
    };
    for (_, resources) in golden::gateway_resources() {
        routes(&resources).for_each(|route| take(route.typed_per_filter_config));
    }
    found
}

#[test]
fn every_setting_of_a_route_is_one_that_a_filter_of_the_chain_takes() {
    let chain = chain();
    let table = filter::chain();
    let rendered = rendered_settings();
    for (name, types) in &rendered {
        assert!(chain.iter().any(|filter| filter.name == *name), "no filter is called {name}");
        let entry = table.iter().find(|entry| entry.name == name).unwrap();
        let taken: BTreeSet<_> = entry.settings.iter().cloned().collect();
        // Every filter can be switched off.
        let own = types.iter().filter(|of| **of != FilterConfig::type_url()).cloned();
        assert_eq!(own.collect::<BTreeSet<_>>(), taken, "{name}");
    }
    // Those that policies or enforcement are rendered to.
    let found: Vec<_> = rendered.keys().map(String::as_str).collect();
    assert_eq!(found, ["envoy.filters.http.cors", "imp.door", "imp.ip", "imp.open"]);
}

#[test]
fn what_comes_by_ecds_has_a_slot_that_takes_it() {
    let delta = assembly().set_gateway(parsed_gateway(8080));
    let resources: Vec<_> =
        delta.all.upserts.iter().filter(|it| it.type_url == EXTENSION).collect();
    assert!(!resources.is_empty());
    for resource in resources {
        let config = TypedExtensionConfig::decode(resource.value.clone()).unwrap();
        assert_eq!(*config.name, *resource.name);
        let chain = chain();
        let filter = chain.iter().find(|filter| filter.name == config.name).unwrap();
        let Some(ConfigType::ConfigDiscovery(slot)) = &filter.config_type else { panic!() };
        assert!(slot.type_urls.contains(&config.typed_config.unwrap().type_url));
    }
}

/// Finds a filter's name in a literal outside of the table.
fn named_outside(path: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            named_outside(&path, found);
        } else if path.extension().is_some_and(|it| it == "rs") && !path.ends_with("xds/filter.rs")
        {
            let text = std::fs::read_to_string(&path).unwrap();
            let name = |line: &&str| line.contains("\"imp.") || line.contains("\"envoy.filters.");
            found.extend(text.lines().filter(name).map(|it| format!("{}: {it}", path.display())));
        }
    }
}

#[test]
fn no_filter_is_named_outside_of_the_table() {
    let mut found = Vec::new();
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    named_outside(&sources, &mut found);
    assert_eq!(found, Vec::<String>::new());
    assert!(
        std::fs::read_to_string(sources.join("xds/filter.rs")).unwrap().contains("\"imp.door\"")
    );
}
