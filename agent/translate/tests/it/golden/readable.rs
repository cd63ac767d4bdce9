//! Prints messages for readers: YAML without defaults, with every `Any` unpacked. Made from Rust's
//! debug text, which every generated type has, so no descriptors are needed.

use std::fmt::Debug;

use envoy_types::pb::envoy::config as c;
use envoy_types::pb::envoy::extensions as x;
use envoy_types::pb::envoy::r#type::matcher::v3::HttpRequestHeaderMatchInput;
use envoy_types::pb::google::protobuf::Any;
use prost::{Message, Name};

/// A value in debug text.
#[derive(Debug)]
enum Tree {
    Leaf(String),
    List(Vec<Tree>),
    Fields(Vec<(String, Tree)>),
}

/// A message as YAML.
pub(super) fn yaml(message: &impl Debug) -> String {
    let mut out = String::new();
    if let Some(tree) = parse(&format!("{message:?}")) {
        write(&tree, 0, &mut out);
    }
    out
}

/// One encoded resource as YAML.
pub(super) fn resource(type_url: &str, value: &[u8]) -> String {
    let tree = unpack(type_url, value);
    let mut out = String::new();
    write(&tree, 0, &mut out);
    out
}

fn parse(text: &str) -> Option<Tree> {
    let mut parser = Parser { rest: text };
    let tree = parser.value();
    assert_eq!(parser.rest, "", "debug text that is not understood: {text}");
    tree
}

struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn eat(&mut self, token: &str) -> bool {
        self.rest = self.rest.trim_start();
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn word(&mut self) -> &'a str {
        self.rest = self.rest.trim_start();
        let end = self.rest.find(|c: char| !(c.is_alphanumeric() || "_-.#".contains(c)));
        let (word, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        word
    }

    fn string(&mut self) -> String {
        let mut out = String::new();
        let mut chars = self.rest.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.rest = &self.rest[at + 1..];
                    return out;
                }
                '\\' => match chars.next() {
                    Some((_, 'n')) => out.push('\n'),
                    Some((_, other)) => out.push(other),
                    None => {}
                },
                c => out.push(c),
            }
        }
        panic!("a string without an end")
    }

    /// `None` for a default.
    fn value(&mut self) -> Option<Tree> {
        if self.eat("\"") {
            let text = self.string();
            return (!text.is_empty()).then_some(Tree::Leaf(quoted(&text)));
        }
        if self.eat("[") {
            return self.list("]");
        }
        if self.eat("{") {
            return self.map();
        }
        let name = self.word();
        if self.eat("(") {
            let inner = self.list(")");
            return self.tuple(name, inner);
        }
        if self.eat("{") {
            return self.message(name);
        }
        let default = ["None", "0", "0.0", "false", "Unspecified"].contains(&name);
        (!default).then(|| Tree::Leaf(name.to_owned()))
    }

    fn value_or_text(&mut self) -> Tree {
        self.rest = self.rest.trim_start();
        let before = self.rest;
        let value = self.value();
        let text = before[..before.len() - self.rest.len()].trim();
        value.unwrap_or_else(|| Tree::Leaf(text.to_owned()))
    }

    fn list(&mut self, end: &str) -> Option<Tree> {
        let mut items = Vec::new();
        while !self.eat(end) {
            // A default in a list, or in a oneof, still has a meaning.
            items.push(self.value_or_text());
            self.eat(",");
        }
        (!items.is_empty()).then_some(Tree::List(items))
    }

    fn map(&mut self) -> Option<Tree> {
        let mut entries = Vec::new();
        while !self.eat("}") {
            let key = if self.eat("\"") { self.string() } else { self.word().to_owned() };
            self.eat(":");
            entries.push((key, self.value_or_text()));
            self.eat(",");
        }
        entries.sort_by(|(a, _), (b, _)| a.cmp(b));
        (!entries.is_empty()).then_some(Tree::Fields(entries))
    }

    fn tuple(&mut self, name: &str, inner: Option<Tree>) -> Option<Tree> {
        let inner = match inner {
            Some(Tree::List(mut items)) if items.len() == 1 => items.remove(0),
            other => other.unwrap_or_else(|| Tree::Fields(Vec::new())),
        };
        // The variants of a oneof are named; `Some` is not.
        let named = Tree::Fields(vec![(name.to_owned(), Tree::Fields(Vec::new()))]);
        Some(match (name, inner) {
            ("Some", inner) => inner,
            (_, Tree::Fields(fields)) if fields.is_empty() => named,
            (_, inner) => Tree::Fields(vec![(name.to_owned(), inner)]),
        })
    }

    fn message(&mut self, name: &str) -> Option<Tree> {
        if name == "Any" {
            return Some(self.any());
        }
        let wrapper = matches!(name, "UInt32Value" | "BoolValue" | "DoubleValue" | "UInt64Value");
        let mut fields = Vec::new();
        let mut sole = None;
        while !self.eat("}") {
            let key = self.word().trim_start_matches("r#").to_owned();
            self.eat(":");
            self.rest = self.rest.trim_start();
            let text = self.rest;
            let value = self.value();
            if wrapper {
                sole = Some(text[..text.len() - self.rest.len()].trim().to_owned());
            }
            fields.extend(value.map(|value| (key, value)));
            self.eat(",");
        }
        match sole {
            Some(value) => Some(Tree::Leaf(value)),
            None => Some(Tree::Fields(fields)),
        }
    }

    fn any(&mut self) -> Tree {
        assert!(self.eat("type_url:") && self.eat("\""));
        let type_url = self.string();
        assert!(self.eat(",") && self.eat("value:") && self.eat("["));
        let mut bytes = Vec::new();
        while !self.eat("]") {
            bytes.push(self.word().parse::<u8>().unwrap());
            self.eat(",");
        }
        assert!(self.eat("}"));
        unpack(&type_url, &bytes)
    }
}

