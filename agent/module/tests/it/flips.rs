//! One slot, two doors: each takes the other's place while calls are made.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde_json::json;

use crate::envoy::{Connection, Envoy, eventually, free_port, library, upstream};
use crate::fixtures::{self as of, KEY, SUSPENDED};
use crate::{agent, bootstrap};

const FLIPS: u64 = 10;

#[test]
fn doors_are_exchanged_under_load_without_a_wrong_answer() {
    let agent = agent::start(of::engine(), "gateway");
    let directory = tempfile::tempdir().unwrap();
    let (snapshot, file) = (directory.path().join("snapshot"), directory.path().join("door.json"));
    of::write_snapshot(&snapshot, of::everything(&[]));
    let config = json!({"state": {"snapshot": snapshot}, "gateway": "gateway"});
    let doors = [bootstrap::door(&library(), "door", &config), bootstrap::ext_authz()];
    bootstrap::write_extension(&file, &doors[0]);
    let port = free_port();
    let more = json!({"access_log": []});
    let listener = bootstrap::listener(port, bootstrap::discovered(&file), &more);
    let envoy = Envoy::start(&bootstrap::bootstrap(&[listener], upstream(), agent.port), 2);
    let reloads = || envoy.counters("config_reload$");
    eventually("the first door", || (reloads() == 1).then_some(()));
    let stop = Arc::new(AtomicBool::new(false));
    let made = Arc::new([const { AtomicU64::new(0) }; 4]);
    let expected = [
        ("/closed", KEY, 200),
        ("/closed", "no", 401),
        ("/closed", SUSPENDED, 403),
        ("/open", "", 200),
    ];
    let callers: Vec<_> = (0..expected.len())
        .map(|number| {
            let (stop, made) = (stop.clone(), made.clone());
            std::thread::spawn(move || {
                let (path, key, status) = expected[number];
                let request =
                    format!("GET {path} HTTP/1.1\r\nhost: a.test\r\nx-api-key: {key}\r\n\r\n");
                let mut connection = Connection::open(port).unwrap();
                while !stop.load(Ordering::Relaxed) {
                    let answer = connection.ask(request.as_bytes()).unwrap();
                    assert_eq!(answer.status, status, "{path} {key}: {answer:?}");
                    made[number].fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let total = || made.iter().map(|made| made.load(Ordering::Relaxed)).sum::<u64>();
    for flip in 1..=FLIPS {
        let before = total();
        bootstrap::write_extension(&file, &doors[usize::try_from(flip % 2).unwrap()]);
        eventually("a flip", || (reloads() == 1 + flip).then_some(()));
        // Calls of the new door, too.
        eventually("calls", || (total() > before + 200).then_some(()));
    }
    let each = || made.iter().all(|made| made.load(Ordering::Relaxed) > 100);
    eventually("100 calls of each kind", || each().then_some(()));
    stop.store(true, Ordering::Relaxed);
    callers.into_iter().for_each(|caller| caller.join().unwrap());
    assert_eq!(envoy.counters("(config_fail|listeners_draining)$"), 0);
}
