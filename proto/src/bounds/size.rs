//! Encoded sizes with each policy counted once: without the lists of the former format, which
//! repeat the policies, and without the policy indices of routes, which the former format lacks. So
//! a publish has the same size in either format, and none became larger when the format changed. (A
//! policy that applies to no route counts in the former format only.)

use std::collections::HashSet;

use prost::Message as _;
use prost::encoding::{encoded_len_varint, message, string, uint32};

use crate::config as pb;

/// Field numbers, all but one below 16: one byte of tag.
const PUBLISH_API_SERVICES: u32 = 11;
/// Two bytes of tag.
const PUBLISH_KEPT_OUT_HOSTS: u32 = 30;
const SERVICE_ROUTES: u32 = 3;
const SERVICE_POLICIES: u32 = 5;
const ROUTE_POLICIES: u32 = 11;
const ROUTE_POLICY_INDEXES: u32 = 12;

pub(super) fn publish(publish: &pb::Publish) -> usize {
    let services = &publish.api_services;
    let as_sent = message::encoded_len_repeated(PUBLISH_API_SERVICES, services);
    let counted: usize = services.iter().map(|it| field(service(it))).sum();
    // It grows with what others hold, and has a bound of its own.
    let kept_out = string::encoded_len_repeated(PUBLISH_KEPT_OUT_HOSTS, &publish.kept_out_hosts);
    publish.encoded_len() - as_sent - kept_out + counted
}

pub(super) fn service(service: &pb::ApiService) -> usize {
    let as_sent = message::encoded_len_repeated(SERVICE_ROUTES, &service.routes)
        + message::encoded_len_repeated(SERVICE_POLICIES, &service.policies);
    let counted: usize = service.routes.iter().map(|it| field(route(it))).sum();
    service.encoded_len() - as_sent + counted
}

pub(super) fn route(route: &pb::Route) -> usize {
    route.encoded_len()
        - message::encoded_len_repeated(ROUTE_POLICIES, &route.policies)
        - uint32::encoded_len_packed(ROUTE_POLICY_INDEXES, &route.policy_indexes)
}

fn field(length: usize) -> usize {
    1 + encoded_len_varint(length as u64) + length
}

/// The policies that apply to routes of a service.
#[derive(Default)]
pub(super) struct Policies {
    pub(super) count: usize,
    pub(super) bytes: usize,
}

pub(super) fn policies(service: &pb::ApiService, listed: &[pb::Policy]) -> Policies {
    let indexes = service.routes.iter().flat_map(|route| &route.policy_indexes);
    let distinct: HashSet<u32> = indexes.copied().collect();
    let found = distinct.iter().filter_map(|index| listed.get(usize::try_from(*index).ok()?));
    found.fold(Policies::default(), |all, policy| Policies {
        count: all.count + 1,
        bytes: all.bytes + field(policy.encoded_len()),
    })
}
