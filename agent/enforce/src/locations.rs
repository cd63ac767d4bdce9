//! Where a call's credential is.

use imp_grammar::headers::{AUTHORIZATION, CREDENTIAL};

use crate::call::Presented;

/// Where callers of a route may send their key besides `x-api-key`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyLocations<'a> {
    /// A header, in lower case.
    pub header: Option<&'a str>,
    /// A query parameter.
    pub query: Option<&'a str>,
}

impl<'a> KeyLocations<'a> {
    /// Reads the form in which a route names them: the header, a question mark, the parameter; each
    /// may be empty.
    pub fn parse(text: &'a str) -> Self {
        let (header, query) = text.split_once('?').unwrap_or((text, ""));
        let some = |name: &'a str| Some(name).filter(|name| !name.is_empty());
        Self { header: some(header), query: some(query) }
    }

    /// The credential of a call: in `x-api-key`, else in the named header, else in the query, else
    /// a bearer token. `header` returns the value of a header, several joined with commas, which no
    /// key contains; `path` has the query.
    pub fn credential<'c>(
        &self,
        header: impl Fn(&str) -> Option<&'c str>,
        path: &'c str,
    ) -> Presented<'c> {
        if let Some(key) = header(CREDENTIAL) {
            return one(key, Presented::Key);
        }
        let token = header(AUTHORIZATION).and_then(bearer);
        let named = match self.header {
            Some(AUTHORIZATION) => token,
            Some(name) => header(name),
            None => None,
        };
        if let Some(key) = named {
            return one(key, Presented::Key);
        }
        if let Some(name) = self.query {
            let mut keys = parameters(path, name);
            match (keys.next(), keys.next()) {
                (Some(key), None) => return one(key, Presented::Key),
                (Some(_), Some(_)) => return Presented::Several,
                (None, _) => {}
            }
        }
        token.map_or(Presented::None, |token| one(token, Presented::BearerToken))
    }

    /// The parameter, if the call has it.
    pub fn query_in(&self, path: &str) -> Option<&'a str> {
        self.query.filter(|name| parameters(path, name).next().is_some())
    }
}

fn one<'c>(value: &'c str, presented: impl Fn(&'c str) -> Presented<'c>) -> Presented<'c> {
    if value.contains(',') { Presented::Several } else { presented(value) }
}

/// The bearer token (RFC 6750); the scheme is case-insensitive.
fn bearer(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim_start())
}

/// The values of a query parameter, as they were sent: keys need no encoding.
fn parameters<'c>(path: &'c str, name: &str) -> impl Iterator<Item = &'c str> {
    let (_, query) = path.split_once('?').unwrap_or((path, ""));
    let query = query.split('#').next().unwrap_or_default();
    query.split('&').filter_map(move |pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (key == name).then_some(value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(locations: &str, headers: &[(&str, &'static str)], path: &'static str) -> String {
        let header =
            |name: &str| headers.iter().find(|(it, _)| *it == name).map(|(_, value)| *value);
        format!("{:?}", KeyLocations::parse(locations).credential(header, path))
    }

    #[test]
    fn the_usual_header_takes_precedence_over_what_the_route_names() {
        let all = [("x-api-key", "a"), ("apikey", "b"), ("authorization", "Bearer t")];
        assert_eq!(seen("apikey?key", &all, "/?key=c"), r#"Key("a")"#);
        assert_eq!(seen("apikey?key", &all[1..], "/?key=c"), r#"Key("b")"#);
        assert_eq!(seen("apikey?key", &all[2..], "/?key=c"), r#"Key("c")"#);
        assert_eq!(seen("apikey?key", &all[2..], "/?keys=c"), r#"BearerToken("t")"#);
        assert_eq!(seen("apikey?key", &[], "/"), "None");
    }

    #[test]
    fn what_a_route_does_not_name_is_no_key() {
        assert_eq!(seen("", &[("apikey", "b")], "/?key=c"), "None");
        assert_eq!(seen("apikey?", &[], "/?=c&apikey=d"), "None");
        assert_eq!(seen("?key", &[("key", "b")], "/"), "None");
        assert_eq!(seen("", &[("authorization", "Basic abc")], "/"), "None");
    }

    #[test]
    fn a_key_may_come_as_a_bearer_token() {
        let headers = [("authorization", "bearer  k")];
        assert_eq!(seen("authorization?", &headers, "/"), r#"Key("k")"#);
        assert_eq!(seen("", &headers, "/"), r#"BearerToken("k")"#);
    }

    #[test]
    fn two_keys_are_seen() {
        assert_eq!(seen("", &[("x-api-key", "one,two")], "/"), "Several");
        assert_eq!(seen("apikey", &[("apikey", "one,two")], "/"), "Several");
        assert_eq!(seen("?key", &[], "/?key=a&x&key=a"), "Several");
        assert_eq!(seen("?key", &[], "/?x=1&key=a#key=b"), r#"Key("a")"#);
        assert_eq!(seen("?key", &[], "/a?key"), r#"Key("")"#);
    }
}
