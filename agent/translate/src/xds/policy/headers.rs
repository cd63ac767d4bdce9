//! `request_headers` and `response_headers`: fields of the route.

use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::route::v3 as envoy;

use crate::ir::policy::Headers;
use crate::xds::canon;

/// The fields of a route with its changes of headers.
pub(super) fn changes(request: Option<&Headers>, response: Option<&Headers>) -> envoy::Route {
    let (request_headers_to_add, request_headers_to_remove) = split(request);
    let (response_headers_to_add, response_headers_to_remove) = split(response);
    envoy::Route {
        request_headers_to_add,
        request_headers_to_remove,
        response_headers_to_add,
        response_headers_to_remove,
        ..Default::default()
    }
}

fn split(headers: Option<&Headers>) -> (Vec<core::HeaderValueOption>, Vec<String>) {
    use core::header_value_option::HeaderAppendAction::{
        AppendIfExistsOrAdd, OverwriteIfExistsOrAdd,
    };
    let Some(headers) = headers else { return (Vec::new(), Vec::new()) };
    let set = headers.set.iter().map(|(k, v)| canon::header(k, v, OverwriteIfExistsOrAdd));
    let add = headers.add.iter().map(|(k, v)| canon::header(k, v, AppendIfExistsOrAdd));
    let keep_empty = |mut option: core::HeaderValueOption| {
        option.keep_empty_value = true;
        option
    };
    (set.chain(add).map(keep_empty).collect(), headers.remove.clone())
}
