//! Tables of routes (RouteConfigurations): those that hosts share, named by their content, and the whole
//! one of a port in the layout for comparison.

use std::collections::HashMap;

use bytes::Bytes;
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::route::v3 as envoy;
use envoy_types::pb::google::protobuf as google;
use prost::Message;

use super::canon::truth;
use super::content::{Content, Key};
use super::names::{KEY_HOST, KEY_PORT, Short};
use super::{ROUTES, Rendered, host, names};

/// The table that hosts with these publishes share. Its name never has another content, so a
/// table does not change.
pub(crate) fn shared(key: &Key, members: &[&Content]) -> (Short, Rendered) {
    let hosts = Hosts::one(members);
    let content = [key.bytes(), &hosts.with(&without_hosts(String::new()))].concat();
    let short = Short::of(&content);
    let name = names::table(short);
    let bytes = hosts.with(&without_hosts(name.clone()));
    (short, Rendered::new(ROUTES, name, bytes))
}

/// All hosts of a port in one RouteConfiguration, as (host, publishes).
pub(crate) fn whole(port: u16, hosts: &[(&str, Vec<&Content>)]) -> Rendered {
    let virtual_hosts = hosts
        .iter()
        .map(|(host, members)| host::render((*host).to_owned(), host, members, host::Trace::Refuse))
        .collect();
    let name = names::routes(port);
    let bytes = Hosts { virtual_hosts }.with(&without_hosts(name.clone()));
    Rendered::new(ROUTES, name, bytes)
}

/// A table without its hosts.
pub(super) fn without_hosts(name: String) -> envoy::RouteConfiguration {
    envoy::RouteConfiguration {
        name,
        // Clusters are sent first, but a route must not be rejected because of the order of
        // arrival.
        validate_clusters: truth(false),
        ignore_port_in_host_matching: true,
        // Removals here come first, so that a policy may still set a key of its own for the
        // upstream. They are not the listener's: the replies to calls without a route need the host's key,
        // and connections that an upgrade drains have the former listener.
        most_specific_header_mutations_wins: true,
        request_headers_to_remove: [KEY_PORT, KEY_HOST, super::door::KEY_HEADER]
            .map(str::to_owned)
            .to_vec(),
        ..Default::default()
    }
}

/// The field `virtual_hosts` of a `RouteConfiguration`, its messages encoded already: see
/// [`super::canon`].
#[derive(Clone, PartialEq, Message)]
pub(super) struct Hosts {
    #[prost(bytes = "vec", repeated, tag = "2")]
    virtual_hosts: Vec<Vec<u8>>,
}

impl Hosts {
    /// The only host of a table.
    pub(super) fn one(members: &[&Content]) -> Self {
        let host = host::render("v".to_owned(), "*", members, host::Trace::AtTheListener);
        Self { virtual_hosts: vec![host] }
    }

    pub(super) fn with(&self, routes: &envoy::RouteConfiguration) -> Vec<u8> {
        let mut bytes = routes.encode_to_vec();
        bytes.extend(self.encode_to_vec());
        bytes
    }
}

/// The namespace of the metadata that tells attempts apart. Envoy does not read it.
const METADATA: &str = "imp";

/// The same table with other bytes, to send it again to an Envoy that rejected the message with it.
pub fn restamp(table: &[u8], attempt: u32) -> Bytes {
    let kind = google::value::Kind::NumberValue(attempt.into());
    let fields = HashMap::from([("attempt".to_owned(), google::Value { kind: Some(kind) })]);
    let fields = google::Struct { fields };
    let stamp = envoy::RouteConfiguration {
        metadata: Some(core::Metadata {
            filter_metadata: HashMap::from([(METADATA.to_owned(), fields)]),
            ..Default::default()
        }),
        ..Default::default()
    };
    // Protobuf merges concatenated messages.
    [table, &stamp.encode_to_vec()].concat().into()
}
