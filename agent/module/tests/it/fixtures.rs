//! What the tests' gateway serves.

use std::path::Path;

use imp_enforce::{Credential, Engine, Entitlement, PublishAccess};
use imp_module::feed::message::{Host, Item, Kind, Rules, Update};
use imp_module::snapshot::Writer;
use imp_proto::config as pb;
use sha2::{Digest as _, Sha256};

/// The key of a subscription without limits, and of others.
pub(crate) const KEY: &str = "imp_plain";
pub(crate) const LIMITED: &str = "imp_limited";
/// The key of a subscription whose months begin on the 31st.
pub(crate) const ANCHORED: &str = "imp_anchored";
pub(crate) const SUSPENDED: &str = "imp_suspended";
pub(crate) const ENDED: &str = "imp_ended";
pub(crate) const EXPIRED: &str = "imp_expired";
pub(crate) const REVOKED: &str = "imp_revoked";
pub(crate) const ORPHAN: &str = "imp_orphan";
pub(crate) const OTHER_PRODUCT: &str = "imp_other_product";
pub(crate) const OTHER_ENVIRONMENT: &str = "imp_other_environment";
pub(crate) const PINNED: &str = "imp_pinned";

const MODES: [(&str, pb::publish::AuthMode); 4] = [
    ("closed", pb::publish::AuthMode::ApiKey),
    ("open", pb::publish::AuthMode::None),
    ("suspended", pb::publish::AuthMode::ApiKey),
    ("elsewhere", pb::publish::AuthMode::None),
];

pub(crate) fn publishes() -> Vec<pb::Publish> {
    let publish = |(id, mode): (&str, pb::publish::AuthMode)| pb::Publish {
        id: id.into(),
        tenant_id: "tenant".into(),
        product_id: "product".into(),
        environment: "prod".into(),
        gateway_id: if id == "elsewhere" { "another" } else { "gateway" }.into(),
        auth_mode: mode.into(),
        suspended: id == "suspended",
        ..Default::default()
    };
    let mut all: Vec<_> = MODES.into_iter().map(publish).collect();
    let mut newer = publish(("newer", pb::publish::AuthMode::None));
    newer.auth_mode = 99;
    all.push(newer);
    all.push(pb::Publish {
        hostnames: vec!["a.test".into()],
        base_path: "/placed".into(),
        ..publish(("placed", pb::publish::AuthMode::ApiKey))
    });
    all
}

/// What routes of a publish say of its access rules.
pub(crate) fn digest(publish: &str) -> String {
    let publish = publishes().into_iter().find(|it| it.id == publish).unwrap();
    PublishAccess::from(&publish).digest()
}

fn limit(name: &str, amount: u64, window: pb::limit::Window) -> pb::Limit {
    pb::Limit {
        name: name.into(),
        unit: pb::limit::Unit::Requests.into(),
        amount,
        window: window.into(),
        window_seconds: 3600,
        on_exceed: pb::limit::OnExceed::Block.into(),
        scope: pb::limit::Scope::Subscription.into(),
        utc_offset_minutes: 0,
        time_zone: String::new(),
        anchor_day: 0,
    }
}