/// Quotes text that YAML would read as something else.
fn quoted(text: &str) -> String {
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && !text.contains(['\n', '"', '{', '#'])
        && !text.contains(": ");
    if plain { text.to_owned() } else { format!("{text:?}") }
}

fn write(tree: &Tree, depth: usize, out: &mut String) {
    let indent = "  ".repeat(depth);
    match tree {
        Tree::Leaf(text) => out.push_str(&format!("{indent}{text}\n")),
        Tree::List(items) => {
            for item in items {
                let mut inner = String::new();
                write(item, depth + 1, &mut inner);
                let inner = inner.trim_start();
                let inner = if inner.is_empty() { "{}\n" } else { inner };
                out.push_str(&format!("{indent}- {inner}"));
            }
        }
        Tree::Fields(fields) => {
            for (key, value) in fields {
                match value {
                    Tree::Leaf(text) => out.push_str(&format!("{indent}{key}: {text}\n")),
                    Tree::Fields(fields) if fields.is_empty() => {
                        out.push_str(&format!("{indent}{key}: {{}}\n"));
                    }
                    nested => {
                        out.push_str(&format!("{indent}{key}:\n"));
                        write(nested, depth + 1, out);
                    }
                }
            }
        }
    }
}

/// Decodes known types; an unknown type fails the test, so that no golden file hides content in
/// bytes.
fn unpack(type_url: &str, value: &[u8]) -> Tree {
    macro_rules! known {
        ($($message:ty),+ $(,)?) => {
            $(if type_url == <$message>::type_url() {
                return unpacked(type_url, &<$message>::decode(value).unwrap());
            })+
        };
    }
    known!(
        c::cluster::v3::Cluster,
        c::core::v3::TypedExtensionConfig,
        c::listener::v3::Listener,
        c::route::v3::FilterConfig,
        c::route::v3::RouteConfiguration,
        c::route::v3::RouteList,
        c::route::v3::ScopedRouteConfiguration,
        x::access_loggers::filters::cel::v3::ExpressionFilter,
        x::compression::gzip::compressor::v3::Gzip,
        x::filters::http::api_key_auth::v3::ApiKeyAuth,
        x::filters::http::basic_auth::v3::BasicAuth,
        x::filters::http::buffer::v3::Buffer,
        x::filters::http::cache::v3::CacheConfig,
        x::filters::http::compressor::v3::Compressor,
        x::filters::http::cors::v3::Cors,
        x::filters::http::cors::v3::CorsPolicy,
        x::filters::http::ext_authz::v3::ExtAuthz,
        x::filters::http::ext_authz::v3::ExtAuthzPerRoute,
        x::filters::http::fault::v3::HttpFault,
        x::filters::http::grpc_web::v3::GrpcWeb,
        x::filters::http::header_mutation::v3::HeaderMutation,
        x::filters::http::jwt_authn::v3::JwtAuthentication,
        x::filters::http::local_ratelimit::v3::LocalRateLimit,
        x::filters::http::ratelimit::v3::RateLimit,
        x::filters::http::rbac::v3::Rbac,
        x::filters::http::rbac::v3::RbacPerRoute,
        x::filters::http::router::v3::Router,
        x::filters::http::upstream_codec::v3::UpstreamCodec,
        x::retry::host::previous_hosts::v3::PreviousHostsPredicate,
        x::filters::network::http_connection_manager::v3::HttpConnectionManager,
        x::http::cache::simple_http_cache::v3::SimpleHttpCacheConfig,
        x::http::early_header_mutation::header_mutation::v3::HeaderMutation,
        x::rbac::matchers::upstream_ip_port::v3::UpstreamIpPortMatcher,
        x::retry::host::previous_hosts::v3::PreviousHostsPredicate,
        x::transport_sockets::tls::v3::UpstreamTlsContext,
        x::upstreams::http::v3::HttpProtocolOptions,
        HttpRequestHeaderMatchInput,
    );
    panic!("{type_url} is not in the table")
}

fn unpacked(type_url: &str, message: &impl Debug) -> Tree {
    let type_name = type_url.rsplit('/').next().unwrap_or(type_url);
    let mut fields = vec![("@type".to_owned(), Tree::Leaf(type_name.to_owned()))];
    if let Some(Tree::Fields(own)) = parse(&format!("{message:?}")) {
        fields.extend(own);
    }
    Tree::Fields(fields)
}

/// The debug text of an `Any`, which the parser relies on.
#[test]
fn what_is_packed_is_shown_unpacked() {
    let router =
        x::filters::http::router::v3::Router { suppress_envoy_headers: true, ..Default::default() };
    let any = Any {
        type_url: x::filters::http::router::v3::Router::type_url(),
        value: router.encode_to_vec(),
    };
    assert_eq!(
        yaml(&any),
        "@type: envoy.extensions.filters.http.router.v3.Router\nsuppress_envoy_headers: true\n"
    );
}
