//! What a route tells, and where Envoy found it.

use crate::call::PublishKey;
use crate::digest::Named;

/// What a route tells in one text: the digest of its access rules, its id, and the base path of its
/// publish, each followed by a space but the last. The text has nothing of the publish itself, so
/// that publishes can share their routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteContext<'a> {
    pub access: &'a str,
    pub route_id: &'a str,
    pub base_path: &'a str,
}

impl<'a> RouteContext<'a> {
    /// `None` if a part is missing or cannot be right; such calls must be refused.
    pub fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.splitn(3, ' ');
        let (access, route_id, base_path) = (parts.next()?, parts.next()?, parts.next()?);
        let owned = Named::parse(access).owner.is_some();
        (owned && !route_id.is_empty() && base_path.starts_with('/')).then_some(Self {
            access,
            route_id,
            base_path,
        })
    }

    /// The publish of a call on this route. `key` is the value of
    /// [`SCOPE_HOST`](imp_grammar::headers::SCOPE_HOST).
    pub fn publish(&self, key: &'a str) -> PublishKey<'a> {
        PublishKey::Place { host: host(key), base_path: self.base_path }
    }
}

/// The host of a scope key: Envoy cuts it at the first colon, where the caller's port begins.
fn host(key: &str) -> &str {
    key.split_once(':').map_or(key, |(host, _)| host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_context_is_understood() {
        let digest = "api_key.000000000abc.88e72ffb9af3428e";
        let text = format!("{digest} r-1 /a b");
        let expected = RouteContext { access: digest, route_id: "r-1", base_path: "/a b" };
        assert_eq!(RouteContext::parse(&text), Some(expected));
        for malformed in [
            "",
            "r-1",
            &format!("{digest} r-1"),
            &format!("{digest}  /"),
            &format!("{digest} r-1 "),
            &format!("{digest} r-1 below"),
            &format!(" {digest} r-1 /"),
            // Without an owner nothing tells whose place it was.
            "api_key.88e72ffb9af3428e r-1 /",
            "api_key r-1 /",
        ] {
            assert_eq!(RouteContext::parse(malformed), None, "{malformed}");
        }
    }

    #[test]
    fn the_host_ends_where_the_scope_key_does() {
        let cases = [("a.example.com", "a.example.com"), ("a.example.com:8443", "a.example.com")];
        for (key, host) in cases.into_iter().chain([("", ""), (":80", ""), ("!421", "!421")]) {
            let context = RouteContext { access: "", route_id: "", base_path: "/" };
            assert_eq!(context.publish(key), PublishKey::Place { host, base_path: "/" });
        }
    }
}
