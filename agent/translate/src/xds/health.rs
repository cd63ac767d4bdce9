//! Endpoints that fail: when they are ejected.

use std::net::IpAddr;

use envoy_types::pb::envoy::config::cluster::v3 as cluster;
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::r#type::v3::{CodecClientType, Percent};

use super::canon::{milliseconds, truth, uint};
use super::upstreams::Upstreams;
use crate::ir;

/// How often ejected endpoints are checked, and how long they stay ejected at most.
const INTERVAL_MS: u32 = 1_000;
const MAX_EJECTION_MS: u32 = 300_000;
/// Percentage of all endpoints. The last one of up to a hundred stays.
const MOST_EJECTED: u32 = 99;

/// Ejects on consecutive failures only: rates of 5xx are up to the API. Absent for a single
/// endpoint, where there is no choice.
pub(super) fn outlier_detection(backend: &ir::Backend) -> Option<cluster::OutlierDetection> {
    let ejection = backend.settings.ejection.as_ref().filter(|_| has_choice(backend))?;
    Some(cluster::OutlierDetection {
        interval: milliseconds(INTERVAL_MS),
        base_ejection_time: milliseconds(ejection.ejection_ms),
        max_ejection_time: milliseconds(MAX_EJECTION_MS),
        max_ejection_percent: uint(MOST_EJECTED),
        split_external_local_origin_errors: true,
        consecutive_local_origin_failure: uint(ejection.failures),
        enforcing_consecutive_local_origin_failure: uint(100),
        consecutive_gateway_failure: uint(ejection.failures),
        enforcing_consecutive_gateway_failure: uint(100),
        enforcing_consecutive_5xx: uint(0),
        enforcing_success_rate: uint(0),
        enforcing_local_origin_success_rate: uint(0),
        ..Default::default()
    })
}

/// Whether there is a choice; a name may have several addresses.
fn has_choice(backend: &ir::Backend) -> bool {
    let named = |it: &ir::Endpoint| matches!(it.host, ir::EndpointHost::Name(_));
    backend.endpoints.len() > 1 || backend.endpoints.iter().any(named)
}

/// Sends calls only to healthy endpoints; if there are none, to all.
pub(super) fn lb_config(backend: &ir::Backend) -> Option<cluster::cluster::CommonLbConfig> {
    let watched = backend.settings.health_check.is_some() || has_choice(backend);
    watched.then(|| cluster::cluster::CommonLbConfig {
        healthy_panic_threshold: Some(Percent { value: 1.0 }),
        ..Default::default()
    })
}

/// Nothing checks the address that Envoy connects to for a health check, so there is none if one of
/// the addresses is closed; calls to that one are refused anyway.
pub(super) fn checks(backend: &ir::Backend, upstreams: &Upstreams) -> Vec<core::HealthCheck> {
    let is_open = |endpoint: &ir::Endpoint| match &endpoint.host {
        ir::EndpointHost::Address(address) => upstreams.admits(*address, endpoint.port),
        ir::EndpointHost::Name(_) => false,
    };
    let check = backend.settings.health_check.as_ref();
    let check = check.filter(|_| backend.endpoints.iter().all(is_open));
    check.map(|check| render(check, backend)).into_iter().collect()
}

fn render(check: &ir::HealthCheck, backend: &ir::Backend) -> core::HealthCheck {
    use core::health_check::{HealthChecker, HttpHealthCheck, TcpHealthCheck};
    let codec = if backend.http2 { CodecClientType::Http2 } else { CodecClientType::Http1 };
    let checker = match &check.path {
        None => HealthChecker::TcpHealthCheck(TcpHealthCheck::default()),
        Some(path) => HealthChecker::HttpHealthCheck(HttpHealthCheck {
            host: check.host.clone().unwrap_or_else(|| authority(backend)),
            path: path.clone(),
            codec_client_type: codec.into(),
            ..Default::default()
        }),
    };
    core::HealthCheck {
        timeout: milliseconds(check.timeout_ms),
        interval: milliseconds(check.interval_ms),
        no_traffic_interval: milliseconds(check.interval_ms),
        healthy_threshold: uint(check.healthy),
        unhealthy_threshold: uint(check.unhealthy),
        reuse_connection: truth(true),
        health_checker: Some(checker),
        ..Default::default()
    }
}

/// The host; without it Envoy would send the name of the cluster.
fn authority(backend: &ir::Backend) -> String {
    let first = backend.endpoints.first().map(|endpoint| (&endpoint.host, endpoint.port));
    match first {
        Some((ir::EndpointHost::Address(IpAddr::V6(address)), port)) => {
            format!("[{address}]:{port}")
        }
        Some((ir::EndpointHost::Address(address), port)) => format!("{address}:{port}"),
        Some((ir::EndpointHost::Name(name), _)) => name.clone(),
        None => String::new(),
    }
}
