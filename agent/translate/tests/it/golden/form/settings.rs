//! The settings of a backend in the short form.

use imp_proto::config as pb;
use serde::Deserialize;

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Settings {
    retries: Option<u32>,
    outlier_detection: Option<OutlierDetection>,
    health_check: Option<HealthCheck>,
    tls: Option<Tls>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct OutlierDetection {
    disabled: bool,
    consecutive_failures: u32,
    ejection_ms: u32,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct HealthCheck {
    path: String,
    host: String,
    interval_ms: u32,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Tls {
    sni: String,
    insecure: bool,
}

impl Settings {
    pub(super) fn message(&self) -> pb::Backend {
        let detection = |it: &OutlierDetection| pb::OutlierDetection {
            disabled: it.disabled,
            consecutive_failures: it.consecutive_failures,
            ejection_ms: it.ejection_ms,
        };
        let check = |it: &HealthCheck| pb::HealthCheck {
            path: it.path.clone(),
            host: it.host.clone(),
            interval_ms: it.interval_ms,
            ..Default::default()
        };
        let tls = |it: &Tls| pb::UpstreamTls {
            sni: it.sni.clone(),
            insecure: it.insecure,
            ..Default::default()
        };
        pb::Backend {
            retries: self.retries.map(|attempts| pb::Retries { attempts }),
            outlier_detection: self.outlier_detection.as_ref().map(detection),
            health_check: self.health_check.as_ref().map(check),
            tls: self.tls.as_ref().map(tls),
            ..Default::default()
        }
    }
}
