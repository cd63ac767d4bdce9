//! The events of a publish's conditions: one when a condition begins or says something else, and one when delivery
//! is again what it is otherwise. Drift that was corrected was told when it began.

use chrono::{DateTime, Utc};
use imp_core::product_publish::{ProductPublish, PublishCondition};
use imp_store::audit::{self, Actor};
use serde_json::{Value, json};

const DRIFTED: &str = "drifted";

/// Rows for the audit trail, each with its payload.
pub(super) fn events(
    before: &ProductPublish,
    after: &ProductPublish,
    now: DateTime<Utc>,
) -> Vec<(audit::Entry, Value)> {
    let is_new = |it: &&PublishCondition| {
        // Each drift is one of its own; otherwise times may move.
        let same = |known: &PublishCondition| match it.kind.as_str() {
            DRIFTED => known.since == it.since,
            _ => known.reason == it.reason,
        };
        !before.conditions.iter().any(|known| known.kind == it.kind && same(known))
    };
    let begun = after.conditions.iter().filter(is_new).map(|it| (it, true));
    let has_none = |it: &&PublishCondition| {
        it.kind != DRIFTED && !after.conditions.iter().any(|now| now.kind == it.kind)
    };
    let ended = before.conditions.iter().filter(has_none).map(|it| (it, false));
    begun
        .chain(ended)
        .map(|(it, holds)| (row(after, it, holds, now), payload(after, it, holds)))
        .collect()
}

fn row(
    publish: &ProductPublish,
    it: &PublishCondition,
    holds: bool,
    now: DateTime<Utc>,
) -> audit::Entry {
    let what = match (&it.object, &it.field) {
        (Some(object), Some(field)) => {
            format!("{object} {field} by {}", it.by.as_deref().unwrap_or("somebody"))
        }
        _ if holds => it.reason.clone(),
        _ => "over".to_owned(),
    };
    audit::Entry {
        at: now,
        actor: Actor::Platform,
        tenant_id: Some(publish.tenant_id),
        operation: audit::CONDITION.to_owned(),
        object_id: publish.id.into(),
        detail: format!("{}: {what}", it.kind),
        request_id: String::new(),
    }
}

fn payload(publish: &ProductPublish, it: &PublishCondition, holds: bool) -> Value {
    json!({
        "condition": it,
        "holds": holds,
        "product_id": publish.spec.product_id,
        "cluster_id": publish.spec.cluster_id,
        "environment": publish.spec.environment,
    })
}
