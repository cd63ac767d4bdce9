//! The settings of a backend.

/// The settings of a backend.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Settings {
    /// How often a call is retried.
    pub retries: u32,
    /// When to eject an endpoint; never when absent.
    pub ejection: Option<Ejection>,
    /// The active health check, if any.
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

/// The default number of retries.
pub const RETRIES: u32 = 2;

/// When to eject an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ejection {
    /// Consecutive failures that eject it.
    pub failures: u32,
    /// Milliseconds of the first ejection.
    pub ejection_ms: u32,
}

impl Default for Ejection {
    fn default() -> Self {
        Self { failures: 5, ejection_ms: 10_000 }
    }
}

/// An active health check.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HealthCheck {
    /// The path of a GET; when absent, a connection is enough.
    pub path: Option<String>,
    /// The host of that GET.
    pub host: Option<String>,
    /// Milliseconds between two checks; 5,000 at least.
    pub interval_ms: u32,
    /// Milliseconds after which a check has failed; less than routes wait for their clusters.
    pub timeout_ms: u32,
    /// Consecutive successes that bring an endpoint back.
    pub healthy: u32,
    /// Consecutive failures that remove an endpoint.
    pub unhealthy: u32,
}

/// TLS to the endpoints.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tls {
    /// The SNI, also expected in the certificate. `None`: the endpoints are addresses, which are
    /// expected instead.
    pub sni: Option<String>,
    /// The trusted authorities.
    pub trust: Trust,
}

/// The trusted authorities.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Trust {
    /// The system's authorities.
    System,
    /// These, PEM.
    Authorities(String),
    /// No verification.
    Anyone,
}
