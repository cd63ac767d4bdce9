use imp_enforce::{Call, Ledger as _, Presented, PublishAccess, PublishKey};
use imp_proto::config;

use super::*;

fn call(engine: &Engine, now: DateTime<Utc>) {
    let (publish, route_id, access, gateway_id) = (PublishKey::Id("p"), "r", "", None);
    let (credential, client) = (Presented::None, None);
    let call = Call { publish, route_id, access, gateway_id, credential, client, now };
    engine.decide(&call).unwrap().finish(200, 0, Duration::ZERO);
}

fn open(directory: &std::path::Path) -> (Engine, Ledger, Usage) {
    let (ledger, kept) = Ledger::open(directory);
    let engine = Engine::kept_in(Arc::new(ledger.clone()));
    let usage = Usage::restore(engine.clone(), ledger.clone(), kept);
    engine.put_publish(PublishAccess::from(&config::Publish {
        id: "p".into(),
        gateway_id: "g".into(),
        tenant_id: "t".into(),
        product_id: "q".into(),
        environment: "prod".into(),
        auth_mode: config::publish::AuthMode::None.into(),
        ..Default::default()
    }));
    (engine, ledger, usage)
}

fn allowed(engine: &Engine) -> u64 {
    engine.usage_changed_since(0).1.iter().map(|counter| counter.allowed).sum()
}

async fn told(usage: &Usage) -> (pb::UsageBatch, u64) {
    let batch = usage.batches().await.pop().unwrap();
    let allowed = batch.counters.iter().map(|counter| counter.allowed).sum();
    (batch, allowed)
}

#[tokio::test]
async fn hours_are_kept_until_they_are_over_and_committed() {
    let directory = tempfile::tempdir().unwrap();
    let (engine, _ledger, usage) = open(directory.path());
    let noon: DateTime<Utc> = "2026-11-24T12:30:00Z".parse().unwrap();
    call(&engine, noon);
    let first = usage.batches().await.pop().unwrap();
    assert!(usage.batches().await.is_empty(), "nothing new");
    usage.acknowledged(first.sequence, noon + TimeDelta::hours(2));
    assert_eq!(engine.usage_changed_since(0).1.len(), 1, "somebody may still count in it");
    call(&engine, noon + TimeDelta::hours(3));
    let told = usage.batches().await.pop().unwrap();
    assert_eq!(told.counters.len(), 1);
    usage.acknowledged(told.sequence - 1, noon + TimeDelta::hours(9));
    assert_eq!(engine.usage_changed_since(0).1.len(), 2, "not all of it is committed");
    usage.acknowledged(told.sequence, noon + TimeDelta::hours(4));
    assert_eq!(engine.usage_changed_since(0).1.len(), 1);

    let (engine, _ledger, again) = open(directory.path());
    assert_eq!(engine.usage_changed_since(0).1.len(), 1, "what was forgotten stays forgotten");
    let retold = again.batches().await.pop().unwrap();
    assert_eq!(retold.epoch, told.epoch);
    assert!(retold.sequence > told.sequence);
}

#[tokio::test]
async fn every_call_is_in_the_file_before_it_is_answered() {
    let directory = tempfile::tempdir().unwrap();
    let (engine, ledger, usage) = open(directory.path());
    for calls in 1..=100 {
        call(&engine, clock::now());
        // Another reader of the file, as after a kill.
        let kept = Ledger::open(directory.path()).1;
        let allowed: u64 = kept.iter().map(|(_, count, _)| count[0]).sum();
        assert_eq!(allowed, calls);
    }
    drop((engine, ledger, usage));
    let (engine, ..) = open(directory.path());
    assert_eq!(allowed(&engine), 100);
}

#[tokio::test]
async fn a_disk_that_fails_does_not_stop_metering_and_gets_everything_later() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    std::fs::create_dir(&state).unwrap();
    let (engine, ledger, usage) = open(&state);
    call(&engine, clock::now());
    let away = directory.path().join("away");
    std::fs::rename(&state, &away).unwrap();
    call(&engine, clock::now());
    let (first, allowed_so_far) = told(&usage).await;
    assert_eq!(allowed_so_far, 2, "told from memory");
    assert!(ledger.is_behind());
    std::fs::create_dir(&state).unwrap();
    assert!(usage.sync().await);
    drop((engine, ledger, usage));
    let (engine, _ledger, again) = open(&state);
    let (batch, allowed_now) = told(&again).await;
    assert_eq!((allowed_now, &batch.epoch), (2, &first.epoch), "nothing twice");
    assert_eq!(allowed(&engine), 2);
}

#[tokio::test]
async fn another_identity_is_told_only_what_the_one_before_was_not() {
    let directory = tempfile::tempdir().unwrap();
    let (engine, _ledger, usage) = open(directory.path());
    usage.belongs_to("agent-1");
    (0..3).for_each(|_| call(&engine, clock::now()));
    let (first, _) = told(&usage).await;
    usage.acknowledged(first.sequence, clock::now());
    (0..2).for_each(|_| call(&engine, clock::now()));
    usage.belongs_to("agent-1");
    assert_eq!(told(&usage).await.1, 5, "cumulative, as long as it is the same");
    usage.belongs_to("agent-2");
    let (second, allowed) = told(&usage).await;
    assert_eq!(allowed, 2);
    assert!(second.epoch != first.epoch && second.sequence > first.sequence);
    drop((engine, usage));
    let (_engine, _ledger, again) = open(directory.path());
    again.belongs_to("agent-2");
    let (third, allowed) = told(&again).await;
    assert_eq!((allowed, third.epoch), (2, second.epoch));
}

