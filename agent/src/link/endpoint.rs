//! The channel to the control plane.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use imp_process::file::{self, FileFault};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use thiserror::Error;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

/// The reason why there is no channel.
#[derive(Debug, Error)]
pub enum EndpointError {
    /// The URL cannot be used.
    #[error("--control {url}: {why}; give it as http://HOST:PORT or https://HOST:PORT")]
    Url {
        /// The URL as configured.
        url: String,
        why: String,
    },
    /// TLS without a certificate authority.
    #[error("--control {url}: https needs --control-ca, the certificate authority (PEM) to trust")]
    NoAuthority {
        /// The URL as configured.
        url: String,
    },
    /// Without TLS, tokens would be readable on the network.
    #[error(
        "--control {url}: without TLS only a control plane on this machine is spoken to; give https://, or --insecure where the network is trusted"
    )]
    Insecure {
        /// The URL as configured.
        url: String,
    },
    /// The file of the certificate authority cannot be read.
    #[error("--control-ca: {0}")]
    Authority(FileFault),
}

/// Connects on first use, and again after every loss. `insecure` allows other machines without TLS.
pub fn channel(
    url: &str,
    authority: Option<&Path>,
    insecure: bool,
) -> Result<Channel, EndpointError> {
    let wrong = |why: String| EndpointError::Url { url: url.to_owned(), why };
    let endpoint = Endpoint::from_shared(url.to_owned()).map_err(|e| wrong(e.to_string()))?;
    let scheme = endpoint.uri().scheme_str().unwrap_or_default().to_owned();
    let host = endpoint.uri().host().ok_or_else(|| wrong("no host".to_owned()))?;
    if scheme == "http" && !insecure && !is_loopback(host) {
        return Err(EndpointError::Insecure { url: url.to_owned() });
    }
    let endpoint = endpoint
        .connect_timeout(Duration::from_secs(5))
        .tcp_nodelay(true)
        .http2_keep_alive_interval(Duration::from_secs(10))
        .keep_alive_timeout(Duration::from_secs(5))
        .keep_alive_while_idle(true)
        // Responses can be several megabytes.
        .initial_stream_window_size(8 << 20)
        .initial_connection_window_size(16 << 20);
    match (scheme.as_str(), authority) {
        ("http", _) => Ok(endpoint.connect_lazy()),
        ("https", Some(path)) => {
            let pem = authority_in(path).map_err(EndpointError::Authority)?;
            let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem));
            let unusable = |why| FileFault::new(path, AUTHORITY, format!("cannot be used: {why}"));
            let endpoint =
                endpoint.tls_config(tls).map_err(|why| EndpointError::Authority(unusable(why)))?;
            Ok(endpoint.connect_lazy())
        }
        ("https", None) => Err(EndpointError::NoAuthority { url: url.to_owned() }),
        _ => Err(wrong("not http or https".to_owned())),
    }
}

/// What the file must contain, for error messages.
const AUTHORITY: &str = "the certificate authority of the control plane in PEM";

/// The authorities of a whole system are some hundred thousand bytes.
const MOST: u64 = 4 * 1024 * 1024;

/// Checked here, because the channel accepts a file without a certificate, and then trusts nobody.
fn authority_in(path: &Path) -> Result<Vec<u8>, FileFault> {
    let pem = file::read(path, AUTHORITY, MOST)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(pem),
        _ => Err(FileFault::unfit(path, AUTHORITY, &pem)),
    }
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_no_address_is_named() {
        for wrong in ["", "127.0.0.1:1", "ftp://host:1", "/only/a/path", "http://"] {
            let error = channel(wrong, None, true).unwrap_err().to_string();
            assert!(error.contains("--control") && error.contains("http"), "{wrong}: {error}");
        }
        assert!(
            channel("https://host:1", None, false)
                .unwrap_err()
                .to_string()
                .contains("--control-ca")
        );
    }

    #[tokio::test]
    async fn without_tls_only_this_machine_is_spoken_to_unless_it_is_said() {
        for here in ["http://127.0.0.1:1", "http://[::1]:1", "http://localhost:1"] {
            assert!(channel(here, None, false).is_ok(), "{here}");
        }
        for away in ["http://host:1", "http://10.0.0.1:1", "http://localhost.example.com:1"] {
            let error = channel(away, None, false).unwrap_err().to_string();
            assert!(error.contains("--insecure"), "{error}");
            assert!(channel(away, None, true).is_ok(), "{away}");
        }
    }
}
