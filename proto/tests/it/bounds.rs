//! A publish is limited by its caps, on both sides equally.

use imp_grammar::caps::{self, Cap};
use imp_proto::bounds;
use imp_proto::config::{self as pb, path_match, policy, value_match};
use prost::Message as _;

fn endpoint() -> pb::Endpoint {
    pb::Endpoint { host: "up.example.com".into(), port: 80, weight: 1 }
}

fn backend(endpoints: usize) -> pb::Backend {
    pb::Backend { endpoints: vec![endpoint(); endpoints], ..Default::default() }
}

fn regex_route(expressions: usize) -> pb::Route {
    let path = pb::PathMatch { kind: Some(path_match::Kind::Regex("/a".into())) };
    let rule = |i: usize| pb::ValueMatch {
        name: format!("h{i}"),
        kind: Some(value_match::Kind::Regex("a".into())),
    };
    pb::Route {
        path: Some(path),
        headers: (1..expressions).map(rule).collect(),
        ..Default::default()
    }
}

fn headers(set: usize, value: usize) -> pb::Policy {
    let header = |i: usize| pb::Header { name: format!("x-{i}"), value: "v".repeat(value) };
    let headers = pb::Headers { set: (0..set).map(header).collect(), ..Default::default() };
    pb::Policy { kind: Some(policy::Kind::RequestHeaders(headers)), ..Default::default() }
}

fn publish(services: Vec<pb::ApiService>) -> pb::Publish {
    pb::Publish { hostnames: vec!["a".into()], api_services: services, ..Default::default() }
}

#[track_caller]
fn ends_at(cap: &Cap, at: &str, make: impl Fn(usize) -> pb::Publish) {
    assert_eq!(bounds::publish(&make(cap.size())).map(drop), Ok(()), "{}", cap.name);
    let exceeded = bounds::publish(&make(cap.size() + 1)).unwrap_err();
    assert_eq!((exceeded.cap.name, &*exceeded.at), (cap.name, at));
    assert_eq!(exceeded.found, cap.size() + 1);
}

/// Spreads `total` over as many services as the caps of one service need.
fn spread(total: usize, most: usize, make: impl Fn(usize) -> pb::ApiService) -> pb::Publish {
    let full = (0..total / most).map(|_| make(most));
    let rest = (!total.is_multiple_of(most)).then(|| make(total % most));
    publish(full.chain(rest).collect())
}

#[test]
fn each_list_of_a_publish_ends_at_its_cap() {
    let routes = |n| pb::ApiService { routes: vec![pb::Route::default(); n], ..Default::default() };
    ends_at(&caps::ROUTES_PER_PUBLISH, "api_services", |n| spread(n, 1000, routes));
    let regexes = |n| pb::ApiService { routes: vec![regex_route(1); n], ..Default::default() };
    ends_at(&caps::REGEXES_PER_PUBLISH, "api_services", |n| spread(n, 64, regexes));
    let endpoints = |n| pb::ApiService { backends: vec![backend(n)], ..Default::default() };
    ends_at(&caps::ENDPOINTS_PER_PUBLISH, "api_services", |n| spread(n, 250, endpoints));
    let empty = |_| pb::ApiService::default();
    ends_at(&caps::SERVICES_PER_PUBLISH, "api_services", |n| spread(n, 1, empty));
    ends_at(&caps::HOSTNAMES_PER_PUBLISH, "hostnames", |n| pb::Publish {
        hostnames: vec!["a".into(); n],
        ..Default::default()
    });
}

#[test]
fn hosts_that_are_kept_out_end_at_their_cap() {
    let keeping_out = |n| pb::Publish {
        kept_out_hosts: vec![format!("*.{}", "a".repeat(60)); n],
        ..Default::default()
    };
    ends_at(&caps::KEPT_OUT_HOSTS_PER_PUBLISH, "kept_out_hosts", keeping_out);
    // What others hold makes no publish too large, however little is left of its size.
    let route = pb::Route { name: "a".repeat(1_000), ..Default::default() };
    let service = pb::ApiService { routes: vec![route; 400], ..Default::default() };
    let services = vec![service; caps::PUBLISH_BYTES.size() / 400 / 1_010];
    let nearly = pb::Publish { api_services: services, ..keeping_out(0) };
    assert!(bounds::publish(&nearly).is_ok() && nearly.encoded_len() > 700 << 10);
    let list = keeping_out(caps::KEPT_OUT_HOSTS_PER_PUBLISH.size()).kept_out_hosts;
    assert!(list.len() * 62 > caps::PUBLISH_BYTES.size() - nearly.encoded_len());
    assert!(bounds::publish(&pb::Publish { kept_out_hosts: list, ..nearly }).is_ok());
}

