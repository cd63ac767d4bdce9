use imp_enforce::{Call, Presented};
use sha2::{Digest as _, Sha256};

use super::super::message::Name;
use super::*;
use crate::hosts::ServerName;
use crate::state;

fn host(pattern: &str) -> Host {
    Host { port: 80, pattern: pattern.into() }
}

fn everything() -> Vec<Item> {
    let publish = pb::Publish {
        id: "pub".into(),
        tenant_id: "t".into(),
        product_id: "p".into(),
        environment: "prod".into(),
        auth_mode: pb::publish::AuthMode::ApiKey.into(),
        ..Default::default()
    };
    let wanted = serde_json::to_vec(&PublishAccess::from(&publish)).unwrap();
    let rules = Rules { id: "pub".into(), wanted, former: vec![] };
    let entitlement = pb::Entitlement {
        id: "sub".into(),
        tenant_id: "t".into(),
        product_id: "p".into(),
        environment: "prod".into(),
        state: pb::entitlement::State::Active.into(),
        ..Default::default()
    };
    let kinds = [
        Kind::Rules(rules),
        Kind::Entitlement(entitlement),
        Kind::Credential(credential("k1")),
        Kind::Host(host("a.test")),
    ];
    kinds.into_iter().map(Item::from).collect()
}

fn credential(key: &str) -> pb::Credential {
    pb::Credential {
        id: format!("id-{key}"),
        consumer_id: "c".into(),
        subscription_id: "sub".into(),
        key_sha256: Sha256::digest(key.as_bytes()).to_vec().into(),
        state: pb::credential::State::Active.into(),
        ..Default::default()
    }
}

fn snapshot(version: u64, put: Vec<Item>) -> Update {
    Update { history: "h".into(), version, put, ..Default::default() }
}

fn passes(applier: &Applier, key: &str) -> bool {
    let call = Call {
        publish: imp_enforce::PublishKey::Id("pub"),
        route_id: "",
        access: "",
        gateway_id: None,
        credential: Presented::Key(key),
        client: None,
        now: state::now(),
    };
    applier.state().engine.decide(&call).is_ok()
}

fn key_of(applier: &Applier, host: &str) -> String {
    applier.state().hosts.key(80, host, ServerName::NoTls).into_owned()
}

#[test]
fn a_snapshot_is_applied_with_its_last_part() {
    let mut applier = Applier::new(Arc::default());
    let mut all = everything();
    let last = all.split_off(2);
    let first = Update { more: true, ..snapshot(3, all) };
    assert_eq!(applier.apply(first.clone()), Ok(None));
    assert!(!applier.state().is_loaded());
    // The connection ends, and the next one begins with the first part.
    applier.abandon();
    assert_eq!(applier.apply(first), Ok(None));
    assert_eq!(applier.apply(snapshot(3, last)), Ok(Some(3)));
    assert!(applier.state().is_loaded() && passes(&applier, "k1"));
    assert_eq!(key_of(&applier, "a.test"), "a.test");
}

#[test]
fn a_first_snapshot_that_was_never_whole_leaves_nothing() {
    let mut applier = Applier::new(Arc::default());
    applier.apply(Update { more: true, ..snapshot(3, everything()) }).unwrap();
    assert!(!applier.state().is_loaded());
    applier.abandon();
    let mut rest = everything();
    rest.truncate(2);
    assert_eq!(applier.apply(snapshot(4, rest)), Ok(Some(4)));
    assert!(!passes(&applier, "k1"));
    assert_eq!(key_of(&applier, "a.test"), "!404");
}

#[test]
fn a_later_snapshot_removes_what_it_no_longer_has() {
    let mut applier = Applier::new(Arc::default());
    applier.apply(snapshot(1, everything())).unwrap();
    let mut next = everything();
    next.truncate(2);
    next.push(Kind::Credential(credential("k2")).into());
    assert_eq!(applier.apply(snapshot(2, next)), Ok(Some(2)));
    assert!(!passes(&applier, "k1") && passes(&applier, "k2"));
    assert_eq!(key_of(&applier, "a.test"), "!404");
}

#[test]
fn a_change_is_for_the_version_that_is_held() {
    let mut applier = Applier::new(Arc::default());
    let change = |since, history: &str| Update {
        history: history.into(),
        since,
        version: since + 1,
        put: vec![Kind::Credential(credential("k2")).into()],
        remove: vec![Name::from(Named::Credential("id-k1".into()))],
        ..Default::default()
    };
    assert!(applier.apply(change(1, "h")).is_err(), "nothing is held");
    applier.apply(snapshot(1, everything())).unwrap();
    assert!(applier.apply(change(2, "h")).is_err());
    assert!(applier.apply(change(1, "other")).is_err());
    assert!(passes(&applier, "k1") && !passes(&applier, "k2"), "nothing was applied");
    assert_eq!(applier.apply(change(1, "h")), Ok(Some(2)));
    assert!(!passes(&applier, "k1") && passes(&applier, "k2"));
    assert_eq!(applier.holds(), ("h", 2));
    applier.apply(Update { more: true, ..snapshot(3, everything()) }).unwrap();
    assert_eq!(applier.apply(change(2, "h")), Err(Refused::Inside));
}

#[test]
fn what_cannot_be_read_is_removed() {
    let mut applier = Applier::new(Arc::default());
    applier.apply(snapshot(1, everything())).unwrap();
    let damaged = Rules { id: "pub".into(), wanted: b"{}".to_vec(), former: vec![] };
    let change = Update {
        since: 1,
        version: 2,
        put: vec![Kind::Rules(damaged).into(), Kind::Host(host("A.TEST")).into()],
        ..snapshot(2, vec![])
    };
    assert_eq!(applier.apply(change), Ok(Some(2)));
    assert!(!passes(&applier, "k1"));
    assert_eq!(key_of(&applier, "a.test"), "a.test");
}

#[test]
fn no_message_is_a_fault() {
    use crate::feed::{frame, message::FromAgent};
    use proptest::prelude::*;
    let mut whole = Vec::new();
    frame::write(&mut whole, &snapshot(1, everything())).unwrap();
    let run = proptest::test_runner::Config {
        cases: if cfg!(miri) { 8 } else { 1_000 },
        ..Default::default()
    };
    proptest!(run, |(at in 4..whole.len(), by: u8, bytes in prop::collection::vec(any::<u8>(), 0..200))| {
        let mut applier = Applier::new(Arc::default());
        let mut altered = whole.clone();
        altered[at] ^= by;
        if let Ok(update) = frame::read::<Update>(&mut altered.as_slice()) {
            let _applied = applier.apply(update);
        }
        let _read = frame::read::<FromAgent>(&mut bytes.as_slice());
        let _read = frame::decode::<FromAgent>(&bytes);
    });
}
