//! What a key costs: a gateway may have a million in each Envoy.

use super::*;

/// Keys, and how many of them a subscription has.
const KEYS: usize = 100_000;
const EACH: usize = 5;

/// The most bytes of a key with its share of a subscription.
const MOST: usize = 350;

/// Measurements at most.
const TRIES: usize = 4;

/// Bytes of memory that this process has.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

fn id(kind: usize, number: usize) -> String {
    format!("{kind:08x}-0000-7000-8000-{number:012x}")
}

/// Other tests run in this process, and the kernel takes pages back as it likes, so one measurement
/// may be off: the least of a few counts.
#[test]
fn a_key_is_small() {
    let mut tries = Vec::new();
    while tries.len() < TRIES && tries.last().is_none_or(|each| *each >= MOST) {
        tries.push(bytes_of_a_key());
    }
    assert!(tries.last().is_some_and(|each| *each < MOST), "bytes of a key: {tries:?}");
}

fn bytes_of_a_key() -> usize {
    let engine = engine();
    let before = resident();
    for number in 0..KEYS {
        let subscription = id(1, number / EACH);
        if number % EACH == 0 {
            let customer_id = id(2, number);
            let limits = vec![limit("rate", 100, pb::limit::Window::Rolling)];
            let counter_key = format!("{customer_id}/product/prod");
            let id = subscription.clone();
            entitle(
                &engine,
                &pb::Entitlement { id, customer_id, counter_key, limits, ..entitlement() },
            );
        }
        let consumer_id = id(3, number);
        let credential = credential(&id(4, number), &format!("imp_{number}"));
        give_key(
            &engine,
            &pb::Credential { consumer_id, subscription_id: subscription, ..credential },
        );
    }
    let each = resident().saturating_sub(before) / KEYS;
    let key = format!("imp_{}", KEYS - 1);
    assert!(decide(&engine, &call(Some(&key), start())).is_ok());
    each
}
