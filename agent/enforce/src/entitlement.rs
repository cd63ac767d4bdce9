//! What a subscription may do, and how much of it is used.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use imp_proto::config as pb;

use crate::access::PublishAccess;
use crate::account::{Account, Class};
use crate::limit::{Held, Limit};
use crate::parse::{ParseError, id, required};
use crate::spec::Spec;
use crate::terms::Terms;

/// What a subscription may do, as the control plane says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entitlement {
    terms: Arc<Terms>,
    /// What its calls count in.
    counter_key: Arc<str>,
    /// Only this publish; empty: every one of product and environment.
    product_publish_id: Arc<str>,
    state: State,
    /// Why it is suspended, in the provider's words.
    reason: Option<String>,
    limits: Vec<Spec>,
    expires_at_ms: Option<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Active,
    Suspended,
    /// Over, or in a state that is newer than this engine.
    Ended,
}

impl Entitlement {
    /// Reads a message. A state that is not known entitles to nothing; a window, scope or consequence of
    /// a limit that is not known is taken as the one that lets fewest pass.
    pub fn parse(message: &pb::Entitlement) -> Result<Self, ParseError> {
        let terms = Terms {
            tenant_id: id("tenant_id", &message.tenant_id)?,
            customer_id: id("customer_id", &message.customer_id)?,
            subscription_id: required("id", &message.id)?,
            plan_id: id("plan_id", &message.plan_id)?,
            plan_version: message.plan_version,
            product_id: id("product_id", &message.product_id)?,
            environment: id("environment", &message.environment)?,
        };
        // A control plane that does not say knows no other than the subscription.
        let counter_key = match message.counter_key.as_str() {
            "" => terms.subscription_id.clone(),
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
            limits: message.limits.iter().map(Spec::parse).collect(),
            expires_at_ms: Some(message.expires_at_ms).filter(|at| *at != 0),
            terms: Arc::new(terms),
        })
    }

    /// The subscription's id.
    pub fn id(&self) -> &str {
        &self.terms.subscription_id
    }

    /// Whether it is active, and stays so until somebody says otherwise.
    pub fn is_unlimited_in_time(&self) -> bool {
        self.state == State::Active && self.expires_at_ms.is_none()
    }

    pub(crate) fn counter_key(&self) -> &str {
        &self.counter_key
    }
}

/// An entitlement, and where its limits count.
#[derive(Debug)]
pub(crate) struct Entitled {
    content: Entitlement,
    limits: Vec<Limit>,
    /// Keeps it from being forgotten.
    _account: Arc<Account>,
}

/// Why an entitlement does not let a call pass.
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
    /// Its limits count in the account, where those of another plan may have counted before.
    pub(crate) fn new(content: Entitlement, account: Arc<Account>) -> Self {
        let classes = Class::of(&content.limits);
        let limit = |(spec, class): (&Spec, Class)| Limit::on(spec.clone(), account.meters(class));
        let limits = content.limits.iter().zip(classes).map(limit).collect();
        Self { content, limits, _account: account }
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
        if *terms.tenant_id != publish.tenant_id || *terms.product_id != publish.product_id {
            return Err(Gap::WrongProduct);
        }
        if *terms.environment != publish.environment {
            return Err(Gap::WrongEnvironment);
        }
        let pinned_elsewhere = !pin.is_empty() && **pin != publish.publish_id;
        if pinned_elsewhere { Err(Gap::WrongPublish) } else { Ok(()) }
    }

    pub(crate) fn held(&self, consumer: &Arc<str>) -> impl Iterator<Item = Held<'_>> {
        self.limits.iter().map(move |limit| limit.held(consumer))
    }
}
