//! Ways of Envoy's own by which a call could pass without a decision, or be told the wrong thing.
//! `loading` has those of a library or a configuration that is not there.

use std::path::Path;

use imp_module::file::ModuleFile;
use serde_json::{Value, json};

use crate::bootstrap::{self, bootstrap as with};
use crate::envoy::{Envoy, eventually, library, raw};
use crate::fixtures::{self as of, KEY};
use crate::loading::Place;

const PACKAGE: &str = "type.googleapis.com/envoy.extensions.filters.http";

/// The filters of the first listener.
fn filters(bootstrap: &mut Value) -> &mut Vec<Value> {
    let filters =
        "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config/http_filters";
    bootstrap.pointer_mut(filters).unwrap().as_array_mut().unwrap()
}

/// The module's filter with a library that Envoy fetches.
fn fetched(place: &Place, sha256: &str, closes: bool) -> Value {
    let mut door = bootstrap::door(&library(), "door", &place.config());
    let uri = json!({"uri": "http://a.test/libimp.so", "cluster": "upstream", "timeout": "1s"});
    door["typed_config"]["dynamic_module_config"] = json!({
        "module": {"remote": {"http_uri": uri, "sha256": sha256}},
        "do_not_close": true, "nack_on_cache_miss": closes});
    door
}

/// Envoy leaves the filter out, and opens the listener. So the agent names local files only
/// (`agent/translate/src/xds/door.rs`), and this test says why.
#[test]
fn a_library_that_envoy_fetches_leaves_the_listener_open() {
    let place = Place::new();
    let sha256 = ModuleFile::read(&library()).unwrap().sha256;
    // The upstream has no library, and a second attempt does not help.
    let _envoy = Envoy::start(&place.bootstrap(fetched(&place, &sha256, false)), 1);
    assert_eq!(place.ask("/closed", None), Some(200), "this Envoy is safer: say so in the docs");
}

#[test]
fn a_slot_that_stays_empty_or_has_another_type_is_closed() {
    let place = Place::new();
    let file = place.path("door.json");
    std::fs::write(&file, json!({"resources": []}).to_string()).unwrap();
    let envoy = Envoy::start(&place.bootstrap(bootstrap::discovered(&file)), 1);
    let all = ["/closed", "/open", "/nobodys", "/was-closed"];
    let closed = || all.iter().all(|path| place.ask(path, Some(KEY)) == Some(500));
    eventually("nothing passes", || closed().then_some(()));
    // A filter that would pass everything, of a type that the slot does not take.
    let passes =
        json!({"name": "imp.door", "typed_config": {"@type": format!("{PACKAGE}.cors.v3.Cors")}});
    bootstrap::write_extension(&file, &passes);
    let refused = || envoy.counters("(config_fail|update_rejected)$") > 0;
    eventually("a refusal", || refused().then_some(()));
    assert!(closed(), "{}", envoy.log());
    // One that comes and goes leaves what was there.
    bootstrap::write_extension(&file, &bootstrap::door(&library(), "door", &place.config()));
    eventually("the module's door", || (place.ask("/open", None) == Some(200)).then_some(()));
    let draft = place.path("draft");
    std::fs::write(&draft, json!({"resources": []}).to_string()).unwrap();
    std::fs::rename(draft, &file).unwrap();
    std::thread::park_timeout(std::time::Duration::from_millis(300));
    assert_eq!(place.ask("/closed", None), Some(401), "{}", envoy.log());
}

/// An answer with a body that a module gives becomes `grpc-status: 0`.
#[test]
fn no_refusal_is_a_success_of_grpc() {
    let place = Place::new();
    let grpc = |path: &str, key: &str| {
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: a.test\r\ncontent-type: application/grpc+proto\r\n\
             x-api-key: {key}\r\n\r\n"
        );
        let answer = raw(place.port, request.as_bytes()).unwrap();
        let status = answer.header("grpc-status").unwrap_or("none").to_owned();
        (answer.status, status)
    };
    let refused = |status: &str| (200, status.to_owned());
    {
        let door = bootstrap::door(&library(), "door", &place.config());
        let _envoy = Envoy::start(&place.bootstrap(door), 1);
        assert_eq!(grpc("/closed", "imp_unknown"), refused("16"));
        assert_eq!(grpc("/closed", of::SUSPENDED), refused("7"));
        assert_eq!(grpc("/nothing", KEY), refused("7"));
        assert_eq!(grpc("/nobodys", KEY), refused("7"));
        assert_eq!(grpc("/suspended", KEY), refused("14"));
        assert_eq!(grpc("/none", KEY), refused("12"));
        let limited: Vec<_> = (0..4).map(|_| grpc("/closed", of::LIMITED).1).collect();
        assert_eq!(limited, ["none", "none", "none", "8"]);
    }
    std::fs::remove_file(place.path("snapshot")).unwrap();
    let door = bootstrap::door(&library(), "door", &place.config());
    let _envoy = Envoy::start(&place.bootstrap(door), 1);
    assert_eq!(grpc("/closed", KEY), refused("14"));
}