#[test]
fn each_list_of_a_service_ends_at_its_cap() {
    let of = |service: pb::ApiService| publish(vec![service]);
    let at = |place: &str| format!("api_services/0/{place}");
    let service = pb::ApiService::default;
    ends_at(&caps::ROUTES_PER_SERVICE, &at("routes"), |n| {
        of(pb::ApiService { routes: vec![pb::Route::default(); n], ..service() })
    });
    ends_at(&caps::BACKENDS_PER_SERVICE, &at("backends"), |n| {
        of(pb::ApiService { backends: vec![backend(1); n], ..service() })
    });
    ends_at(&caps::ENDPOINTS_PER_BACKEND, &at("backends/0/endpoints"), |n| {
        of(pb::ApiService { backends: vec![backend(n)], ..service() })
    });
    ends_at(&caps::POLICIES_PER_SERVICE, &at("policies"), |n| {
        let route = pb::Route { policy_indexes: (0..n as u32).collect(), ..Default::default() };
        let policies = vec![pb::Policy::default(); n];
        pb::Publish { policies, ..of(pb::ApiService { routes: vec![route], ..service() }) }
    });
    ends_at(&caps::REGEXES_PER_SERVICE, &at("routes"), |n| {
        of(pb::ApiService { routes: vec![regex_route(1); n], ..service() })
    });
    ends_at(&caps::HEADERS_PER_POLICY, "policies/0", |n| pb::Publish {
        policies: vec![headers(n, 1)],
        ..of(service())
    });
    let route = |route: pb::Route| of(pb::ApiService { routes: vec![route], ..service() });
    ends_at(&caps::METHODS_PER_ROUTE, &at("routes/0/methods"), |n| {
        route(pb::Route { methods: vec!["GET".into(); n], ..Default::default() })
    });
    ends_at(&caps::MATCHERS_PER_ROUTE, &at("routes/0/headers"), |n| {
        let rules = vec![pb::ValueMatch::default(); n - 3];
        let query = vec![pb::ValueMatch::default(); 3];
        route(pb::Route { headers: rules, query, ..Default::default() })
    });
    ends_at(&caps::BACKENDS_PER_ROUTE, &at("routes/0/backends"), |n| {
        route(pb::Route { backends: vec![pb::WeightedBackend::default(); n], ..Default::default() })
    });
}

#[test]
fn a_gateway_ends_at_its_listeners() {
    let with =
        |n| pb::Gateway { listeners: vec![pb::Listener::default(); n], ..Default::default() };
    let cap = &caps::LISTENERS_PER_GATEWAY;
    assert_eq!(bounds::gateway(&with(cap.size())), Ok(()));
    assert_eq!(bounds::gateway(&with(cap.size() + 1)).unwrap_err().cap, cap);
}

#[test]
fn the_bytes_of_services_and_publishes_are_bounded() {
    let service = |bytes: usize| {
        let mut service = pb::ApiService { name: "n".repeat(bytes), ..Default::default() };
        service.name.truncate(2 * bytes - service.encoded_len());
        assert_eq!(service.encoded_len(), bytes);
        service
    };
    let most = caps::SERVICE_BYTES.size();
    ends_at(&caps::SERVICE_BYTES, "api_services/0", |n| publish(vec![service(n)]));
    ends_at(&caps::PUBLISH_BYTES, "", |n| {
        let mut whole = publish(vec![service(most); n / most - 1]);
        let left = n - whole.encoded_len();
        whole.api_services.push(service(left - 4));
        assert_eq!(whole.encoded_len(), n);
        whole
    });
}

