//! Every refusal by Envoy itself: its cause and its text. The agent's refusals are in
//! `imp_enforce`. `docs/edge.md` is this table for people; a test compares the two.

use crate::xds::names::{ADDRESS_DENIED, FORBIDDEN, NO_DOOR, no_scope};

/// A refusal and how to recognise it.
pub(super) struct Refusal {
    pub(super) when: When,
    /// `None` keeps Envoy's status.
    pub(super) status: Option<u32>,
    pub(super) grpc_status: u32,
    /// A word for programs.
    pub(super) code: &'static str,
    /// A sentence for people.
    pub(super) title: &'static str,
    /// Seconds.
    pub(super) retry_after: Option<&'static str>,
}

/// How to recognise a refusal. The first match in the table counts.
#[derive(PartialEq)]
pub(super) enum When {
    /// The host's key is one of [`no_scope`].
    NoScope(&'static str),
    /// Envoy's response code details.
    Details(&'static [&'static str]),
    /// The details, and a path that matches this expression.
    DetailsAndPath(&'static str, &'static str),
    /// The details begin with this expression.
    DetailsBegin(&'static str),
    /// The name of the RBAC policy that refused.
    Policy(&'static str),
    /// The status of a route's own answer.
    DirectResponse(u32),
    /// Envoy's response flags.
    Flags(&'static [&'static str]),
    /// Any other refusal.
    Rest,
}

use When::{Details, DetailsAndPath, DetailsBegin, DirectResponse, Flags, NoScope, Policy, Rest};

const CANCELLED: u32 = 1;
const UNKNOWN: u32 = 2;
const DEADLINE_EXCEEDED: u32 = 4;
const PERMISSION_DENIED: u32 = 7;
const RESOURCE_EXHAUSTED: u32 = 8;
const UNIMPLEMENTED: u32 = 12;
const INTERNAL: u32 = 13;
const UNAVAILABLE: u32 = 14;

const fn row(
    when: When,
    status: Option<u32>,
    grpc_status: u32,
    code: &'static str,
    title: &'static str,
) -> Refusal {
    Refusal { when, status, grpc_status, code, title, retry_after: None }
}

const fn retry(seconds: &'static str, refusal: Refusal) -> Refusal {
    Refusal { retry_after: Some(seconds), ..refusal }
}

const BAD_HOST: (&str, &str) = ("bad_host", "This is not the name of a host");
const LARGE: (&str, &str) = ("headers_too_large", "The headers have more than 64 KB");
const MANY: (&str, &str) = ("too_many_headers", "There are more than 100 headers");
const NO_AGENT: (&str, &str) = ("enforcement_unavailable", "Try again later");
/// Also said by hosts, of paths below a base path.
pub(in crate::xds) const SLASH: (&str, &str) =
    ("escaped_slash", "Paths with %%2F or %%5C are not served here");
const SLOW: (&str, &str) = ("request_timeout", "The request did not arrive in time");

/// Where the module writes the keys of hosts. These come first.
#[rustfmt::skip]
pub(super) const BY_MODULE: [Refusal; 3] = [
    row(NoScope(no_scope::MALFORMED), Some(400), INTERNAL, BAD_HOST.0, BAD_HOST.1),
    row(NoScope(no_scope::MISDIRECTED), Some(421), UNIMPLEMENTED, "misdirected", "This connection was made for another host"),
    retry("1", row(NoScope(no_scope::NOT_LOADED), Some(503), UNAVAILABLE, NO_AGENT.0, NO_AGENT.1)),
];

#[rustfmt::skip]
pub(super) const REFUSALS: [Refusal; 30] = [
    row(NoScope(no_scope::SPELLING), Some(421), UNIMPLEMENTED, "host_spelling", "Write the host in lower case"),
    row(NoScope(no_scope::TOO_MANY_HEADERS), Some(431), RESOURCE_EXHAUSTED, MANY.0, MANY.1),
    row(NoScope(no_scope::HEADERS_TOO_LARGE), Some(431), RESOURCE_EXHAUSTED, LARGE.0, LARGE.1),
    row(NoScope(no_scope::UNDERSCORE), Some(400), INTERNAL, "underscore_header", "Headers with _ in their names are not served here"),
    row(NoScope(no_scope::SLASH), Some(400), INTERNAL, SLASH.0, SLASH.1),
    row(Flags(&["NR"]), Some(404), UNIMPLEMENTED, "no_route", "No such route"),
    row(DirectResponse(405), None, UNIMPLEMENTED, "method_not_allowed", "Not with this method; see Allow"),
    row(DirectResponse(503), None, UNAVAILABLE, "publish_suspended", "Suspended"),
    retry("60", row(Policy("quota"), Some(429), RESOURCE_EXHAUSTED, "quota", "Quota exceeded")),
    retry("1", row(Details(&["ext_authz_error"]), Some(503), UNAVAILABLE, NO_AGENT.0, NO_AGENT.1)),
    retry("1", row(Policy(NO_DOOR), Some(503), UNAVAILABLE, NO_AGENT.0, NO_AGENT.1)),
    row(Policy(ADDRESS_DENIED), Some(403), PERMISSION_DENIED, "address_not_allowed", "Calls from this address are not allowed"),
    row(Policy(FORBIDDEN), Some(502), UNAVAILABLE, "upstream_forbidden", "The upstream is at an address that this gateway does not call"),
    row(Details(&["http1.too_many_headers"]), Some(431), RESOURCE_EXHAUSTED, MANY.0, MANY.1),
    row(Details(&["http1.headers_too_large"]), Some(431), RESOURCE_EXHAUSTED, LARGE.0, LARGE.1),
    row(Details(&["missing_host_header"]), Some(400), INTERNAL, "missing_host", "The call names no host"),
    row(Details(&["http.invalid_authority"]), Some(400), INTERNAL, BAD_HOST.0, BAD_HOST.1),
    // Envoy has decoded the slash by then; paths that it refuses for other reasons are not decoded.
    row(DetailsAndPath("path_normalization_failed", r"\\x2500|#"), Some(400), INTERNAL, "bad_path", "The path has characters that no path may have"),
    row(Details(&["path_normalization_failed"]), Some(400), INTERNAL, SLASH.0, SLASH.1),
    row(Details(&["absolute_path_rejected"]), Some(404), UNIMPLEMENTED, "no_route", "No such route"),
    row(Details(&["low_version"]), Some(426), UNIMPLEMENTED, "http_1_0", "HTTP/1.0 is not served here"),
    row(Details(&["upgrade_failed"]), Some(403), UNIMPLEMENTED, "upgrade_not_allowed", "This route does not upgrade"),
    row(Details(&["request_payload_too_large"]), Some(413), RESOURCE_EXHAUSTED, "body_too_large", "The body is larger than is allowed"),
    row(Details(&["request_header_timeout", "request_overall_timeout"]), Some(408), DEADLINE_EXCEEDED, SLOW.0, SLOW.1),
    row(Details(&["stream_idle_timeout", "max_duration_timeout"]), None, CANCELLED, "stream_timeout", "Nothing was said for too long"),
    row(DetailsBegin(r"http1\\.|http2\\.|http\\.|request_headers_failed_strict_check"), None, INTERNAL, "bad_request", "This is not HTTP as it is served here"),
    retry("1", row(Flags(&["OM"]), Some(503), UNAVAILABLE, "overloaded", "Try again later")),
    row(Flags(&["UT"]), None, UNAVAILABLE, "upstream_timeout", "The upstream did not answer in time"),
    row(Flags(&["UF", "UH", "UC", "UR", "UO", "URX", "UPE", "LR", "NC", "DF"]), None, UNAVAILABLE, "upstream_unavailable", "The upstream cannot be reached"),
    row(Rest, None, UNKNOWN, "gateway", "Request refused by the gateway"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_for_people_has_each_of_them_and_no_other() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/edge.md");
        let document = std::fs::read_to_string(path).unwrap();
        let row = |refusal: &Refusal| {
            let names = [
                (CANCELLED, "CANCELLED"),
                (UNKNOWN, "UNKNOWN"),
                (DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED"),
                (PERMISSION_DENIED, "PERMISSION_DENIED"),
                (RESOURCE_EXHAUSTED, "RESOURCE_EXHAUSTED"),
                (UNIMPLEMENTED, "UNIMPLEMENTED"),
                (INTERNAL, "INTERNAL"),
                (UNAVAILABLE, "UNAVAILABLE"),
            ];
            let name = names.iter().find(|(number, _)| *number == refusal.grpc_status).unwrap().1;
            let title = refusal.title.replace("%%", "%");
            (format!("| `{}` |", refusal.code), format!("| {name} | {title} |"))
        };
        let expected: Vec<_> = BY_MODULE.iter().chain(&REFUSALS).map(row).collect();
        for (start, end) in &expected {
            let there = |line: &str| line.starts_with(start) && line.ends_with(end);
            assert!(document.lines().any(there), "{start} ... {end}");
        }
        let (_, table) = document.split_once("| code | HTTP |").unwrap();
        for line in table.lines().filter(|line| line.starts_with("| `")) {
            assert!(expected.iter().any(|(start, _)| line.starts_with(start)), "{line}");
        }
    }
}
