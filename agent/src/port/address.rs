//! The syntax of the agent's Envoy address in flags.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// An address that Envoys connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// `unix:PATH`: the kernel identifies the user that connects.
    Unix(PathBuf),
    /// `ADDR:PORT`: TLS with a certificate of this agent for each Envoy.
    Tcp(SocketAddr),
}

/// The default socket's name in the state directory.
const DEFAULT_NAME: &str = "xds.sock";

impl Address {
    /// The configured address, or the socket in the state directory.
    pub fn or_default(given: Option<&Self>, state_dir: &Path) -> Self {
        given.cloned().unwrap_or_else(|| Self::Unix(state_dir.join(DEFAULT_NAME)))
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("unix:") {
            Some("") => Err("unix: needs a path behind it".to_owned()),
            Some(path) if path.contains('\0') => Err("a path has no NUL in it".to_owned()),
            Some(path) => Ok(Self::Unix(PathBuf::from(path))),
            None => text.parse().map(Self::Tcp).map_err(|_| "unix:PATH or ADDR:PORT".to_owned()),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(address) => write!(f, "{address}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_socket_file_or_ip_and_port() {
        for text in ["unix:/run/imp/xds.sock", "unix:a", "127.0.0.1:18000", "[::1]:1"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        for text in ["", "unix:", "unix:a\0b", "localhost:1", "127.0.0.1", "/run/xds.sock", ":1"] {
            assert!(text.parse::<Address>().is_err(), "{text:?}");
        }
    }
}
