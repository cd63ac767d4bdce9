//! The channel to the control plane.

use std::path::Path;
use std::time::Duration;

use thiserror::Error;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

/// Why there is no channel.
#[derive(Debug, Error)]
pub enum EndpointError {
    /// Not a URL that we can use.
    #[error("--control {url}: {why}; give it as http://HOST:PORT or https://HOST:PORT")]
    Url {
        /// As given.
        url: String,
        /// In words.
        why: String,
    },
    /// TLS without anyone to trust.
    #[error("--control {url}: https needs --control-ca, the certificate authority (PEM) to trust")]
    NoAuthority {
        /// As given.
        url: String,
    },
    /// The file of the certificate authority.
    #[error("--control-ca {path}: {why}")]
    Authority {
        /// As given.
        path: String,
        /// In words.
        why: String,
    },
}

/// Connects when it is first used, and again after every loss.
pub fn channel(url: &str, authority: Option<&Path>) -> Result<Channel, EndpointError> {
    let wrong = |why: String| EndpointError::Url { url: url.to_owned(), why };
    let endpoint = Endpoint::from_shared(url.to_owned()).map_err(|e| wrong(e.to_string()))?;
    let scheme = endpoint.uri().scheme_str().unwrap_or_default().to_owned();
    if endpoint.uri().host().is_none() {
        return Err(wrong("no host".to_owned()));
    }
    let endpoint = endpoint
        .connect_timeout(Duration::from_secs(5))
        .tcp_nodelay(true)
        .http2_keep_alive_interval(Duration::from_secs(10))
        .keep_alive_timeout(Duration::from_secs(5))
        .keep_alive_while_idle(true)
        // Responses are of some megabytes.
        .initial_stream_window_size(8 << 20)
        .initial_connection_window_size(16 << 20);
    match (scheme.as_str(), authority) {
        ("http", _) => Ok(endpoint.connect_lazy()),
        ("https", Some(path)) => {
            let failed =
                |why: String| EndpointError::Authority { path: path.display().to_string(), why };
            let pem = std::fs::read(path).map_err(|why| failed(why.to_string()))?;
            let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem));
            let endpoint = endpoint.tls_config(tls).map_err(|why| failed(why.to_string()))?;
            Ok(endpoint.connect_lazy())
        }
        ("https", None) => Err(EndpointError::NoAuthority { url: url.to_owned() }),
        _ => Err(wrong("not http or https".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_no_address_is_named() {
        for wrong in ["", "127.0.0.1:1", "ftp://host:1", "/only/a/path", "http://"] {
            let error = channel(wrong, None).unwrap_err().to_string();
            assert!(error.contains("--control") && error.contains("http"), "{wrong}: {error}");
        }
        assert!(channel("https://host:1", None).unwrap_err().to_string().contains("--control-ca"));
        assert!(channel("http://host:1", None).is_ok());
    }
}