/// Envoy has no policy per service: its headers are repeated on each route, and each host has all
/// routes.
#[test]
fn what_a_gateway_would_hold_of_a_publish_is_bounded() {
    let make = |routes: usize, hosts: usize| {
        let mut publish = publish(vec![pb::ApiService {
            routes: vec![pb::Route::default(); routes],
            policies: vec![headers(64, 1000)],
            ..Default::default()
        }]);
        publish.hostnames = vec!["a".into(); hosts];
        publish
    };
    let policy = 512 + headers(64, 1000).encoded_len() + 64 * 128;
    let share = bounds::publish(&make(10, 2)).unwrap();
    assert_eq!(share, bounds::Share { served_bytes: 2 * 10 * policy, ..Default::default() });
    let cap = &caps::PUBLISH_SERVED_BYTES;
    let fits = cap.size() / policy;
    let check = |publish| bounds::publish(&publish).and_then(bounds::Share::check);
    assert!(check(make(fits, 1)).is_ok());
    assert_eq!(check(make(fits + 1, 1)).unwrap_err().cap, cap);
    assert_eq!(check(make(fits / 32 + 1, 32)).unwrap_err().cap, cap);
    // A route's own policy replaces the service's.
    let own = headers(1, 1); // weighs 128 and its text
    let mut replaced = make(1, 1);
    let route = 512 + own.encoded_len() + 128;
    replaced.api_services[0].routes[0].policies = vec![own];
    assert_eq!(bounds::publish(&replaced).unwrap().served_bytes, route);
    // A route that names its methods adds one route for the others, and one for preflights.
    let mut asked = make(1, 1);
    let cors = pb::Cors { allow_origins: vec!["*".into()], ..Default::default() };
    let cors = pb::Policy { id: "c".into(), kind: Some(pb::policy::Kind::Cors(cors)) };
    asked.api_services[0].policies = vec![cors.clone()];
    let bare = 512 + cors.encoded_len() + 128;
    assert_eq!(bounds::publish(&asked).unwrap().served_bytes, bare);
    asked.api_services[0].routes[0].methods = vec!["GET".into()];
    let method = asked.api_services[0].routes[0].encoded_len();
    assert_eq!(bounds::publish(&asked).unwrap().served_bytes, 2 * (bare + method) + 256);
    // Bare routes count, too: on many hosts they are many.
    let mut bare = make(0, 32);
    bare.api_services[0].policies.clear();
    bare.api_services[0].routes = vec![pb::Route::default(); 1500];
    assert_eq!(check(bare.clone()).unwrap_err().cap, cap);
    bare.hostnames.truncate(5);
    assert!(check(bare).is_ok());
}

/// Envoy's compiled form is larger than their text.
#[test]
fn expressions_and_authorities_weigh_more_than_their_text() {
    let weighs = |change: &dyn Fn(&mut pb::ApiService)| {
        let mut service =
            pb::ApiService { routes: vec![pb::Route::default()], ..Default::default() };
        service.backends = vec![pb::Backend::default()];
        change(&mut service);
        let text = service.routes[0].encoded_len() + service.backends[0].encoded_len();
        bounds::publish(&publish(vec![service])).unwrap().served_bytes - 512 - text
    };
    let rewrite = |path: &str, strip_base_path: bool| {
        let rewrite = pb::Rewrite { path: path.into(), strip_base_path, ..Default::default() };
        move |service: &mut pb::ApiService| service.routes[0].rewrite = Some(rewrite.clone())
    };
    assert_eq!(weighs(&|_| {}), 0);
    assert_eq!(weighs(&rewrite("/a", false)), 0);
    assert_eq!(weighs(&rewrite("/{a}", false)), 1_024);
    assert_eq!(weighs(&rewrite("", true)), 256);
    let kind = Some(pb::value_match::Kind::Exact("12345".into()));
    let condition = pb::ValueMatch { name: "abc".into(), kind };
    assert_eq!(weighs(&|it| it.routes[0].query = vec![condition.clone()]), 8 * 128);
    assert_eq!(weighs(&|it| it.backends[0].tls = Some(pb::UpstreamTls::default())), 64 * 1_024);
}

/// Every Envoy checks each of these endpoints, even without calls, so the API bounds them. Agents still
/// serve what was accepted before.
#[test]
fn checked_endpoints_weigh_and_end_at_their_cap() {
    let checked = |endpoints: usize| pb::Backend {
        health_check: Some(pb::HealthCheck::default()),
        ..backend(endpoints)
    };
    let of = |backends: Vec<pb::Backend>| {
        bounds::publish(&publish(vec![pb::ApiService { backends, ..Default::default() }])).unwrap()
    };
    let text = checked(3).encoded_len() - backend(3).encoded_len();
    let weight = of(vec![checked(3)]).served_bytes - of(vec![backend(3)]).served_bytes;
    assert_eq!(weight, text + 3 * 8 * 1_024);
    let cap = &caps::CHECKED_ENDPOINTS_PER_PUBLISH;
    let spread = |total: usize| of(vec![checked(10), checked(total - 10), backend(100)]);
    assert!(spread(cap.size()).check().is_ok());
    let exceeded = spread(cap.size() + 1).check().unwrap_err();
    assert_eq!((exceeded.cap, exceeded.found), (cap, cap.size() + 1));
}

/// What an API with looser rules accepted, the next release's agents serve on.
#[test]
fn an_agent_takes_more_of_a_publish_than_the_api_accepts() {
    let routes = |routes: usize| pb::ApiService {
        routes: vec![pb::Route::default(); routes],
        policies: vec![headers(64, 1)],
        ..Default::default()
    };
    let mut large = publish(vec![routes(800)]);
    large.hostnames = vec!["a".into(); 32];
    let share = bounds::publish(&large).unwrap();
    assert!(share.check().is_err());
    large.api_services = vec![routes(1500); 2];
    assert_eq!(bounds::publish(&large).unwrap_err().cap, &caps::PUBLISH_HELD_BYTES);
}
