//! Backends and their load-balancing and connection settings.

use imp_core::route::{Backend, HealthCheck, OutlierDetection, UpstreamTls};
use imp_proto::config as pb;

/// The settings without the endpoints.
pub(super) fn settings(backend: &Backend) -> pb::Backend {
    let retries = backend.retries.as_ref().map(|it| pb::Retries { attempts: it.attempts });
    pb::Backend {
        retries,
        outlier_detection: backend.outlier_detection.as_ref().map(outlier_detection),
        health_check: backend.health_check.as_ref().map(health_check),
        tls: backend.tls.as_ref().map(tls),
        ..Default::default()
    }
}

fn outlier_detection(detection: &OutlierDetection) -> pb::OutlierDetection {
    pb::OutlierDetection {
        disabled: !detection.enabled,
        consecutive_failures: detection.consecutive_failures.unwrap_or_default(),
        ejection_ms: detection.ejection_ms.unwrap_or_default(),
    }
}

fn health_check(check: &HealthCheck) -> pb::HealthCheck {
    pb::HealthCheck {
        path: check.path.clone().unwrap_or_default(),
        host: check.host.clone().map(super::canonical).unwrap_or_default(),
        interval_ms: check.interval_ms.unwrap_or_default(),
        timeout_ms: check.timeout_ms.unwrap_or_default(),
        healthy_threshold: check.healthy_threshold.unwrap_or_default(),
        unhealthy_threshold: check.unhealthy_threshold.unwrap_or_default(),
    }
}

fn tls(tls: &UpstreamTls) -> pb::UpstreamTls {
    pb::UpstreamTls {
        sni: tls.sni.clone().map(super::canonical).unwrap_or_default(),
        ca_pem: tls.ca.clone().unwrap_or_default(),
        insecure: tls.insecure,
    }
}
