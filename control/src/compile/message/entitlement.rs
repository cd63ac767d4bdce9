//! Entitlements: a subscription with the version of its plan.

use imp_core::plan::{Limit, LimitScope, LimitUnit, LimitWindow, OnExceed};
use imp_core::subscription::{Subscription, SubscriptionStatus};
use imp_proto::config as pb;
use imp_store::compile::SubscribedTerms;

use super::MessageError;

/// What a subscription may do. Pending and ended subscriptions are sent too, so that their keys are
/// known but refused.
pub fn entitlement(bought: &SubscribedTerms) -> Result<pb::Entitlement, MessageError> {
    use pb::entitlement::State;
    super::refuse(bought.terms.newer_word())?;
    let it = &bought.subscription;
    let state = match it.status {
        SubscriptionStatus::Active => State::Active,
        SubscriptionStatus::Suspended => State::Suspended,
        SubscriptionStatus::Pending
        | SubscriptionStatus::Rejected
        | SubscriptionStatus::Cancelled
        | SubscriptionStatus::Newer(_) => State::Ended,
    };
    Ok(pb::Entitlement {
        id: it.id.to_string(),
        tenant_id: it.tenant_id.to_string(),
        customer_id: it.customer_id.to_string(),
        product_id: it.product_id.to_string(),
        environment: it.environment.as_str().to_owned(),
        product_publish_id: it.product_publish_id.map(|id| id.to_string()).unwrap_or_default(),
        state: state.into(),
        reason: it.reason.clone(),
        plan_id: it.plan_id.to_string(),
        // Versions begin at 1.
        plan_version: u64::try_from(it.plan_version).unwrap_or(0),
        limits: bought.terms.all_limits().iter().map(limit).collect(),
        expires_at_ms: it.ends_at.map_or(0, |at| at.timestamp_millis()),
        counter_key: counter_key(it),
    })
}

/// Usage is counted per customer, not per plan: consecutive subscriptions share one counter,
/// simultaneous ones do not.
fn counter_key(it: &Subscription) -> String {
    let first = format!("{}/{}/{}", it.customer_id, it.product_id, it.environment.as_str());
    if it.ordinal == 0 { first } else { format!("{first}/{}", it.ordinal) }
}

fn limit(limit: &Limit) -> pb::Limit {
    use pb::limit::{OnExceed as Beyond, Scope, Unit, Window};
    let (window, window_seconds) = match limit.window {
        LimitWindow::Second => (Window::Rolling, 1),
        LimitWindow::Minute => (Window::Rolling, 60),
        LimitWindow::Hour => (Window::Rolling, 3600),
        LimitWindow::Day => (Window::CalendarDay, 0),
        LimitWindow::Week => (Window::CalendarWeek, 0),
        LimitWindow::Month => (Window::CalendarMonth, 0),
        // Refused above, and by agents, here and below.
        LimitWindow::Newer(_) => (Window::Unspecified, 0),
    };
    let unit = match limit.unit {
        LimitUnit::Requests => Unit::Requests,
        LimitUnit::Newer(_) => Unit::Unspecified,
    };
    let on_exceed = match limit.on_exceed {
        OnExceed::Block => Beyond::Block,
        OnExceed::Overage => Beyond::Overage,
        OnExceed::Newer(_) => Beyond::Unspecified,
    };
    let scope = match limit.scope {
        LimitScope::Subscription => Scope::Subscription,
        LimitScope::Consumer => Scope::Consumer,
        LimitScope::Newer(_) => Scope::Unspecified,
    };
    pb::Limit {
        name: limit.name.clone(),
        unit: unit.into(),
        amount: limit.amount,
        window: window.into(),
        window_seconds,
        on_exceed: on_exceed.into(),
        scope: scope.into(),
        utc_offset_minutes: limit.utc_offset_minutes,
    }
}
