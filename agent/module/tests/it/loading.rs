//! What could leave a listener without its door: none of it lets a call through.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::bootstrap::{self, bootstrap as with};
use crate::envoy::{Envoy, eventually, free_port, library, raw, upstream};
use crate::fixtures::{self as of, KEY};

pub(crate) struct Place {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) port: u16,
    pub(crate) upstream: u16,
}

impl Place {
    pub(crate) fn new() -> Self {
        let place = Self {
            directory: tempfile::tempdir().unwrap(),
            port: free_port(),
            upstream: upstream(),
        };
        of::write_snapshot(&place.path("snapshot"), of::everything(&[]));
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn config(&self) -> Value {
        json!({"state": {"snapshot": self.path("snapshot")}})
    }

    pub(crate) fn bootstrap(&self, door: Value) -> Value {
        with(&[bootstrap::listener(self.port, door, &json!({}))], self.upstream, 1)
    }

    pub(crate) fn ask(&self, path: &str, key: Option<&str>) -> Option<u16> {
        let key = key.map_or(String::new(), |key| format!("x-api-key: {key}\r\n"));
        let request = format!("GET {path} HTTP/1.1\r\nhost: a.test\r\n{key}\r\n");
        raw(self.port, request.as_bytes()).map(|answer| answer.status)
    }

    /// Envoy does not start with this door.
    pub(crate) fn refuses(&self, door: Value, why: &str) {
        let mut envoy = Envoy::spawn(&self.bootstrap(door), &["--concurrency", "1"]);
        assert_eq!(envoy.ended(), Some(1), "{}", envoy.log());
        assert!(envoy.log().contains(why), "{why}: {}", envoy.log());
    }
}

/// A module of other code, made by the C compiler.
fn other_module(place: &Place, name: &str, code: &str) -> PathBuf {
    let (source, library) = (place.path(&format!("{name}.c")), place.path(&format!("{name}.so")));
    std::fs::write(&source, code).unwrap();
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source);
    assert!(compiler.status().unwrap().success());
    library
}

#[test]
fn without_its_module_an_envoy_does_not_start() {
    let place = Place::new();
    let door = |library: &Path| bootstrap::door(library, "door", &place.config());
    place.refuses(door(Path::new("missing.so")), "missing.so");
    let code = "const char* envoy_dynamic_module_on_program_init(void) { return 0; }";
    place.refuses(door(&other_module(&place, "unwilling", code)), "initialize");
    // Another version of the ABI is only a warning; that its functions are missing is not.
    let code = "const char* envoy_dynamic_module_on_program_init(void) { return \"v9.9.9\"; }";
    place.refuses(door(&other_module(&place, "foreign", code)), "v9.9.9");
    std::fs::write(place.path("text.so"), "no library").unwrap();
    place.refuses(door(&place.path("text.so")), "text.so");
}

#[test]
fn a_configuration_that_the_module_refuses_stops_envoy() {
    let place = Place::new();
    let door = |name: &str, config: Value| bootstrap::door(&library(), name, &config);
    place.refuses(door("door", json!({"state": {}, "gatway": "g"})), "unknown field `gatway`");
    place.refuses(door("window", place.config()), "no \"window\" is known");
    place.refuses(door("door", json!(7)), "invalid type");
}

#[test]
fn a_route_cannot_be_configured_beside_its_metadata() {
    let place = Place::new();
    let mut bootstrap = place.bootstrap(bootstrap::door(&library(), "door", &place.config()));
    let manager = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config";
    let routes = format!("{manager}/route_config/virtual_hosts/0/routes");
    let per_route = |bootstrap: &mut Value, config: Value| {
        let route = &mut bootstrap.pointer_mut(&routes).unwrap()[0];
        route["typed_per_filter_config"]["imp.door"] = config;
    };
    let package = "type.googleapis.com/envoy.extensions.filters.http";
    per_route(
        &mut bootstrap,
        json!({
        "@type": format!("{package}.dynamic_modules.v3.DynamicModuleFilterPerRoute"),
        "dynamic_module_config": bootstrap::module(&library()), "filter_name": "door"}),
    );
    let mut envoy = Envoy::spawn(&bootstrap, &[]);
    assert_eq!(envoy.ended(), Some(1), "{}", envoy.log());
    // Envoy ignores a configuration of another type: the module never reads it, and decides.
    per_route(&mut bootstrap, json!({"@type": format!("{package}.cors.v3.CorsPolicy")}));
    let _envoy = Envoy::start(&bootstrap, 1);
    assert_eq!(place.ask("/closed", None), Some(401));
    assert_eq!(place.ask("/closed", Some(KEY)), Some(200));
}

#[test]
fn a_bad_door_by_ecds_is_closed_and_a_later_one_does_not_replace_a_good_one() {
    let place = Place::new();
    let file = place.path("door.json");
    bootstrap::write_extension(
        &file,
        &bootstrap::door(Path::new("missing.so"), "door", &place.config()),
    );
    let envoy = Envoy::start(&place.bootstrap(bootstrap::discovered(&file)), 1);
    for path in ["/closed", "/open", "/nobodys"] {
        let status = eventually("an answer", || place.ask(path, Some(KEY)));
        assert_eq!(status, 500, "{path}");
    }
    let good = bootstrap::door(&library(), "door", &place.config());
    bootstrap::write_extension(&file, &good);
    eventually("the module's door", || (place.ask("/open", None) == Some(200)).then_some(()));
    let failures = || envoy.counters("(config_fail|update_rejected)$");
    for bad in [
        bootstrap::door(Path::new("missing.so"), "door", &place.config()),
        bootstrap::door(&library(), "door", &json!({"state": {}, "gate": 1})),
        bootstrap::door(&library(), "door", &json!({"state": {"snapshot": "elsewhere"}})),
    ] {
        let before = failures();
        bootstrap::write_extension(&file, &bad);
        eventually("a refusal", || (failures() > before).then_some(()));
        assert_eq!(place.ask("/closed", None), Some(401), "{bad}");
        assert_eq!(place.ask("/closed", Some(KEY)), Some(200), "{bad}");
    }
}

#[test]
fn without_a_state_nothing_passes() {
    let place = Place::new();
    let whole = std::fs::read(place.path("snapshot")).unwrap();
    let torn = |bytes: &[u8]| std::fs::write(place.path("snapshot"), bytes).unwrap();
    let mut damaged = whole.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    for content in [None, Some(&whole[..whole.len() - 1]), Some(&damaged[..]), Some(b"IMPSNAP1")] {
        match content {
            None => std::fs::remove_file(place.path("snapshot")).unwrap(),
            Some(bytes) => torn(bytes),
        }
        let envoy =
            Envoy::start(&place.bootstrap(bootstrap::door(&library(), "door", &place.config())), 1);
        for path in ["/closed", "/open", "/nobodys"] {
            assert_eq!(place.ask(path, Some(KEY)), Some(503), "{path}: {}", envoy.log());
        }
    }
}

#[test]
fn a_library_under_the_name_of_its_content_is_loaded() {
    let directory = tempfile::tempdir().unwrap();
    let file = imp_module::file::ModuleFile::install(&library(), directory.path()).unwrap();
    assert_eq!(file.abi, imp_module::VERSION);
    assert_eq!(file.release, env!("CARGO_PKG_VERSION"));
    let place = Place::new();
    let door = bootstrap::door(&file.path, "door", &place.config());
    let _envoy = Envoy::start(&place.bootstrap(door), 1);
    assert_eq!(place.ask("/closed", Some(KEY)), Some(200));
}
