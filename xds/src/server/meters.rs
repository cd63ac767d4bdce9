//! Metric handles per type. Looked up once per stream and type, because a look-up costs as much as
//! sending a small response.

use metrics::{Counter, Histogram};

pub(super) struct Meters {
    pub(super) responses: Counter,
    pub(super) sent_bytes: Counter,
    pub(super) acks: Counter,
    pub(super) nacks: Counter,
    pub(super) answer_seconds: Histogram,
}

impl Meters {
    pub(super) fn of(type_url: &str) -> Self {
        let type_url = || type_url.to_owned();
        Self {
            responses: metrics::counter!("xds_responses_total", "type_url" => type_url()),
            sent_bytes: metrics::counter!("xds_sent_bytes_total"),
            acks: metrics::counter!("xds_acks_total", "type_url" => type_url()),
            nacks: metrics::counter!("xds_nacks_total", "type_url" => type_url()),
            answer_seconds: metrics::histogram!("xds_answer_seconds"),
        }
    }
}
