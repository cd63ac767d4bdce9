//! Entitlements: what a subscription may do, and its usage.

use std::sync::{Arc, OnceLock};

use chrono::{DateTime, Utc};
use imp_grammar::caps;
use imp_grammar::time_zone::{OffsetChange, TimeZone};
use imp_proto::config as pb;

use crate::access::PublishAccess;
use crate::account::Account;
use crate::class::Class;
use crate::id::Id;
use crate::interned::Interned;
use crate::limit::Held;
use crate::meters::Meters;
use crate::parse::{ParseError, checked, id, required};
use crate::spec::Spec;
use crate::terms::Terms;

/// The last day of the year 9999, in days since 1970-01-01.
const LAST_DAY: u32 = 2_932_896;

/// An entitlement, as the control plane sends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entitlement {
    terms: Arc<Terms>,
    /// The key of the account that its calls are counted in.
    counter_key: Arc<str>,
    /// The only publish that it covers; empty for every one of product and environment.
    product_publish_id: Id,
    state: State,
    /// The provider's reason for suspending it.
    reason: Option<String>,
    limits: Arc<[Spec]>,
    expires_at_ms: Option<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Active,
    Suspended,
    /// Ended, or in a state of a newer release.
    Ended,
}

impl Entitlement {
    /// Parses a message. An unknown state entitles to nothing; an unknown window, scope or
    /// consequence of a limit is replaced by the strictest one.
    pub fn parse(message: &pb::Entitlement) -> Result<Self, ParseError> {
        let terms = Terms {
            tenant_id: id("tenant_id", &message.tenant_id)?,
            customer_id: id("customer_id", &message.customer_id)?,
            subscription_id: required("id", &message.id)?,
            plan_id: id("plan_id", &message.plan_id)?,
            plan_version: message.plan_version,
            product_id: id("product_id", &message.product_id)?,
            environment: checked("environment", &message.environment)?.into(),
        };
        // A control plane without counter keys counts per subscription.
        let counter_key = match message.counter_key.as_str() {
            "" => message.id.as_str().into(),
            key => key.into(),
        };
        Ok(Self {
            counter_key,
            product_publish_id: id("product_publish_id", &message.product_publish_id)?,
            state: match message.state() {
                pb::entitlement::State::Active => State::Active,
                pb::entitlement::State::Suspended => State::Suspended,
                pb::entitlement::State::Ended | pb::entitlement::State::Unspecified => State::Ended,
            },
            reason: Some(message.reason.clone()).filter(|reason| !reason.is_empty()),
            limits: limits(message)?,
            expires_at_ms: Some(message.expires_at_ms).filter(|at| *at != 0),
            terms: Arc::new(terms),
        })
    }

    /// The subscription's id.
    pub fn id(&self) -> &Id {
        &self.terms.subscription_id
    }

    /// Whether it is active without an end.
    pub fn is_unlimited_in_time(&self) -> bool {
        self.state == State::Active && self.expires_at_ms.is_none()
    }

    pub(crate) fn counter_key(&self) -> &Arc<str> {
        &self.counter_key
    }

    /// The same, sharing memory with others of its plan.
    pub(crate) fn sharing(mut self, with: &Interned) -> Self {
        let terms = Arc::make_mut(&mut self.terms);
        with.text(&mut terms.environment);
        with.limits(&self.terms.plan_id, &mut self.limits);
        self
    }
}

/// The limits, in the time zones that come with them.
fn limits(message: &pb::Entitlement) -> Result<Arc<[Spec]>, ParseError> {
    if !caps::TIME_ZONES_PER_ENTITLEMENT.admits(message.time_zones.len()) {
        return Err(ParseError::TooManyTimeZones);
    }
    let zone = |zone: &pb::TimeZone| {
        let change =
            |it: &pb::OffsetChange| OffsetChange { at: it.at, offset: it.utc_offset_seconds };
        let changes = zone.changes.iter().map(change).collect();
        TimeZone::read(&zone.name, &zone.rule, changes).map(Arc::new)
    };
    let zones = message.time_zones.iter().map(zone).collect::<Result<Vec<_>, _>>()?;
    let limit = |limit: &pb::Limit| {
        if limit.anchor_day > LAST_DAY {
            return Err(ParseError::AnchorDay(limit.anchor_day));
        }
        match limit.time_zone.as_str() {
            "" => Ok(Spec::parse(limit, None)),
            name => {
                let zone = zones.iter().find(|zone| **zone.name() == *name);
                Ok(Spec::parse(limit, Some(zone.ok_or(ParseError::Missing("time_zones"))?)))
            }
        }
    };
    message.limits.iter().map(limit).collect()
}

/// An entitlement with its limits.
#[derive(Debug)]
pub(crate) struct Entitled {
    content: Entitlement,
    /// Those of each limit, from its first call on.
    meters: Box<[OnceLock<Arc<Meters>>]>,
    account: Arc<Account>,
}

/// The reason why an entitlement does not cover a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gap {
    NoSubscription,
    Suspended,
    WrongProduct,
    WrongEnvironment,
    /// Right product and environment, but pinned to another publish.
    WrongPublish,
}

impl Entitled {
    /// Its limits use the account, in which those of another plan may have counted before.
    pub(crate) fn new(content: Entitlement, account: Arc<Account>) -> Self {
        let meters = content.limits.iter().map(|_| OnceLock::new()).collect();
        Self { content, meters, account }
    }

    pub(crate) fn terms(&self) -> &Arc<Terms> {
        &self.content.terms
    }

    pub(crate) fn reason(&self) -> Option<&str> {
        self.content.reason.as_deref()
    }

    /// Whether it covers a publish now.
    pub(crate) fn covers(&self, publish: &PublishAccess, now: DateTime<Utc>) -> Result<(), Gap> {
        let Entitlement { terms, state, expires_at_ms, product_publish_id: pin, .. } =
            &self.content;
        let over = expires_at_ms.is_some_and(|at| now.timestamp_millis() >= at);
        match state {
            State::Active if !over => {}
            State::Suspended if !over => return Err(Gap::Suspended),
            _ => return Err(Gap::NoSubscription),
        }
        let public = publish.rules().public();
        if terms.tenant_id != public.tenant_id || terms.product_id != public.product_id {
            return Err(Gap::WrongProduct);
        }
        if terms.environment != public.environment {
            return Err(Gap::WrongEnvironment);
        }
        let pinned_elsewhere = !pin.is_empty() && pin.text().as_str() != &**publish.publish_id();
        if pinned_elsewhere { Err(Gap::WrongPublish) } else { Ok(()) }
    }

    pub(crate) fn held(&self, consumer: &Id) -> impl Iterator<Item = Held<'_>> {
        let limits = self.content.limits.iter().zip(&self.meters).enumerate();
        limits.map(move |(place, (spec, meters))| {
            let meters = meters.get_or_init(|| self.begin(place, spec));
            Held::new(spec, meters.of_holder(consumer))
        })
    }

    /// The account's meters for a limit.
    fn begin(&self, place: usize, spec: &Spec) -> Arc<Meters> {
        let class = Class::of(&self.content.limits).into_iter().nth(place);
        self.account.meters(class.unwrap_or_else(|| Class::alone(spec)))
    }
}
