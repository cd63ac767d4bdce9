//! `cors`: settings of Envoy's CORS filter, and a route for preflights.

use envoy_types::pb::envoy::extensions::filters::http::cors::v3::CorsPolicy;
use envoy_types::pb::envoy::r#type::matcher::v3 as matcher;
use imp_grammar::origin::Origin;
use matcher::string_matcher::MatchPattern;

use crate::ir::policy::Cors;
use crate::ir::{METHODS, Route, ValueMatch, ValueRule};
use crate::xds::canon::truth;
use crate::xds::path::regex_matcher;

pub(super) fn render(cors: &Cors) -> CorsPolicy {
    CorsPolicy {
        allow_origin_string_match: cors.origins.iter().map(origin).collect(),
        allow_methods: cors.methods.join(","),
        allow_headers: cors.headers.join(","),
        expose_headers: cors.exposed.join(","),
        max_age: cors.max_age_seconds.map(|age| age.to_string()).unwrap_or_default(),
        allow_credentials: truth(cors.credentials),
        // The gateway answers a preflight of an unknown page without asking the upstream.
        forward_not_matching_preflights: truth(false),
        ..Default::default()
    }
}

fn origin(origin: &Origin) -> matcher::StringMatcher {
    let pattern = match origin {
        Origin::Any => MatchPattern::SafeRegex(regex_matcher(".*".to_owned())),
        Origin::Exact(text) => MatchPattern::Exact(text.clone()),
        Origin::Below { scheme, domain } => {
            let domain = domain.replace('.', r"\.");
            MatchPattern::SafeRegex(regex_matcher(format!("{scheme}[a-z0-9.-]+{domain}")))
        }
    };
    matcher::StringMatcher { match_pattern: Some(pattern), ..Default::default() }
}

/// The matcher of preflights for this route: they have neither the method nor the headers of the
/// call they ask for. `None` if the route itself matches them.
pub(in crate::xds) fn preflight(route: &Route) -> Option<Route> {
    route.policies.cors.as_ref()?;
    if route.methods.is_empty() && route.headers.is_empty() {
        return None;
    }
    let methods = match &route.methods[..] {
        [] => METHODS.join("|"),
        methods => methods.join("|"),
    };
    let named = |name: &str, rule| ValueMatch { name: name.to_owned(), rule };
    Some(Route {
        id: format!("{}/preflight", route.id),
        methods: vec!["OPTIONS".to_owned()],
        headers: vec![
            named("origin", ValueRule::Regex(".+".to_owned())),
            named("access-control-request-method", ValueRule::Regex(methods)),
        ],
        ..route.clone()
    })
}
