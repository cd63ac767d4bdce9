//! Renders the policies of a route: one module per type.

pub(super) mod cors;
mod headers;
mod ip_access;

use std::collections::HashMap;
use std::sync::Arc;

use envoy_types::pb::envoy::config::route::v3 as envoy;
use envoy_types::pb::google::protobuf::Any;
use prost::Message;

use super::filter;
use crate::ir::Policies;

/// Encoded fields of an `envoy.config.route.v3.Route`.
pub(super) type Fields = Arc<[u8]>;

/// Renders each shared object once, however many routes it applies to.
#[derive(Default)]
pub(super) struct Renderer {
    rendered: HashMap<[usize; 4], Fields>,
}

impl Renderer {
    pub(super) fn render(&mut self, policies: &Policies) -> Fields {
        // Policies that the agent enforces are named, too: a new type does not compile before it is
        // handled.
        let Policies { request_headers, response_headers, ip_access, cors, rate_limit: _ } =
            policies;
        let key = [
            address(request_headers),
            address(response_headers),
            address(ip_access),
            address(cors),
        ];
        self.rendered.entry(key).or_insert_with(|| encode(policies)).clone()
    }
}

fn address<T>(policy: &Option<Arc<T>>) -> usize {
    policy.as_ref().map_or(0, |policy| Arc::as_ptr(policy).addr())
}

/// Protobuf merges concatenated messages: each filter's settings are encoded as a separate map
/// entry, so that their order is fixed.
fn encode(policies: &Policies) -> Fields {
    let Policies { request_headers, response_headers, ip_access, cors, rate_limit: _ } = policies;
    let changes = headers::changes(request_headers.as_deref(), response_headers.as_deref());
    let mut fields = changes.encode_to_vec();
    if let Some(cors) = cors {
        fields.extend(settings(filter::CORS.on_route(&cors::render(cors))));
    }
    if let Some(access) = ip_access {
        fields.extend(settings(filter::IP.on_route(&ip_access::render(access))));
    }
    fields.into()
}

fn settings(entry: (String, Any)) -> Vec<u8> {
    let typed_per_filter_config = HashMap::from([entry]);
    envoy::Route { typed_per_filter_config, ..Default::default() }.encode_to_vec()
}
