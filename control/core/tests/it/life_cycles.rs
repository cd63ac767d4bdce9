//! Each life cycle allows exactly its transitions.

use std::fmt::Debug;

use chrono::{TimeDelta, Utc};
use imp_core::Transition;
use imp_core::api_service::ApiServiceStatus;
use imp_core::cluster::AgentStatus;
use imp_core::credential::CredentialStatus;
use imp_core::product::CatalogStatus;
use imp_core::product_publish::{Progress, PublishStatus};
use imp_core::subscription::SubscriptionStatus;

/// `step` must lead to the listed states, and be refused from all others.
fn only<S: Copy + PartialEq + Debug>(
    all: &[S],
    step: impl Fn(S) -> Result<S, Transition>,
    arrows: &[(S, S)],
) {
    for &state in all {
        let expected = arrows.iter().find(|(from, _)| *from == state).map(|(_, to)| *to);
        assert_eq!(step(state).ok(), expected, "from {state:?}");
    }
}

#[test]
fn a_subscription_follows_its_arrows() {
    use SubscriptionStatus::{Active, Cancelled, Pending, Rejected, Suspended};
    let all = [Pending, Active, Rejected, Suspended, Cancelled];
    only(&all, SubscriptionStatus::approve, &[(Pending, Active)]);
    only(&all, SubscriptionStatus::reject, &[(Pending, Rejected)]);
    only(&all, SubscriptionStatus::suspend, &[(Active, Suspended)]);
    only(&all, SubscriptionStatus::resume, &[(Suspended, Active)]);
    let ends = [(Pending, Cancelled), (Active, Cancelled), (Suspended, Cancelled)];
    only(&all, SubscriptionStatus::cancel, &ends);
}

#[test]
fn a_product_or_plan_follows_its_arrows() {
    use CatalogStatus::{Active, Closed, Deprecated, Draft};
    let all = [Draft, Active, Deprecated, Closed];
    only(&all, |s| s.activate("plan"), &[(Draft, Active)]);
    only(&all, |s| s.deprecate("plan"), &[(Active, Deprecated)]);
    only(&all, |s| s.close("plan"), &[(Draft, Closed), (Deprecated, Closed)]);
}

#[test]
fn an_api_service_follows_its_arrows() {
    use ApiServiceStatus::{Deprecated, Draft, Published, Retired};
    let all = [Draft, Published, Deprecated, Retired];
    only(&all, ApiServiceStatus::publish, &[(Draft, Published), (Published, Published)]);
    only(&all, ApiServiceStatus::deprecate, &[(Published, Deprecated)]);
    only(&all, ApiServiceStatus::retire, &[(Draft, Retired), (Deprecated, Retired)]);
}

#[test]
fn nothing_resurrects_a_revoked_credential() {
    let all = [CredentialStatus::Active, CredentialStatus::Revoked];
    only(&all, CredentialStatus::revoke, &[(CredentialStatus::Active, CredentialStatus::Revoked)]);
}

#[test]
fn a_publish_is_active_only_by_acknowledgement() {
    use PublishStatus::{Active, Deploying, Failed, Pending, Suspended, Undeploying};
    assert_eq!(Pending.report(Progress::Deploying), Deploying);
    assert_eq!(Deploying.report(Progress::Acked), Active);
    assert_eq!(Deploying.report(Progress::Refused), Failed);
    assert_eq!(Active.redeploy().unwrap(), Pending, "a new revision starts over");
    assert_eq!(Suspended.redeploy().unwrap(), Suspended, "a suspension outlives a new revision");
    assert_eq!(Undeploying.report(Progress::Acked), Undeploying);
    assert!(Undeploying.redeploy().is_err());
    assert!(Suspended.suspend().is_err());
    assert!(Active.resume().is_err());
}

#[test]
fn an_agent_is_as_alive_as_its_last_heartbeat() {
    let now = Utc::now();
    let seen = |seconds| Some(now - TimeDelta::seconds(seconds));
    assert_eq!(AgentStatus::at(now, None, false), AgentStatus::Registered);
    assert_eq!(AgentStatus::at(now, seen(30), false), AgentStatus::Connected);
    assert_eq!(AgentStatus::at(now, seen(31), false), AgentStatus::Stale);
    assert_eq!(AgentStatus::at(now, seen(301), false), AgentStatus::Disconnected);
    assert_eq!(AgentStatus::at(now, seen(0), true), AgentStatus::Revoked);
}
