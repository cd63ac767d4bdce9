//! The address of Envoy's admin interface. It has no authentication and can stop Envoy, so it is
//! limited to Envoy's user and to loopback.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

/// The address of Envoy's admin interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EnvoyAdmin {
    /// No admin interface.
    Off,
    /// A Unix socket that only Envoy's user can open.
    Unix(PathBuf),
    /// A loopback address.
    Tcp(SocketAddr),
}

/// The kernel's limit of a socket's path.
const MAX_SOCKET_PATH: usize = 107;

impl FromStr for EnvoyAdmin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self::Off);
        }
        if let Some(path) = text.strip_prefix("unix:") {
            return match path.len() {
                0 => Err("unix: needs the path of the socket".to_owned()),
                1..=MAX_SOCKET_PATH => Ok(Self::Unix(path.into())),
                _ => Err(format!("a socket's path has at most {MAX_SOCKET_PATH} bytes")),
            };
        }
        match text.parse::<SocketAddr>() {
            Ok(address) if address.ip().is_loopback() => Ok(Self::Tcp(address)),
            Ok(_) => Err("only a loopback address; the interface has no authentication".to_owned()),
            Err(_) => Err("off, unix:PATH, or ADDR:PORT of loopback".to_owned()),
        }
    }
}

impl fmt::Display for EnvoyAdmin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(address) => address.fmt(f),
        }
    }
}

impl EnvoyAdmin {
    /// The bootstrap's `admin` as a line of YAML; empty without the interface.
    pub(crate) fn yaml(&self) -> String {
        // JSON strings are YAML strings, whatever they contain.
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        let address = match self {
            Self::Off => return String::new(),
            // 0600.
            Self::Unix(path) => {
                format!("pipe: {{path: {}, mode: 384}}", quoted(&path.to_string_lossy()))
            }
            Self::Tcp(address) => format!(
                "socket_address: {{address: {}, port_value: {}}}",
                quoted(&address.ip().to_string()),
                address.port()
            ),
        };
        format!("admin: {{address: {{{address}}}}}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_only_loopback_is_a_network_address() {
        for text in ["off", "unix:/run/imp/envoy.sock", "127.0.0.1:19901", "[::1]:19901"] {
            assert_eq!(text.parse::<EnvoyAdmin>().map(|admin| admin.to_string()), Ok(text.into()));
        }
        let long = format!("unix:/{}", "x".repeat(MAX_SOCKET_PATH));
        for wrong in ["", "on", "unix:", "0.0.0.0:19901", "10.0.0.1:80", "19901", &long] {
            assert!(wrong.parse::<EnvoyAdmin>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_socket_is_for_its_owner_and_off_is_nothing() {
        let unix = EnvoyAdmin::Unix("/run/a \"b\"".into()).yaml();
        assert_eq!(unix, r#"admin: {address: {pipe: {path: "/run/a \"b\"", mode: 384}}}"#);
        assert_eq!(0o600, 384);
        assert_eq!(EnvoyAdmin::Off.yaml(), "");
    }
}