/// A filter that sends the call elsewhere, and makes Envoy look for another route.
fn elsewhere(from: &str, to: &str) -> Value {
    let code = format!(
        "function envoy_on_request(handle)\n if handle:headers():get(':path') == '{from}' then\n \
         handle:headers():replace(':path', '{to}')\n handle:clearRouteCache()\n end\nend"
    );
    json!({"name": "elsewhere", "typed_config": {"@type": format!("{PACKAGE}.lua.v3.Lua"),
        "default_source_code": {"inline_string": code}}})
}

/// The door judges the call by the route that it has then. It cannot do more: a route that switches it
/// off has left it out before, and what is behind it comes later. So no listener of the agent's
/// has a filter that clears the route cache (`agent/translate/tests/it/golden.rs`).
#[test]
fn a_cleared_route_cache_before_the_door_is_judged_by_the_new_route() {
    let place = Place::new();
    let mut bootstrap = place.bootstrap(bootstrap::door(&library(), "door", &place.config()));
    filters(&mut bootstrap).insert(0, elsewhere("/open", "/closed"));
    filters(&mut bootstrap).insert(0, elsewhere("/was-closed", "/none"));
    filters(&mut bootstrap).insert(0, elsewhere("/off", "/closed"));
    let _envoy = Envoy::start(&bootstrap, 1);
    assert_eq!(place.ask("/open", None), Some(401));
    assert_eq!(place.ask("/open", Some(KEY)), Some(200));
    assert_eq!(place.ask("/was-closed", Some(KEY)), Some(404));
    assert_eq!(place.ask("/off", None), Some(200), "this Envoy is safer: say so in the docs");
}

/// A redirect that Envoy follows itself begins with a call whose key has been taken out.
#[test]
fn an_internal_redirect_has_no_key_any_more() {
    let place = Place::new();
    let upstream = redirecting();
    let door = bootstrap::door(&library(), "door", &place.config());
    let mut bootstrap = with(&[bootstrap::listener(place.port, door, &json!({}))], upstream, 1);
    let routes = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config/route_config/virtual_hosts/0/routes";
    for route in bootstrap.pointer_mut(routes).unwrap().as_array_mut().unwrap() {
        if let Some(action) = route.get_mut("route") {
            action["internal_redirect_policy"] = json!({"redirect_response_codes": [302]});
        }
    }
    let _envoy = Envoy::start(&bootstrap, 1);
    assert_eq!(place.ask("/closed", Some(KEY)), Some(401));
    assert_eq!(place.ask("/open", None), Some(401), "the target is judged, not the origin");
}

/// An upstream that sends everything on to `/closed/target`, and answers there.
fn redirecting() -> u16 {
    use std::io::{Read as _, Write as _};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            std::thread::spawn(move || {
                let mut buffer = [0; 8192];
                while let Ok(read @ 1..) = stream.read(&mut buffer) {
                    let answer: &[u8] = if buffer[..read].starts_with(b"GET /closed/target") {
                        b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
                    } else {
                        b"HTTP/1.1 302 Found\r\nlocation: http://a.test/closed/target\r\ncontent-length: 0\r\n\r\n"
                    };
                    if stream.write_all(answer).is_err() {
                        return;
                    }
                }
            });
        }
    });
    port
}

/// What runs is what was loaded: a file that is exchanged under the same name changes nothing, not
/// even by a new configuration. So a library has the name of its content.
#[test]
fn a_library_that_is_exchanged_under_its_name_is_not_loaded_again() {
    let place = Place::new();
    let (file, own) = (place.path("door.json"), place.path("own.so"));
    std::fs::copy(library(), &own).unwrap();
    let door = |path: &Path| bootstrap::door(path, "door", &place.config());
    bootstrap::write_extension(&file, &door(&own));
    let envoy = Envoy::start(&place.bootstrap(bootstrap::discovered(&file)), 1);
    eventually("the module's door", || (place.ask("/open", None) == Some(200)).then_some(()));
    let draft = place.path("draft");
    std::fs::write(&draft, "no library").unwrap();
    std::fs::rename(draft, &own).unwrap();
    // Another configuration for the same file.
    let mut again = door(&own);
    again["typed_config"]["filter_config"]["value"] = json!(
        json!({"state": {"snapshot": place.path("snapshot")}, "gateway": "gateway"}).to_string()
    );
    bootstrap::write_extension(&file, &again);
    // It acts: a publish of another gateway is refused now.
    eventually("the new one", || (place.ask("/elsewhere", None) == Some(403)).then_some(()));
    assert_eq!(place.ask("/closed", None), Some(401), "{}", envoy.log());
    assert_eq!(place.ask("/closed", Some(KEY)), Some(200), "{}", envoy.log());
    assert_eq!(envoy.log().matches("Dynamic module ABI version").count(), 1, "{}", envoy.log());
}
