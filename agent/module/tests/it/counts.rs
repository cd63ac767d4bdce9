//! Counts and limits over all workers of an Envoy, and over its death.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use imp_enforce::Counter;
use imp_module::counters;
use serde_json::{Value, json};

use crate::bootstrap::{self, bootstrap as with};
use crate::envoy::{Connection, Envoy, eventually, free_port, library, raw, upstream};
use crate::fixtures::{self as of, KEY, LIMITED};

/// The connections that call at once.
const CALLERS: usize = 6;

fn place() -> (tempfile::TempDir, u16, Value) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("snapshot");
    of::write_snapshot(&file, of::everything(&[]));
    let state = json!({"snapshot": file, "counters": directory.path().join("counters")});
    let door = bootstrap::door(&library(), "door", &json!({"state": state}));
    let port = free_port();
    let bootstrap = with(&[bootstrap::listener(port, door, &json!({}))], upstream(), 1);
    (directory, port, bootstrap)
}

fn request(key: &str) -> Vec<u8> {
    format!("GET /closed HTTP/1.1\r\nhost: a.test\r\nx-api-key: {key}\r\n\r\n").into_bytes()
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let directory = std::fs::read_dir(directory.join("counters")).unwrap();
    directory.map(|entry| entry.unwrap().path()).collect()
}

/// Calls with this key that were admitted, and that a limit refused.
fn counted(directory: &Path, key: &str) -> (u64, u64) {
    let kept = files(directory).into_iter().flat_map(|file| counters::read(&file).unwrap().kept);
    let counters = kept.filter_map(|kept| Counter::kept(&kept.name, kept.count));
    let own = counters.filter(|counter| counter.subscription_id == key);
    own.fold((0, 0), |(allowed, limited), it| (allowed + it.allowed, limited + it.limited))
}

#[test]
fn a_killed_envoy_loses_no_count() {
    let (directory, port, bootstrap) = place();
    let answered = Arc::new(AtomicU64::new(0));
    for round in 1..=4 {
        let mut envoy = Envoy::start(&bootstrap, 2);
        let stop = Arc::new(AtomicBool::new(false));
        let call = || {
            let (answered, stop) = (answered.clone(), stop.clone());
            std::thread::spawn(move || {
                let request = request(KEY);
                let mut connection = Connection::open(port);
                while let (false, Some(open)) = (stop.load(Ordering::Relaxed), &mut connection) {
                    match open.ask(&request) {
                        Some(answer) => {
                            assert_eq!(answer.status, 200);
                            answered.fetch_add(1, Ordering::Relaxed);
                        }
                        None => connection = None,
                    }
                }
            })
        };
        let callers: Vec<_> = (0..CALLERS).map(|_| call()).collect();
        eventually("enough calls", || {
            (answered.load(Ordering::Relaxed) > round * 100).then_some(())
        });
        envoy.kill();
        stop.store(true, Ordering::Relaxed);
        callers.into_iter().for_each(|caller| caller.join().unwrap());
        let (answered, counted) =
            (answered.load(Ordering::Relaxed), counted(directory.path(), KEY).0);
        let most = answered + round * CALLERS as u64;
        assert!((answered..=most).contains(&counted), "answered {answered}, counted {counted}");
    }
    assert_eq!(files(directory.path()).len(), 1, "each Envoy continues the file of the former");
}

#[test]
fn a_limit_is_exact_over_all_workers_and_over_a_death() {
    let (directory, port, bootstrap) = place();
    let (mut passed, mut refused) = (0, 0);
    for _ in 0..2 {
        let mut envoy = Envoy::start(&bootstrap, 4);
        let call = |_| {
            std::thread::spawn(move || {
                (0..10).map(|_| raw(port, &request(LIMITED)).unwrap().status).collect::<Vec<_>>()
            })
        };
        let callers: Vec<_> = (0..CALLERS).map(call).collect();
        for status in callers.into_iter().flat_map(|caller| caller.join().unwrap()) {
            match status {
                200 => passed += 1,
                429 => refused += 1,
                other => panic!("{other}"),
            }
        }
        envoy.kill();
        // Three an hour, also for the Envoy that comes after.
        assert_eq!(passed, 3);
        assert_eq!(counted(directory.path(), LIMITED), (passed, refused));
    }
}

#[test]
fn envoys_side_by_side_count_in_files_of_their_own() {
    let (directory, port, bootstrap) = place();
    let _first = Envoy::start(&bootstrap, 1);
    let other = free_port();
    let mut beside = bootstrap.clone();
    let listener = &mut beside["static_resources"]["listeners"][0];
    listener["address"] = bootstrap::address(other);
    let _second = Envoy::start(&beside, 1);
    for port in [port, other, other] {
        assert_eq!(raw(port, &request(KEY)).unwrap().status, 200);
    }
    assert_eq!(files(directory.path()).len(), 2);
    assert_eq!(counted(directory.path(), KEY), (3, 0));
}

#[test]
fn without_a_place_for_counts_calls_are_decided_and_limited() {
    let (directory, port, bootstrap) = place();
    std::fs::write(directory.path().join("counters"), "a file where a directory should be")
        .unwrap();
    let envoy = Envoy::start(&bootstrap, 2);
    let statuses = [KEY, "imp_unknown", LIMITED, LIMITED, LIMITED, LIMITED]
        .map(|key| raw(port, &request(key)).unwrap().status);
    assert_eq!(statuses, [200, 401, 200, 200, 200, 429]);
    assert!(envoy.log().contains("CALLS ARE NOT COUNTED"), "{}", envoy.log());
}
