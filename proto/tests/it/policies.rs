//! The policies of a publish, in the current and the former format.

use std::borrow::Cow;

use imp_proto::config::{self as pb, policy::Kind};
use imp_proto::{bounds, policies};
use prost::Message as _;

fn rate(id: &str, requests: u64) -> pb::Policy {
    let rate = pb::RateLimit { requests, window_seconds: 60 };
    pb::Policy { id: id.into(), kind: Some(Kind::RateLimit(rate)) }
}

fn headers(id: &str) -> pb::Policy {
    let headers = pb::Headers { remove: vec!["x-a".into()], ..Default::default() };
    pb::Policy { id: id.into(), kind: Some(Kind::RequestHeaders(headers)) }
}

fn service(policies: Vec<pb::Policy>, routes: &[&[pb::Policy]]) -> pb::ApiService {
    let route = |own: &&[pb::Policy]| pb::Route { policies: own.to_vec(), ..Default::default() };
    pb::ApiService { policies, routes: routes.iter().map(route).collect(), ..Default::default() }
}

fn effective(publish: &pb::Publish) -> Vec<Vec<&str>> {
    let routes = publish.api_services.iter().flat_map(|service| &service.routes);
    let of_route = |route| {
        let found = policies::of_route(&publish.policies, route);
        found.map(|policy| policy.map_or("?", |policy| policy.id.as_str())).collect()
    };
    routes.map(of_route).collect()
}

#[test]
fn what_a_former_control_plane_sends_is_resolved_type_by_type() {
    let first = service(
        vec![rate("slow", 5), headers("clean"), rate("ignored", 9)],
        &[&[], &[rate("slower", 1)], &[headers("own"), headers("ignored-too")]],
    );
    // The same ids, in a copied service: other policies, with counts of their own.
    let second = service(vec![rate("slow", 7)], &[&[], &[]]);
    let former = pb::Publish { api_services: vec![first, second], ..Default::default() };
    let present = policies::present(&former);
    let expected = [
        vec!["slow", "clean"],
        vec!["slower", "clean"],
        vec!["own", "slow"],
        vec!["slow-2"],
        vec!["slow-2"],
    ];
    assert_eq!(effective(&present), expected);
    assert!(present.api_services.iter().all(|service| service.policies.is_empty()));
    assert_eq!(
        present.policies.iter().find(|it| it.id == "slow-2").unwrap().kind,
        rate("", 7).kind
    );
}

#[test]
fn policies_of_one_id_get_numbers_in_time_that_grows_with_how_many_they_are() {
    let mut list = policies::List::default();
    list.push(rate("r-3", 1));
    for _ in 0..100_000 {
        list.push(rate("r", 1));
    }
    let all = list.finish();
    let ids: Vec<_> = all.iter().take(5).map(|policy| policy.id.as_str()).collect();
    assert_eq!(ids, ["r-3", "r", "r-2", "r-4", "r-5"]);
    let distinct: std::collections::HashSet<_> = all.iter().map(|policy| &policy.id).collect();
    assert_eq!(distinct.len(), all.len());
}

#[test]
fn what_is_resolved_already_is_not_resolved_again() {
    let mut both = service(vec![rate("former", 5)], &[&[rate("former-too", 1)]]);
    both.routes[0].policy_indexes = vec![0, 7];
    let policies = vec![rate("present", 5)];
    let both = pb::Publish { policies, api_services: vec![both], ..Default::default() };
    let present = policies::present(&both);
    assert!(matches!(present, Cow::Borrowed(_)));
    assert_eq!(effective(&present), [["present", "?"]]);
}

/// Nothing that was accepted before the format changed is larger in it, and both formats together
/// count once.
#[test]
fn a_publish_counts_the_same_in_either_form_and_in_both() {
    let own: Vec<_> = (0..200).map(|i| vec![headers(&format!("own-{i}"))]).collect();
    let routes: Vec<&[pb::Policy]> = own.iter().map(Vec::as_slice).collect();
    let former = service(vec![rate("slow", 5)], &routes);
    let former = pb::Publish { api_services: vec![former], ..Default::default() };
    let present = policies::present(&former).into_owned();
    let mut both = present.clone();
    for (to, from) in both.api_services.iter_mut().zip(&former.api_services) {
        to.policies.clone_from(&from.policies);
        for (to, from) in to.routes.iter_mut().zip(&from.routes) {
            to.policies.clone_from(&from.policies);
        }
    }
    let share = bounds::publish(&former).unwrap();
    assert_eq!(bounds::publish(&present).unwrap(), share);
    assert_eq!(bounds::publish(&both).unwrap(), share);
    // The bytes that are counted: fill it up to the cap in the former format.
    let cap = imp_grammar::caps::PUBLISH_BYTES.size();
    let mut full = [former, present, both];
    let most = cap - full[0].encoded_len() - 4;
    for publish in &mut full {
        publish.tenant_id = "t".repeat(most);
        assert!(bounds::publish(publish).is_ok());
    }
    // The three have the same size, to the byte.
    let over = |publish: &pb::Publish| {
        let more = pb::Publish { tenant_id: "t".repeat(cap), ..publish.clone() };
        bounds::publish(&more).unwrap_err().found
    };
    assert_eq!(over(&full[1]), over(&full[2]));
    assert!(over(&full[1]) <= full[0].encoded_len() + cap - most);
}

#[test]
fn each_type_has_its_name() {
    for kind in [rate("r", 1).kind, headers("h").kind] {
        assert!(policies::TYPES.contains(&policies::type_name(&kind.unwrap())));
    }
}
