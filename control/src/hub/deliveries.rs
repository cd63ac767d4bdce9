//! Publishes on their way to Envoys: measures each stage from the commit on, and connects it to the
//! request that caused it.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};
use imp_core::ProductPublishId;
use imp_core::product_publish::PublishStatus;
use imp_proto::config::ResourceType;
use imp_store::Cause;
use imp_xds::{Event, Observer, SentResource};
use metrics::histogram;
use tracing::Span;

use crate::state::Clock;

/// Above this number all entries are dropped, which only loses measurements.
const MOST: usize = 10_000;

/// Publishes that were compiled and are not settled yet.
pub struct Deliveries {
    clock: Clock,
    under_way: Mutex<HashMap<ProductPublishId, Delivery>>,
}

struct Delivery {
    /// Version of the resource.
    version: String,
    cause: Cause,
    committed_at: DateTime<Utc>,
    stage: Stage,
    /// Open until the publish is settled.
    _span: Span,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Compiled,
    Sent,
    Acknowledged,
    Active,
}

impl Stage {
    fn as_str(self) -> &'static str {
        match self {
            Self::Compiled => "compiled",
            Self::Sent => "sent",
            Self::Acknowledged => "acknowledged",
            Self::Active => "active",
        }
    }
}

impl Deliveries {
    pub fn new(clock: Clock) -> Self {
        Self { clock, under_way: Mutex::default() }
    }

    /// Records that a change committed at that time led to this version of the publish's resource.
    pub fn compiled(
        &self,
        id: ProductPublishId,
        version: &str,
        cause: &Cause,
        committed_at: DateTime<Utc>,
    ) {
        let span = span_of(id, cause);
        let delivery = Delivery {
            version: version.to_owned(),
            cause: cause.clone(),
            committed_at,
            stage: Stage::Compiled,
            _span: span,
        };
        self.measure(&delivery, Stage::Compiled);
        let mut under_way = self.lock();
        if under_way.len() >= MOST {
            under_way.clear();
        }
        under_way.insert(id, delivery);
    }

    /// Records that the publish has this status now. Returns what caused it.
    pub fn settled(&self, id: ProductPublishId, status: PublishStatus) -> Option<Cause> {
        let mut under_way = self.lock();
        let waits = matches!(status, PublishStatus::Pending | PublishStatus::Deploying);
        if waits {
            return under_way.get(&id).map(|delivery| delivery.cause.clone());
        }
        let delivery = under_way.remove(&id)?;
        drop(under_way);
        if status == PublishStatus::Active {
            self.measure(&delivery, Stage::Active);
        }
        Some(delivery.cause)
    }

    /// Records that an agent was sent the resource or accepted it. Only the first one counts.
    fn reached(&self, resources: &[SentResource], stage: Stage) {
        let mut under_way = self.lock();
        if under_way.is_empty() {
            return;
        }
        for resource in resources {
            let Ok(id) = resource.name().parse::<ProductPublishId>() else { continue };
            let Some(delivery) = under_way.get_mut(&id) else { continue };
            let this = resource.version().is_some_and(|version| **version == *delivery.version);
            if this && delivery.stage < stage {
                delivery.stage = stage;
                self.measure(delivery, stage);
            }
        }
    }

    fn measure(&self, delivery: &Delivery, stage: Stage) {
        // The commit time is from the database's clock, which may be ahead of ours.
        let took = (self.clock.now() - delivery.committed_at).to_std().unwrap_or_default();
        histogram!("imp_delivery_seconds", "stage" => stage.as_str()).record(took.as_secs_f64());
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ProductPublishId, Delivery>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// None without a trace to which it belongs: the registry keeps a kilobyte for each that is open.
fn span_of(id: ProductPublishId, cause: &Cause) -> Span {
    if cause.traceparent.is_empty() {
        return Span::none();
    }
    let span = tracing::info_span!("delivery", publish = %id, request_id = cause.request_id);
    imp_process::traces::follow(&span, &cause.traceparent);
    span
}

impl Observer for Deliveries {
    fn event(&self, event: Event<'_>) {
        let publish = ResourceType::Publish.type_url();
        match event {
            Event::Sent { type_url, resources, .. } if type_url.as_str() == publish => {
                self.reached(resources, Stage::Sent);
            }
            Event::Acked { type_url, resources, .. } if type_url.as_str() == publish => {
                self.reached(resources, Stage::Acknowledged);
            }
            _ => {}
        }
    }
}
