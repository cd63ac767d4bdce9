//! The two ports. Without TLS they bind only to loopback unless the operator insists.

use std::net::SocketAddr;

use tokio::net::TcpListener;

use super::StartError;
use crate::tls::{Files, Tls};

/// A bound port.
pub(super) struct Port {
    pub(super) listener: TcpListener,
    pub(super) address: SocketAddr,
    pub(super) tls: Option<Tls>,
}

/// The settings that a port is opened with.
pub(super) struct Wanted<'a> {
    /// The address as configured.
    pub(super) address: &'a str,
    /// The flag that set it.
    pub(super) flag: &'static str,
    pub(super) tls: Option<Files>,
    /// The ALPN protocols.
    pub(super) protocols: &'a [&'a str],
    /// Whether it may be reachable from other hosts without TLS.
    pub(super) insecure: bool,
}

impl Port {
    pub(super) async fn open(wanted: Wanted<'_>) -> Result<Self, StartError> {
        let Wanted { address: given, flag, tls, protocols, insecure } = wanted;
        let failed = |why| StartError::Listen { address: given.to_owned(), flag, why };
        let listener = TcpListener::bind(given).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let tls = tls.map(|files| Tls::open(files, protocols)).transpose();
        let tls = tls.map_err(|why| StartError::Tls { flag, why })?;
        if tls.is_none() && !address.ip().is_loopback() {
            if !insecure {
                return Err(StartError::Exposed { address: given.to_owned(), flag });
            }
            tracing::warn!(%address, "tokens travel in clear here, unless something in front does TLS");
        }
        Ok(Self { listener, address, tls })
    }
}