pub(crate) fn entitlements() -> Vec<pb::Entitlement> {
    use pb::entitlement::State;
    let plain = |id: &str| pb::Entitlement {
        id: id.into(),
        tenant_id: "tenant".into(),
        customer_id: "customer".into(),
        product_id: "product".into(),
        environment: "prod".into(),
        plan_id: "plan".into(),
        plan_version: 3,
        state: State::Active.into(),
        ..Default::default()
    };
    // The 31st of May 2026.
    let anchored = limit("month", 2, pb::limit::Window::CalendarMonth);
    let anchored = vec![pb::Limit { anchor_day: 20_604, utc_offset_minutes: 330, ..anchored }];
    let month = limit("month", 100, pb::limit::Window::CalendarMonth);
    let limits = vec![
        limit("rate", 3, pb::limit::Window::Rolling),
        pb::Limit { time_zone: "America/New_York".into(), ..month },
    ];
    let time_zones = vec![pb::TimeZone {
        name: "America/New_York".into(),
        rule: "EST5EDT,M3.2.0,M11.1.0".into(),
        changes: vec![],
    }];
    vec![
        plain(KEY),
        pb::Entitlement { limits, time_zones, ..plain(LIMITED) },
        pb::Entitlement { limits: anchored, ..plain(ANCHORED) },
        pb::Entitlement {
            state: State::Suspended.into(),
            reason: "not paid: 100 % \u{fc}ber".into(),
            ..plain(SUSPENDED)
        },
        pb::Entitlement { state: State::Ended.into(), ..plain(ENDED) },
        plain(EXPIRED),
        plain(REVOKED),
        pb::Entitlement { product_id: "another".into(), ..plain(OTHER_PRODUCT) },
        pb::Entitlement { environment: "dev".into(), ..plain(OTHER_ENVIRONMENT) },
        pb::Entitlement { product_publish_id: "open".into(), ..plain(PINNED) },
    ]
}

/// The credential of a key; its subscription has the key's name.
pub(crate) fn credential(key: &str) -> pb::Credential {
    let state = match key {
        REVOKED => pb::credential::State::Revoked,
        _ => pb::credential::State::Active,
    };
    pb::Credential {
        id: format!("id-{key}"),
        consumer_id: "consumer".into(),
        subscription_id: key.into(),
        key_sha256: Sha256::digest(key.as_bytes()).to_vec().into(),
        state: state.into(),
        expires_at_ms: if key == EXPIRED { 1 } else { 0 },
        ..Default::default()
    }
}

pub(crate) fn credentials() -> Vec<pb::Credential> {
    let of = entitlements().into_iter().map(|entitlement| entitlement.id);
    of.chain([ORPHAN.to_owned()]).map(|key| credential(&key)).collect()
}

/// An engine with all of it, for the agent's service.
pub(crate) fn engine() -> Engine {
    let engine = Engine::new();
    publishes().iter().for_each(|publish| engine.put_publish(PublishAccess::from(publish)));
    for message in entitlements() {
        engine.put_entitlement(Entitlement::parse(&message).unwrap());
    }
    for message in credentials() {
        engine.put_credential(Credential::parse(&message).unwrap());
    }
    engine
}

pub(crate) fn rules(publish: &pb::Publish) -> Kind {
    let wanted = serde_json::to_vec(&PublishAccess::from(publish)).unwrap();
    Kind::Rules(Rules { id: publish.id.clone(), wanted, former: vec![] })
}

pub(crate) fn host(port: u16, pattern: &str) -> Kind {
    Kind::Host(Host { port: port.into(), pattern: pattern.into() })
}

/// All of it, for the module.
pub(crate) fn everything(hosts: &[(u16, &str)]) -> Vec<Item> {
    let publishes = publishes();
    let kinds = publishes.iter().map(rules);
    let kinds = kinds.chain(entitlements().into_iter().map(Kind::Entitlement));
    let kinds = kinds.chain(credentials().into_iter().map(Kind::Credential));
    kinds.chain(hosts.iter().map(|(port, it)| host(*port, it))).map(Item::from).collect()
}

/// A snapshot of it.
pub(crate) fn snapshot(version: u64, put: Vec<Item>) -> Update {
    Update { history: "tests".into(), version, put, ..Default::default() }
}

/// Writes it to a file, in two parts.
pub(crate) fn write_snapshot(path: &Path, mut put: Vec<Item>) {
    let rest = put.split_off(put.len() / 2);
    let mut writer = Writer::create(path).unwrap();
    writer.update(&Update { more: true, ..snapshot(1, put) }).unwrap();
    writer.update(&snapshot(1, rest)).unwrap();
    writer.finish().unwrap();
}
