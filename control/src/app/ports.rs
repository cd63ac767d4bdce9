//! The two ports: bound, and with TLS unless nobody but this machine can reach them.

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

/// What a port is opened with.
pub(super) struct Wanted<'a> {
    /// As given.
    pub(super) address: &'a str,
    /// By which flag.
    pub(super) flag: &'static str,
    pub(super) tls: Option<Files>,
    /// Of ALPN.
    pub(super) protocols: &'a [&'a str],
    /// It may be reached from elsewhere without TLS.
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
