//! Tests of the lock.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::*;

fn fleet() -> (Fleet, CancellationToken, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let (lkg, _) = Lkg::open(directory.path()).unwrap();
    let cancel = CancellationToken::new();
    (Fleet::empty(lkg, cancel.clone()), cancel, directory)
}

#[test]
#[expect(clippy::disallowed_methods, reason = "threads of its own, no runtime")]
fn a_thread_that_locks_again_and_again_lets_others_in() {
    let (fleet, cancel, _directory) = fleet();
    let (over, rounds) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                fleet.while_locked(|| std::thread::sleep(Duration::from_millis(5)));
                rounds.fetch_add(1, Ordering::Relaxed);
            }
        });
        let mut most = 0;
        let started = Instant::now();
        for _ in 0..20 {
            let before = rounds.load(Ordering::Relaxed);
            assert_eq!(fleet.size().publishes, 0);
            most = most.max(rounds.load(Ordering::Relaxed) - before);
            std::thread::sleep(Duration::from_millis(1));
            if started.elapsed() > Duration::from_secs(20) {
                break;
            }
        }
        over.store(true, Ordering::Relaxed);
        assert!(most <= 2, "one waited for {most} rounds");
    });
    cancel.cancel();
}
