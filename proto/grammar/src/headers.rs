//! Which headers belong to the gateway: what its listener takes away, what it writes, and what frames a
//! message. The listener's template and the API's rules are made from the same lists.

/// What is said in the gateway's own name.
pub const OURS: &str = "x-imp-";

/// What only a proxy in front may say, of the caller, of the call, to Envoy: names that begin so are
/// taken from callers, as those of the gateway are.
pub const FOREIGN_PREFIXES: [&str; 3] = ["x-envoy-", "x-forwarded-", "x-original-"];

/// The same, with names of their own. `proxy` becomes HTTP_PROXY in CGI. The last two would join the
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

/// The header of API keys.
pub const CREDENTIAL: &str = "x-api-key";

/// What Envoy itself writes over or takes away before it looks for a route. It also writes some that
/// begin with `x-forwarded-`.
const BEFORE_ROUTING: [&str; 6] =
    ["connection", "expect", "keep-alive", "proxy-connection", "transfer-encoding", "x-request-id"];

/// What frames or routes a message; no policy writes it.
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

/// What no policy writes, by its beginning.
const UNWRITABLE_PREFIXES: [&str; 3] = ["x-imp-", "x-envoy-", "x-forwarded-"];

/// What the listener writes into every answer, after all policies.
const OF_EVERY_ANSWER: [&str; 2] = ["server", "x-request-id"];

/// Put into every answer that has none, after all policies; a policy may set it.
const ADDED_TO_ANSWERS: &str = "date";

fn begins(name: &str, prefixes: &[&str]) -> bool {
    prefixes.iter().any(|prefix| name.starts_with(prefix))
}

/// Whether a route could never see what a caller sent under this name (in lower case), so that a
/// condition on it would be vain.
pub fn is_hidden_from_routes(name: &str) -> bool {
    // Another spelling of what is stripped is stripped, too; the credential is one only as it is.
    let dashed = name.replace('_', "-");
    dashed.starts_with(OURS)
        || begins(&dashed, &FOREIGN_PREFIXES)
        || FOREIGN_NAMES.contains(&dashed.as_str())
        || (dashed == CREDENTIAL && name != CREDENTIAL)
        || BEFORE_ROUTING.contains(&name)
}

/// Whether no policy may write it, towards the upstream or the caller. Agents refuse these.
pub fn is_reserved(name: &str) -> bool {
    FRAMING.contains(&name) || begins(name, &UNWRITABLE_PREFIXES)
}

/// What a policy does to a header of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is there afterwards.
    Write,
    /// It is gone afterwards.
    Remove,
}

/// Whether the listener would undo this change of an answer.
pub fn is_undone(name: &str, change: Change) -> bool {
    OF_EVERY_ANSWER.contains(&name) || (change == Change::Remove && name == ADDED_TO_ANSWERS)
}

/// Whether calls may upgrade to it: a token with a version or none, in lower case; not another HTTP or TLS,
/// whose calls nobody would judge.
pub fn is_upgrade(protocol: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-._/".contains(&b);
    let starts = protocol.bytes().next().is_some_and(|b| b.is_ascii_lowercase());
    let nested = ["h2", "http", "tls", "connect"];
    starts
        && protocol.len() <= 64
        && protocol.bytes().all(plain)
        && !nested.iter().any(|start| protocol.starts_with(start))
}
