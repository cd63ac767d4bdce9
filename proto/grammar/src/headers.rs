//! The headers that belong to the gateway: those that its listener removes, those that it writes,
//! and those that frame a message. The listener's template and the API's rules use the same lists.

/// The prefix of the gateway's own headers.
pub const OURS: &str = "x-imp-";

/// Prefixes of headers that only a proxy in front may set, about the caller, the call, or for
/// Envoy: they are removed from callers' requests, like the gateway's own.
pub const FOREIGN_PREFIXES: [&str; 3] = ["x-envoy-", "x-forwarded-", "x-original-"];

/// Names of other such headers. `proxy` becomes HTTP_PROXY in CGI. The last two would join the
/// caller's trace to ours.
pub const FOREIGN_NAMES: [&str; 16] = [
    "forwarded",
    "proxy",
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-appengine-user-ip",
    "x-azure-clientip",
    "x-azure-socketip",
    "true-client-ip",
    "cf-connecting-ip",
    "fastly-client-ip",
    "front-end-https",
    "x-url-scheme",
    "x-rewrite-url",
    "x-client-trace-id",
    "x-ot-span-context",
];

/// The header with the host that the scope is found by, which the listener writes. Who decides about a
/// call finds the publish by it.
pub const SCOPE_HOST: &str = "x-imp-host";

/// The header of API keys.
pub const CREDENTIAL: &str = "x-api-key";

/// Headers that Envoy itself overwrites or removes before routing. It also writes some that begin
/// with `x-forwarded-`.
const BEFORE_ROUTING: [&str; 6] =
    ["connection", "expect", "keep-alive", "proxy-connection", "transfer-encoding", "x-request-id"];

/// Headers that frame or route a message; no policy may write them.
const FRAMING: [&str; 9] = [
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "upgrade",
    "te",
    "trailer",
    "keep-alive",
    "proxy-connection",
];

/// Prefixes of headers that no policy may write.
const UNWRITABLE_PREFIXES: [&str; 3] = ["x-imp-", "x-envoy-", "x-forwarded-"];

/// Headers that the listener writes into every answer, after all policies.
const OF_EVERY_ANSWER: [&str; 2] = ["server", "x-request-id"];

/// Added to every answer without one, after all policies; a policy may set it.
const ADDED_TO_ANSWERS: &str = "date";

fn begins(name: &str, prefixes: &[&str]) -> bool {
    prefixes.iter().any(|prefix| name.starts_with(prefix))
}

/// Whether no route can see a caller's header of this name (in lower case), so that a condition on
/// it would never match.
pub fn is_hidden_from_routes(name: &str) -> bool {
    // Other spellings of removed headers are removed, too; the credential has only one spelling.
    let dashed = name.replace('_', "-");
    dashed.starts_with(OURS)
        || begins(&dashed, &FOREIGN_PREFIXES)
        || FOREIGN_NAMES.contains(&dashed.as_str())
        || (dashed == CREDENTIAL && name != CREDENTIAL)
        || BEFORE_ROUTING.contains(&name)
}

/// Whether no policy may write it, towards the upstream or the caller. Agents refuse such policies.
pub fn is_reserved(name: &str) -> bool {
    FRAMING.contains(&name) || begins(name, &UNWRITABLE_PREFIXES)
}

/// A policy's change of an answer's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is present afterwards.
    Write,
    /// It is absent afterwards.
    Remove,
}

/// Whether the listener would undo this change of an answer.
pub fn is_undone(name: &str, change: Change) -> bool {
    OF_EVERY_ANSWER.contains(&name) || (change == Change::Remove && name == ADDED_TO_ANSWERS)
}

/// The longest name of a place of API keys.
const KEY_NAME: usize = 64;

/// The header of bearer tokens (RFC 6750), which may be keys.
pub const AUTHORIZATION: &str = "authorization";

/// Parts of a header's name of which one must be there for the header to have API keys: the gateway
/// sends no other headers to the service that checks keys.
pub const KEY_WORDS: [&str; 2] = ["key", "token"];

/// Whether callers may send API keys in a header of this name (in lower case), besides
/// [`CREDENTIAL`].
pub fn is_key_header(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    name == AUTHORIZATION
        || (name.len() <= KEY_NAME
            && name.bytes().all(plain)
            && KEY_WORDS.iter().any(|word| name.contains(word))
            && !is_reserved(name)
            && !is_hidden_from_routes(name)
            && name != CREDENTIAL)
}

/// Whether callers may send API keys in a query parameter of this name: one that is written the
/// same with and without percent-encoding.
pub fn is_key_parameter(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    (1..=KEY_NAME).contains(&name.len()) && name.bytes().all(plain)
}

/// Whether calls may upgrade to this protocol: a token with or without a version, in lower case;
/// not another version of HTTP, nor TLS, because requests inside would not be authorised.
pub fn is_upgrade(protocol: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-._/".contains(&b);
    let starts = protocol.bytes().next().is_some_and(|b| b.is_ascii_lowercase());
    let nested = ["h2", "http", "tls", "connect"];
    starts
        && protocol.len() <= 64
        && protocol.bytes().all(plain)
        && !nested.iter().any(|start| protocol.starts_with(start))
}
