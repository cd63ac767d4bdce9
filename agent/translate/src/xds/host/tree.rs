//! Many base paths: a map from base path to its routes, in which Envoy looks up the longest match,
//! instead of a list that it scans.
//!
//! Keys are whole segments: "/v1/" and "/v1?" in a map of prefixes, "/v1" in a map of exact paths
//! before it. The path that is looked up still has its query. Many routes of one base path are
//! behind questions about segments ([`super::split`]).

use std::collections::BTreeMap;

use envoy_types::pb::envoy::config::core::v3::TypedExtensionConfig;
use envoy_types::pb::envoy::config::route::v3::RouteList;
use envoy_types::pb::envoy::r#type::matcher::v3::HttpRequestHeaderMatchInput;
use envoy_types::pb::google::protobuf as google;
use envoy_types::pb::xds::r#type::matcher::v3 as xds;
use prost::{Message, Name};

use super::group::Group;
use super::split::{self, Choice};
use crate::xds::canon::extension;
use crate::xds::route::{self, Route};

/// The field `matcher` of a virtual host, in place of `routes`.
pub(super) fn encode(groups: &[Group<'_>], refuses_trace: bool) -> Vec<u8> {
    let (mut whole, mut prefixes) = (BTreeMap::new(), BTreeMap::new());
    for group in groups {
        if group.base == "/" {
            prefixes.insert("/".to_owned(), below(group));
            continue;
        }
        prefixes.insert(format!("{}/", group.base), below(group));
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
    if refuses_trace {
        let trace = BTreeMap::from([("TRACE".to_owned(), routes([&route::no_trace()]))]);
        matcher = lookup(":method", Some(trace), None, Some(matcher));
    }
    Host { matcher: Some(matcher) }.encode_to_vec()
}

/// What takes a path below the base path.
fn below(group: &Group<'_>) -> OnMatch {
    let segments = group.base.split('/').filter(|segment| !segment.is_empty()).count();
    choice(&split::split(all(group).collect()), segments)
}

/// `base`: how many segments the base path has.
fn choice(of: &Choice<'_>, base: usize) -> OnMatch {
    let Choice::Split { cut, below, above } = of else {
        let Choice::List(list) = of else { return OnMatch::default() };
        return routes(list.iter().copied());
    };
    let regex = split::expression(base + cut.place, cut.from);
    let question = FieldMatcher {
        predicate: Some(Predicate { single: Some(Single::path(regex)) }),
        on_match: Some(choice(above, base)),
    };
    let matcher = Matcher {
        list: Some(MatcherList { matchers: vec![question] }),
        tree: None,
        on_no_match: Some(Box::new(choice(below, base))),
    };
    OnMatch { matcher: Some(Box::new(matcher)), ..Default::default() }
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
    Matcher {
        tree: Some(MatcherTree {
            input: Some(input(header)),
            whole: whole.map(|map| MatchMap { map }),
            prefixes: prefixes.map(|map| MatchMap { map }),
        }),
        list: None,
        on_no_match: otherwise.map(|matcher| {
            Box::new(OnMatch { matcher: Some(Box::new(matcher)), ..Default::default() })
        }),
    }
}

/// `envoy.config.route.v3.VirtualHost`, that field alone.
#[derive(Clone, PartialEq, Message)]
struct Host {
    #[prost(message, optional, tag = "21")]
    matcher: Option<Matcher>,
}

/// `xds.type.matcher.v3.Matcher` with its maps in order; a list or a tree.
#[derive(Clone, PartialEq, Message)]
struct Matcher {
    #[prost(message, optional, tag = "1")]
    list: Option<MatcherList>,
    #[prost(message, optional, tag = "2")]
    tree: Option<MatcherTree>,
    #[prost(message, optional, boxed, tag = "3")]
    on_no_match: Option<Box<OnMatch>>,
}

/// `xds.type.matcher.v3.Matcher.MatcherList`.
#[derive(Clone, PartialEq, Message)]
struct MatcherList {
    #[prost(message, repeated, tag = "1")]
    matchers: Vec<FieldMatcher>,
}

/// `xds.type.matcher.v3.Matcher.MatcherList.FieldMatcher`.
#[derive(Clone, PartialEq, Message)]
struct FieldMatcher {
    #[prost(message, optional, tag = "1")]
    predicate: Option<Predicate>,
    #[prost(message, optional, tag = "2")]
    on_match: Option<OnMatch>,
}

/// `xds.type.matcher.v3.Matcher.MatcherList.Predicate`.
#[derive(Clone, PartialEq, Message)]
struct Predicate {
    #[prost(message, optional, tag = "1")]
    single: Option<Single>,
}

/// `xds.type.matcher.v3.Matcher.MatcherList.Predicate.SinglePredicate`.
#[derive(Clone, PartialEq, Message)]
struct Single {
    #[prost(message, optional, tag = "1")]
    input: Option<TypedExtensionConfig>,
    #[prost(message, optional, tag = "2")]
    value: Option<xds::StringMatcher>,
}

impl Single {
    /// Of the path with its query.
    fn path(regex: String) -> Self {
        let engine = xds::regex_matcher::EngineType::GoogleRe2(xds::regex_matcher::GoogleRe2 {});
        let regex = xds::RegexMatcher { regex, engine_type: Some(engine) };
        let value = xds::StringMatcher {
            match_pattern: Some(xds::string_matcher::MatchPattern::SafeRegex(regex)),
            ..Default::default()
        };
        Self { input: Some(input(":path")), value: Some(value) }
    }
}

fn input(header: &str) -> TypedExtensionConfig {
    let input = HttpRequestHeaderMatchInput { header_name: header.to_owned() };
    extension(header, &input)
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