#[tokio::test]
async fn a_new_life_that_was_only_begun_is_finished_at_the_next_start() {
    let directory = tempfile::tempdir().unwrap();
    let (engine, ledger, usage) = open(directory.path());
    (0..3).for_each(|_| call(&engine, clock::now()));
    let (first, _) = told(&usage).await;
    usage.acknowledged(first.sequence, clock::now());
    (0..2).for_each(|_| call(&engine, clock::now()));
    // Killed after the header was written, before any counter.
    ledger.rebase();
    let (engine, _ledger, _usage) = open(directory.path());
    assert_eq!(allowed(&engine), 2);
}

#[test]
fn no_byte_of_the_file_stops_it_and_what_is_whole_goes_on() {
    use rand::rngs::StdRng;
    use rand::{Rng as _, SeedableRng as _};
    let origin = tempfile::tempdir().unwrap();
    let (engine, _ledger, usage) = open(origin.path());
    for hour in 0..8 {
        call(&engine, clock::now() - TimeDelta::hours(hour));
    }
    let whole = std::fs::read(origin.path().join("usage.bin")).unwrap();
    let epoch = usage.ledger.epoch();
    let mut partly = 0;
    for seed in 0..1_000 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut content = whole.clone();
        for _ in 0..random.random_range(1..=8) {
            let at = random.random_range(0..content.len().min(8_192));
            content[at] ^= 1 << random.random_range(0..8);
        }
        if seed % 10 == 0 {
            content.truncate(random.random_range(0..content.len()));
        }
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("usage.bin"), &content).unwrap();
        let (engine, ledger, again) = open(directory.path());
        let before = allowed(&engine);
        assert!(before <= 8, "seed {seed}: {before} calls, and 8 were made");
        // A count that decreased must not be reported in the epoch in which it was higher.
        assert!(before == 8 || again.ledger.epoch() != epoch, "seed {seed}");
        partly += u32::from((1..8).contains(&before));
        call(&engine, clock::now());
        assert!(!ledger.is_behind(), "seed {seed}");
        let epoch = ledger.epoch();
        let (engine, ledger, _) = open(directory.path());
        assert_eq!((allowed(&engine), ledger.epoch()), (before + 1, epoch), "seed {seed}");
    }
    assert!(partly > 0, "single counts were damaged");
}

#[test]
fn it_is_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("usage.bin"), "").unwrap();
    let (_ledger, _) = Ledger::open(directory.path());
    let mode = std::fs::metadata(directory.path().join("usage.bin")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn the_largest_batch_is_a_message_that_the_control_plane_takes() {
    use prost::Message as _;
    let id = "01234567-89ab-cdef-0123-456789abcdef".to_owned();
    let counter = Counter {
        tenant_id: id.clone(),
        customer_id: id.clone(),
        subscription_id: id.clone(),
        plan_id: id.clone(),
        plan_version: u64::from(u32::MAX),
        product_id: id.clone(),
        environment: "staging".into(),
        publish_id: id.clone(),
        consumer_id: id,
        hour_ms: i64::MAX,
        allowed: u64::MAX,
        limited: u64::MAX,
    };
    let counters = vec![wire(&counter); BATCH];
    let batch = pb::UsageBatch { sequence: u64::MAX, epoch: "e".repeat(36), counters };
    let most = imp_grammar::caps::HUB_REPORT_BYTES.size();
    assert!(batch.encoded_len() + 1_000 < most, "{} of {most}", batch.encoded_len());
}

#[tokio::test]
async fn counts_of_a_former_release_are_told_and_new_ones_beside_them() {
    let directory = tempfile::tempdir().unwrap();
    let now: DateTime<Utc> = "2026-11-24T12:30:00Z".parse().unwrap();
    let hour = now.timestamp_millis() / HOUR_MS * HOUR_MS;
    {
        let (ledger, _) = Ledger::open(directory.path());
        let (place, _) = ledger.place(&format!("calls\tp\t\t\t{hour}")).unwrap();
        ledger.keep(place, [5, 1]);
    }
    for start in 0..2 {
        let (engine, _ledger, usage) = open(directory.path());
        call(&engine, now);
        let (batch, allowed) = told(&usage).await;
        assert_eq!(allowed, 5 + 1 + start, "in {} counters", batch.counters.len());
        let of = |tenant: &str| {
            let mut of = batch.counters.iter().filter(|counter| counter.tenant_id == tenant);
            let one = of.next().map(|counter| (counter.allowed, counter.limited));
            assert!(of.next().is_none());
            one
        };
        assert_eq!((of(""), of("t")), (Some((5, 1)), Some((1 + start, 0))));
        usage.acknowledged(batch.sequence, now);
    }
    let (engine, _ledger, usage) = open(directory.path());
    let (batch, _) = told(&usage).await;
    usage.acknowledged(batch.sequence, now + TimeDelta::hours(4));
    assert_eq!(engine.usage_changed_since(0).1, [], "they go with their hour");
    assert_eq!(Ledger::open(directory.path()).1, []);
}
