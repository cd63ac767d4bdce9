//! Entitlements: a subscription with the version of its plan.

use chrono::{DateTime, Utc};
use imp_core::plan::{Limit, LimitScope, LimitUnit, LimitWindow, OnExceed, QuotaAnchor};
use imp_core::subscription::{Subscription, SubscriptionStatus};
use imp_core::time_zone::{self, Rules};
use imp_grammar::time_zone::TimeZone;
use imp_proto::config as pb;
use imp_store::compile::SubscribedTerms;

use super::MessageError;

/// What a subscription may do. One that waits for approval is as little entitled as one that is
/// over; both are told, so that their keys are known but refused.
pub fn entitlement(
    bought: &SubscribedTerms,
    now: DateTime<Utc>,
) -> Result<pb::Entitlement, MessageError> {
    use pb::entitlement::State;
    let it = &bought.subscription;
    let state = match it.status {
        SubscriptionStatus::Active => State::Active,
        SubscriptionStatus::Suspended => State::Suspended,
        SubscriptionStatus::Pending
        | SubscriptionStatus::Rejected
        | SubscriptionStatus::Cancelled
        | SubscriptionStatus::Newer(_) => State::Ended,
    };
    let (state, (limits, time_zones)) = match limits(bought) {
        Ok(limits) => (state, limits),
        // What the customer lost is told whatever the terms say: nothing that is refused is counted.
        Err(_) if state != State::Active => (state, Default::default()),
        Err(_) if it.ends_at.is_some_and(|at| at <= now) => (State::Ended, Default::default()),
        Err(error) => return Err(error),
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
        limits,
        time_zones,
        expires_at_ms: it.ends_at.map_or(0, |at| at.timestamp_millis()),
        counter_key: counter_key(it),
    })
}

/// What agents that hold these terms go on with is safer than what this release makes of words that it does
/// not know.
fn limits(bought: &SubscribedTerms) -> Result<(Vec<pb::Limit>, Vec<pb::TimeZone>), MessageError> {
    let terms = bought.terms.as_ref();
    let terms = terms.map_err(|error| MessageError::UnreadableTerms(error.to_string()))?;
    super::refuse(terms.newer_word())?;
    let mut zones: Vec<Rules> = Vec::new();
    let mut limits = Vec::new();
    for limit in terms.all_limits() {
        let zone = match &limit.time_zone {
            None => None,
            Some(name) => Some(zone(&mut zones, name)?),
        };
        let since = bought.first_activated_at.or(bought.subscription.activated_at);
        let anchor_day = match (limit.anchor, since) {
            (QuotaAnchor::Subscription, Some(at)) => local_day(at, limit.utc_offset_minutes, zone)?,
            _ => 0,
        };
        let standard = zone.map_or(limit.utc_offset_minutes, |zone| zone.standard_offset / 60);
        limits.push(pb::Limit { anchor_day, ..message(limit, standard) });
    }
    Ok((limits, zones.into_iter().map(time_zone).collect()))
}

/// The rules of a zone, which go into the list once.
fn zone<'a>(zones: &'a mut Vec<Rules>, name: &str) -> Result<&'a Rules, MessageError> {
    let unknown = || MessageError::UnknownTimeZone(name.to_owned());
    if !zones.iter().any(|known| known.name == name) {
        zones.push(time_zone::rules(name).ok_or_else(unknown)?);
    }
    zones.iter().find(|known| known.name == name).ok_or_else(unknown)
}

/// The date of an instant at an offset or in a zone, in days since 1970-01-01.
fn local_day(at: DateTime<Utc>, minutes: i32, zone: Option<&Rules>) -> Result<u32, MessageError> {
    let at = at.timestamp();
    let day = match zone {
        None => (at + i64::from(minutes) * 60).div_euclid(86_400),
        Some(rules) => {
            let zone = TimeZone::read(rules.name, rules.rule, rules.changes.clone());
            zone.map_err(|_| MessageError::UnknownTimeZone(rules.name.to_owned()))?.day(at)
        }
    };
    Ok(u32::try_from(day).unwrap_or(0))
}

fn time_zone(rules: Rules) -> pb::TimeZone {
    let changes = rules
        .changes
        .iter()
        .map(|change| pb::OffsetChange { at: change.at, utc_offset_seconds: change.offset });
    pb::TimeZone {
        name: rules.name.to_owned(),
        rule: rules.rule.to_owned(),
        changes: changes.collect(),
    }
}

/// What the customer has used belongs to no plan: subscriptions that follow one another count in one
/// place, those beside one another do not.
fn counter_key(it: &Subscription) -> String {
    let first = format!("{}/{}/{}", it.customer_id, it.product_id, it.environment.as_str());
    if it.ordinal == 0 { first } else { format!("{first}/{}", it.ordinal) }
}

fn message(limit: Limit, utc_offset_minutes: i32) -> pb::Limit {
    use pb::limit::{OnExceed as Beyond, Scope, Unit, Window};
    let (window, window_seconds) = match limit.window {
        LimitWindow::Second => (Window::Rolling, 1),
        LimitWindow::Minute => (Window::Rolling, 60),
        LimitWindow::Hour => (Window::Rolling, 3600),
        LimitWindow::Day => (Window::CalendarDay, 0),
        LimitWindow::Week => (Window::CalendarWeek, 0),
        LimitWindow::Month => (Window::CalendarMonth, 0),
        LimitWindow::Year => (Window::CalendarYear, 0),
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
        name: limit.name,
        unit: unit.into(),
        amount: limit.amount,
        window: window.into(),
        window_seconds,
        on_exceed: on_exceed.into(),
        scope: scope.into(),
        utc_offset_minutes,
        time_zone: limit.time_zone.unwrap_or_default(),
        anchor_day: 0,
    }
}
