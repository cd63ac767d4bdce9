//! Many base paths: a map from base path to its routes, in which Envoy looks up the longest match,
//! instead of a list that it scans.
//!
//! Keys are whole segments: "/v1/" and "/v1?" in a map of prefixes, "/v1" in a map of exact paths
//! before it. The path that is looked up still has its query.

use std::collections::BTreeMap;

use envoy_types::pb::envoy::config::core::v3::TypedExtensionConfig;
use envoy_types::pb::envoy::config::route::v3::RouteList;
use envoy_types::pb::envoy::r#type::matcher::v3::HttpRequestHeaderMatchInput;
use envoy_types::pb::google::protobuf as google;
use prost::{Message, Name};

use super::group::Group;
use crate::xds::canon::extension;
use crate::xds::route::{self, Route};

/// The field `matcher` of a virtual host, in place of `routes`.
pub(super) fn encode(groups: &[Group<'_>]) -> Vec<u8> {
    let (mut whole, mut prefixes) = (BTreeMap::new(), BTreeMap::new());
    for group in groups {
        if group.base == "/" {
            prefixes.insert("/".to_owned(), routes(all(group)));
            continue;
        }
        prefixes.insert(format!("{}/", group.base), routes(all(group)));
        // The base path itself, without a trailing slash.
        if all(group).any(|route| route.takes_base) {
            let of_base_itself = || routes(all(group).filter(|route| route.takes_base));
            prefixes.insert(format!("{}?", group.base), of_base_itself());
            whole.insert(group.base.to_owned(), of_base_itself());
        }
    }
    let mut matcher = lookup(":path", None, Some(prefixes), None);
    if !whole.is_empty() {
        matcher = lookup(":path", Some(whole), None, Some(matcher));
    }
    let trace = BTreeMap::from([("TRACE".to_owned(), routes([&route::no_trace()]))]);
    let matcher = lookup(":method", Some(trace), None, Some(matcher));
    Host { matcher: Some(matcher) }.encode_to_vec()
}

fn all<'a>(group: &'a Group<'_>) -> impl Iterator<Item = &'a Route> {
    group.routes.iter().map(|route| &**route)
}

/// An `envoy.config.route.v3.RouteList`, whose only field they are.
fn routes<'a>(routes: impl IntoIterator<Item = &'a Route>) -> OnMatch {
    let mut list = Vec::new();
    routes.into_iter().for_each(|route| route.append(1, &mut list));
    let list = google::Any { type_url: RouteList::type_url(), value: list };
    let action = TypedExtensionConfig { name: "routes".to_owned(), typed_config: Some(list) };
    OnMatch { action: Some(action), ..Default::default() }
}

fn lookup(
    header: &str,
    whole: Option<BTreeMap<String, OnMatch>>,
    prefixes: Option<BTreeMap<String, OnMatch>>,
    otherwise: Option<Matcher>,
) -> Matcher {
    let input = HttpRequestHeaderMatchInput { header_name: header.to_owned() };
    Matcher {
        tree: Some(MatcherTree {
            input: Some(extension(header, &input)),
            whole: whole.map(|map| MatchMap { map }),
            prefixes: prefixes.map(|map| MatchMap { map }),
        }),
        on_no_match: otherwise
            .map(|matcher| OnMatch { matcher: Some(Box::new(matcher)), ..Default::default() }),
    }
}

/// `envoy.config.route.v3.VirtualHost`, that field alone.
#[derive(Clone, PartialEq, Message)]
struct Host {
    #[prost(message, optional, tag = "21")]
    matcher: Option<Matcher>,
}

/// `xds.type.matcher.v3.Matcher` with its maps in order.
#[derive(Clone, PartialEq, Message)]
struct Matcher {
    #[prost(message, optional, tag = "2")]
    tree: Option<MatcherTree>,
    #[prost(message, optional, tag = "3")]
    on_no_match: Option<OnMatch>,
}

/// `xds.type.matcher.v3.Matcher.MatcherTree`: one of its two maps.
#[derive(Clone, PartialEq, Message)]
struct MatcherTree {
    #[prost(message, optional, tag = "1")]
    input: Option<TypedExtensionConfig>,
    #[prost(message, optional, tag = "2")]
    whole: Option<MatchMap>,
    #[prost(message, optional, tag = "3")]
    prefixes: Option<MatchMap>,
}

/// `xds.type.matcher.v3.Matcher.MatcherTree.MatchMap` in order.
#[derive(Clone, PartialEq, Message)]
struct MatchMap {
    #[prost(btree_map = "string, message", tag = "1")]
    map: BTreeMap<String, OnMatch>,
}

/// `xds.type.matcher.v3.Matcher.OnMatch`: one of the two.
#[derive(Clone, PartialEq, Message)]
struct OnMatch {
    #[prost(message, optional, boxed, tag = "1")]
    matcher: Option<Box<Matcher>>,
    #[prost(message, optional, tag = "2")]
    action: Option<TypedExtensionConfig>,
}
