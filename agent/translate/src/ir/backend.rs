//! Parses the settings of a backend.

use imp_grammar::pem;
use imp_proto::config as pb;

use super::error::ParseError;
use super::grammar::{self, Fault};
use super::model::Endpoint;
use super::route::optional;
use super::settings::{Ejection, HealthCheck, Settings, Tls, Trust};
use imp_grammar::hosts::EndpointHost;

const MAX_RETRIES: u32 = 5;
/// A new cluster takes part when the first check of each endpoint has ended, and until then Envoy
/// acknowledges no cluster of anybody. The routes wait two seconds for that, so a check takes less. More may
/// be stored.
const MAX_CHECK_MS: u32 = 1_000;
const CHECK_MS: u32 = 500;
/// Every Envoy checks every endpoint. Less may be stored.
const MIN_CHECK_INTERVAL_MS: u32 = 5_000;

pub(super) fn settings(
    message: &pb::Backend,
    endpoints: &[Endpoint],
    is_tls: bool,
) -> Result<Settings, ParseError> {
    let default = Settings::default();
    let tls = match (&message.tls, is_tls) {
        (None, false) => None,
        (Some(tls), true) => Some(parse_tls(tls, endpoints).map_err(|e| e.within("tls"))?),
        _ => return Err(ParseError::new("tls", Fault::Unsupported("TLS without its protocol"))),
    };
    let detection = match &message.outlier_detection {
        None => default.ejection,
        Some(it) => parse_ejection(it).map_err(|e| e.within("outlier_detection"))?,
    };
    let check = message.health_check.as_ref();
    let check = check.map(|it| parse_health_check(it, endpoints));
    Ok(Settings {
        retries: match &message.retries {
            None => default.retries,
            Some(pb::Retries { attempts: attempts @ 0..=MAX_RETRIES }) => *attempts,
            Some(it) => return Err(out_of_range("retries/attempts", it.attempts)),
        },
        ejection: detection,
        health_check: check.transpose().map_err(|e| e.within("health_check"))?,
        tls,
    })
}

fn out_of_range(field: &str, number: u32) -> ParseError {
    ParseError::new(field, Fault::OutOfRange(number.into()))
}

/// A number; 0 stands for the default.
fn number(field: &str, said: u32, default: u32, most: u32) -> Result<u32, ParseError> {
    grammar::milliseconds(said, default, most).map_err(|fault| ParseError::new(field, fault))
}

fn parse_ejection(message: &pb::OutlierDetection) -> Result<Option<Ejection>, ParseError> {
    let default = Ejection::default();
    let ejection = Ejection {
        failures: number(
            "consecutive_failures",
            message.consecutive_failures,
            default.failures,
            100,
        )?,
        ejection_ms: number("ejection_ms", message.ejection_ms, default.ejection_ms, 300_000)?,
    };
    Ok((!message.disabled).then_some(ejection))
}

/// Refuses names: Envoy would connect for a check to whatever address a name has by then, and no
/// rule of ours would see it.
fn parse_health_check(
    message: &pb::HealthCheck,
    endpoints: &[Endpoint],
) -> Result<HealthCheck, ParseError> {
    let named = |endpoint: &Endpoint| matches!(endpoint.host, EndpointHost::Name(_));
    if endpoints.iter().any(named) {
        return Err(ParseError::new("path", Fault::Unsupported("a health check of a name")));
    }
    Ok(HealthCheck {
        path: optional("path", &message.path, grammar::path)?,
        host: optional("host", &message.host, grammar::hostname)?,
        interval_ms: number("interval_ms", message.interval_ms, 10_000, 300_000)?
            .max(MIN_CHECK_INTERVAL_MS),
        timeout_ms: number("timeout_ms", message.timeout_ms, CHECK_MS, 60_000)?.min(MAX_CHECK_MS),
        healthy: number("healthy_threshold", message.healthy_threshold, 2, 10)?,
        unhealthy: number("unhealthy_threshold", message.unhealthy_threshold, 3, 10)?,
    })
}

fn parse_tls(message: &pb::UpstreamTls, endpoints: &[Endpoint]) -> Result<Tls, ParseError> {
    let said = optional("sni", &message.sni, grammar::hostname)?;
    let first = endpoints.first().map(|endpoint| &endpoint.host);
    let named = |endpoint: &Endpoint| matches!(endpoint.host, EndpointHost::Name(_));
    let several = || endpoints.iter().any(|it| Some(&it.host) != first);
    if said.is_none() && endpoints.iter().any(named) && several() {
        return Err(ParseError::new("sni", Fault::Missing));
    }
    let sni = match (said, first) {
        (None, Some(EndpointHost::Name(name))) => Some(name.clone()),
        (said, _) => said,
    };
    let trust = match (message.ca_pem.as_str(), message.insecure) {
        (_, true) => Trust::Anyone,
        ("", false) => Trust::System,
        (pem, false) => {
            pem::authorities(pem)
                .map_err(|fault| ParseError::new("ca_pem", Fault::Exceeded(fault.to_string())))?;
            Trust::Authorities(pem.to_owned())
        }
    };
    Ok(Tls { sni, trust })
}
