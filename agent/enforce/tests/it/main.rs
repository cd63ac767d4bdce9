//! Tests of decisions, as the ext_authz service uses the engine.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod anchors;
mod decisions;
mod kept;
mod limits;
mod memory;
mod permits;
mod places;
mod rules;
mod time_zones;
mod usage;

use chrono::{DateTime, TimeDelta, Utc};
use imp_enforce::{
    Admission, Call, Credential, Denial, Engine, Entitlement, Presented, PublishAccess, PublishKey,
};
use imp_proto::config as pb;
use sha2::{Digest as _, Sha256};

const KEY: &str = "imp_secret";

fn start() -> DateTime<Utc> {
    "2026-11-24T12:00:00Z".parse().unwrap()
}

fn after(seconds: i64) -> DateTime<Utc> {
    start() + TimeDelta::seconds(seconds)
}

fn publish() -> pb::Publish {
    pb::Publish {
        id: "pub".into(),
        tenant_id: "tenant".into(),
        product_id: "product".into(),
        environment: "prod".into(),
        auth_mode: pb::publish::AuthMode::ApiKey.into(),
        ..Default::default()
    }
}

fn entitlement() -> pb::Entitlement {
    pb::Entitlement {
        id: "sub".into(),
        tenant_id: "tenant".into(),
        customer_id: "customer".into(),
        product_id: "product".into(),
        environment: "prod".into(),
        plan_id: "plan".into(),
        plan_version: 3,
        state: pb::entitlement::State::Active.into(),
        ..Default::default()
    }
}

fn credential(id: &str, key: &str) -> pb::Credential {
    pb::Credential {
        id: id.into(),
        consumer_id: "consumer".into(),
        client_app_id: "app".into(),
        subscription_id: "sub".into(),
        key_sha256: Sha256::digest(key.as_bytes()).to_vec().into(),
        state: pb::credential::State::Active.into(),
        ..Default::default()
    }
}

fn limit(name: &str, amount: u64, window: pb::limit::Window) -> pb::Limit {
    pb::Limit {
        name: name.into(),
        unit: pb::limit::Unit::Requests.into(),
        amount,
        window: window.into(),
        window_seconds: 60,
        on_exceed: pb::limit::OnExceed::Block.into(),
        scope: pb::limit::Scope::Subscription.into(),
        utc_offset_minutes: 0,
        time_zone: String::new(),
        anchor_day: 0,
    }
}

/// One publish, one subscription without limits, one key.
fn engine() -> Engine {
    let engine = Engine::new();
    engine.put_publish(PublishAccess::from(&publish()));
    entitle(&engine, &entitlement());
    give_key(&engine, &credential("cred", KEY));
    engine
}

fn entitle(engine: &Engine, entitlement: &pb::Entitlement) {
    engine.put_entitlement(Entitlement::parse(entitlement).unwrap());
}

fn give_key(engine: &Engine, credential: &pb::Credential) {
    engine.put_credential(Credential::parse(credential).unwrap());
}

fn with_limits(limits: Vec<pb::Limit>) -> Engine {
    let engine = engine();
    entitle(&engine, &pb::Entitlement { limits, ..entitlement() });
    engine
}

fn call(key: Option<&str>, now: DateTime<Utc>) -> Call<'_> {
    Call {
        publish: PublishKey::Id("pub"),
        route_id: "route",
        access: "",
        gateway_id: None,
        credential: key.map_or(Presented::None, Presented::Key),
        client: None,
        now,
    }
}

fn decide(engine: &Engine, call: &Call<'_>) -> Result<Admission, Denial> {
    engine.decide(call).map(|permit| permit.admission().clone())
}

fn denied(engine: &Engine, call: &Call<'_>) -> (u16, &'static str) {
    let denial = decide(engine, call).unwrap_err();
    (denial.status, denial.code)
}

fn passes(engine: &Engine, now: DateTime<Utc>) -> bool {
    decide(engine, &call(Some(KEY), now)).is_ok()
}

fn header<'a>(headers: &'a [(&'static str, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(key, _)| *key == name).map(|(_, value)| value.as_str())
}

/// The same of a call that passes.
fn admitted<'a>(admission: &'a Admission, name: &str) -> Option<&'a str> {
    let found = admission.response_headers.iter().find(|(key, _)| *key == name);
    found.map(|(_, value)| value.as_str())
}
