//! What a route tells of itself.

use std::borrow::Cow;
use std::collections::HashMap;

use envoy_types::pb::envoy::service::auth::v3 as auth;
use imp_enforce::{PublishKey, RouteContext};
use imp_grammar::headers::SCOPE_HOST;
use imp_translate::gateway_api;
use imp_translate::xds::door::context::ROUTE;

/// Keys of a former release, whose routes name their publish. Envoys keep these routes while the
/// agent is updated.
const PUBLISH: &str = "publish";
const ACCESS: &str = "access";

/// What is said of a call: by the filter's configuration for its route, or, by Gateway API, in the route's
/// metadata.
pub(super) fn of(attributes: &auth::AttributeContext) -> Cow<'_, HashMap<String, String>> {
    if !attributes.context_extensions.is_empty() {
        return Cow::Borrowed(&attributes.context_extensions);
    }
    let metadata = attributes.route_metadata_context.as_ref();
    let metadata = metadata.and_then(|all| all.filter_metadata.get(gateway_api::METADATA));
    Cow::Owned(metadata.map(gateway_api::context).unwrap_or_default())
}

/// The identifying part of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Said<'a> {
    pub(super) publish: PublishKey<'a>,
    pub(super) route_id: &'a str,
    pub(super) access: &'a str,
}

/// Reads it from the route's context and the headers of the call. What cannot be understood names
/// no publish, so the call is refused.
pub(super) fn read<'a>(
    context: &'a HashMap<String, String>,
    headers: &'a HashMap<String, String>,
) -> Said<'a> {
    let text = |key| context.get(key).map_or("", String::as_str);
    if context.contains_key(PUBLISH) || context.contains_key(ACCESS) {
        let publish = PublishKey::Id(text(PUBLISH));
        return Said { publish, route_id: text(ROUTE), access: text(ACCESS) };
    }
    match RouteContext::parse(text(ROUTE)) {
        Some(route) => {
            let key = headers.get(SCOPE_HOST).map_or("", String::as_str);
            Said { publish: route.publish(key), route_id: route.route_id, access: route.access }
        }
        None => Said { publish: PublishKey::Id(""), route_id: "", access: "" },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> HashMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn both_shapes_are_understood_and_nothing_else() {
        let digest = "none.000000000abc.88e72ffb9af3428e";
        let whole = format!("{digest} r /below");
        let headers = map(&[(SCOPE_HOST, "a.example.com:8080"), ("x-imp-port", "80")]);
        let context = map(&[("route", &whole)]);
        let place = PublishKey::Place { host: "a.example.com", base_path: "/below" };
        let said = Said { publish: place, route_id: "r", access: digest };
        assert_eq!(read(&context, &headers), said);
        let nowhere = PublishKey::Place { host: "", base_path: "/below" };
        assert_eq!(read(&context, &HashMap::new()).publish, nowhere);

        let former = map(&[("publish", "p"), ("route", "r"), ("access", "none.88e7")]);
        let said = Said { publish: PublishKey::Id("p"), route_id: "r", access: "none.88e7" };
        assert_eq!(read(&former, &headers), said);
        let without_access = map(&[("publish", "p"), ("route", &whole)]);
        assert_eq!(read(&without_access, &headers).publish, PublishKey::Id("p"));

        for unclear in [&[][..], &[("route", "r")], &[("access", digest)], &[("route", digest)]] {
            assert_eq!(read(&map(unclear), &headers).publish, PublishKey::Id(""), "{unclear:?}");
        }
    }
}
