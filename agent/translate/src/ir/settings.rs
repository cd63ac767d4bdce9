//! How Envoy deals with a backend.

/// How Envoy deals with a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How often a call is tried again.
    pub retries: u32,
    /// When an endpoint is taken out for a while; never when absent.
    pub ejection: Option<Ejection>,
    /// What endpoints are asked regularly.
    pub health_check: Option<HealthCheck>,
    /// Plain text when absent.
    pub tls: Option<Tls>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            retries: RETRIES,
            ejection: Some(Ejection::default()),
            health_check: None,
            tls: None,
        }
    }
}

/// Of a backend that doesn't say.
pub const RETRIES: u32 = 2;

/// When an endpoint is taken out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ejection {
    /// After so many failures in a row.
    pub failures: u32,
    /// For so long, the first time.
    pub ejection_ms: u32,
}

impl Default for Ejection {
    fn default() -> Self {
        Self { failures: 5, ejection_ms: 10_000 }
    }
}

/// What endpoints are asked regularly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// Of a GET; a connection is enough when absent.
    pub path: Option<String>,
    /// The host of that GET.
    pub host: Option<String>,
    /// Between two; 5,000 at least.
    pub interval_ms: u32,
    /// Until one has failed; less than routes wait for their clusters.
    pub timeout_ms: u32,
    /// So many good ones bring an endpoint back.
    pub healthy: u32,
    /// So many bad ones take it out.
    pub unhealthy: u32,
}

/// TLS to the endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// Sent, and expected of the certificate. None: the endpoints are addresses, and these are expected.
    pub sni: Option<String>,
    /// Who is believed.
    pub trust: Trust,
}

/// Who is believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// The system's authorities.
    System,
    /// These, PEM.
    Authorities(String),
    /// Everyone.
    Anyone,
}
