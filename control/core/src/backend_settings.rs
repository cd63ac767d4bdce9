//! How a gateway treats a backend: retries, outlier detection, health checks, TLS.

use std::collections::HashSet;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::X509Version;

use crate::check::Fault;
use crate::{Violations, grammar};

/// How often a call is retried, on another endpoint if there is one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Retries {
    /// 0 to 5 retries of calls that no endpoint has seen; of GET, HEAD and OPTIONS also when the
    /// connection broke before an answer.
    pub attempts: u32,
}

/// Ejects endpoints that fail repeatedly. The last one stays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OutlierDetection {
    /// True when absent.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Consecutive failures that eject an endpoint: failed connections, and answers of 502, 503 or
    /// 504. 1 to 100; 5 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consecutive_failures: Option<u32>,
    /// Milliseconds of the first ejection; later ones last longer. 1,000 to 300,000; 10,000 when
    /// absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ejection_ms: Option<u32>,
}

fn yes() -> bool {
    true
}

/// Checks endpoints regularly.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HealthCheck {
    /// The path of a GET that must be answered with 200; when absent, a connection is enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "/healthz")]
    pub path: Option<String>,
    /// The `Host` header of that request; the endpoint's address when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Milliseconds between two checks. 5,000 to 300,000; 10,000 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval_ms: Option<u32>,
    /// Milliseconds after which a check has failed. 100 to 1,000; 500 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u32>,
    /// Consecutive successes that bring an endpoint back. 1 to 10; 2 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthy_threshold: Option<u32>,
    /// Consecutive failures that remove an endpoint. 1 to 10; 3 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unhealthy_threshold: Option<u32>,
}

/// Uses TLS to the endpoints and verifies their certificates.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpstreamTls {
    /// The name that the certificate must have. When absent, the endpoints' own name, of which
    /// there must be only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "api.example.com")]
    pub sni: Option<String>,
    /// Certificates of authorities, PEM; the system's when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// Disables verification.
    #[serde(default, skip_serializing_if = "crate::stored::is_default")]
    pub insecure: bool,
}

fn is_address(host: &str) -> bool {
    let bare = host.strip_prefix('[').and_then(|it| it.strip_suffix(']')).unwrap_or(host);
    bare.parse::<IpAddr>().is_ok()
}

fn within(v: &mut Violations, name: &str, value: Option<u32>, least: u32, most: u32) {
    if value.is_some_and(|value| !(least..=most).contains(&value)) {
        v.add(name, "out_of_range", format!("{least} to {most}"));
    }
}

impl Retries {
    pub(crate) fn check(&self, v: &mut Violations) {
        within(v, "attempts", Some(self.attempts), 0, 5);
    }
}

impl OutlierDetection {
    pub(crate) fn check(&self, v: &mut Violations) {
        within(v, "consecutive_failures", self.consecutive_failures, 1, 100);
        within(v, "ejection_ms", self.ejection_ms, 1_000, 300_000);
        let further = self.consecutive_failures.is_some() || self.ejection_ms.is_some();
        if !self.enabled && further {
            v.add("enabled", "conflict", "the other fields need it");
        }
    }
}

impl HealthCheck {
    pub(crate) fn check(&self, v: &mut Violations) {
        self.path.as_deref().map(|path| v.take("path", grammar::path(path)));
        self.host.as_deref().map(|host| v.take("host", grammar::hostname(host)));
        if self.host.is_some() && self.path.is_none() {
            v.add("host", "without_effect", "only a request has a host; give a `path`");
        }
        within(v, "interval_ms", self.interval_ms, 5_000, 300_000);
        within(v, "timeout_ms", self.timeout_ms, 100, 1_000);
        within(v, "healthy_threshold", self.healthy_threshold, 1, 10);
        within(v, "unhealthy_threshold", self.unhealthy_threshold, 1, 10);
    }

    /// Envoy connects for a check to whatever address a name has by then, so only addresses are
    /// allowed.
    pub(crate) fn check_endpoints<'a>(
        v: &mut Violations,
        mut hosts: impl Iterator<Item = &'a str>,
    ) {
        if let Some(name) = hosts.find(|host| !is_address(host)) {
            let why = format!("{name} is a name; checks are made of endpoints that are addresses");
            v.add("health_check", "unsupported_health_check", why);
        }
    }
}

impl UpstreamTls {
    pub(crate) fn check<'a>(&self, v: &mut Violations, hosts: impl Iterator<Item = &'a str>) {
        self.sni.as_deref().map(|sni| v.take("sni", grammar::hostname(sni)));
        if let Some(ca) = &self.ca {
            v.take("ca", authorities(ca));
        }
        if self.insecure && self.ca.is_some() {
            v.add("ca", "conflict", "with `insecure` nothing is verified");
        }
        // Addresses count as one name: each is verified against itself.
        let name = |host: &str| match is_address(host) {
            true => None,
            false => Some(host.trim_end_matches('.').to_ascii_lowercase()),
        };
        let names: HashSet<_> = hosts.map(name).collect();
        if self.sni.is_none() && names.len() > 1 {
            v.add("sni", "required", "the endpoints have several names; say which one to expect");
        }
    }
}

fn authorities(pem: &str) -> Result<(), Fault> {
    let invalid = |detail: String| Fault::new("invalid_certificates", detail);
    let found = imp_grammar::pem::authorities(pem).map_err(|fault| invalid(fault.to_string()))?;
    match found.iter().position(|der| !is_certificate(der)) {
        Some(index) => Err(invalid(format!("block {} is no X.509 certificate", index + 1))),
        None => Ok(()),
    }
}

/// What Envoy could not read would be refused with the whole publish, long after its author was told
/// that all is well.
fn is_certificate(der: &[u8]) -> bool {
    let read = X509Certificate::from_der(der);
    read.is_ok_and(|(rest, certificate)| {
        rest.is_empty() && certificate.version().0 <= X509Version::V3.0
    })
}
