//! What Envoy's configuration says to the module: JSON, in a `StringValue` or a `Struct`.

use std::path::PathBuf;

use serde::Deserialize;
use thiserror::Error;

/// Where the module's state comes from and goes to. One process has one; each filter repeats it,
/// because any of them may be the first that Envoy makes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Paths {
    /// The file that the agent writes what it knows to; read before the first listener opens.
    pub snapshot: Option<PathBuf>,
    /// The agent's socket, for what changes.
    pub feed: Option<PathBuf>,
    /// The directory of the counters.
    pub counters: Option<PathBuf>,
}

/// The filter that decides about calls.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Door {
    pub state: Paths,
    /// The only gateway that this Envoy serves; none: any.
    pub gateway: Option<String>,
}

/// What writes the key of the scope before the route is looked up.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScopeKey {
    pub state: Paths,
    /// The listener's port.
    pub port: u16,
    /// Whether the listener has TLS, so that the caller's SNI must be the host.
    #[serde(default)]
    pub tls: bool,
}

/// Why a configuration is refused.
#[derive(Debug, Error)]
pub enum ConfigError {
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    #[error("no {0:?} is known to this module")]
    Name(String),
    /// A process has one state.
    #[error("this Envoy's state is at {0:?} already")]
    Elsewhere(Paths),
    #[error("the thread for the agent cannot be started: {0}")]
    Thread(std::io::Error),
}

/// Reads one.
pub(crate) fn parse<'a, T: Deserialize<'a>>(
    known: &str,
    name: &[u8],
    json: &'a [u8],
) -> Result<T, ConfigError> {
    if name != known.as_bytes() {
        return Err(ConfigError::Name(String::from_utf8_lossy(name).into_owned()));
    }
    Ok(serde_json::from_slice(json)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_refused() {
        let read =
            |name: &str, json: &str| parse::<ScopeKey>("host", name.as_bytes(), json.as_bytes());
        let right = read("host", r#"{"state": {"snapshot": "s"}, "port": 80}"#).unwrap();
        assert_eq!((right.port, right.tls), (80, false));
        for (name, json) in [
            ("door", r#"{"state": {}, "port": 80}"#),
            ("host", r#"{"state": {}, "port": 80, "prot": 81}"#),
            ("host", r#"{"state": {"snapshots": "s"}, "port": 80}"#),
            ("host", r#"{"state": {}, "port": 800000}"#),
            ("host", r#"{"port": 80}"#),
            ("host", ""),
        ] {
            assert!(read(name, json).is_err(), "{name} {json}");
        }
    }
}
