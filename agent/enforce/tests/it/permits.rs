//! The second phase: what was taken for a call is released when it is over, however it ends.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::*;
use imp_enforce::{OnFinish, Outcome, Permit};

/// A limit of concurrent calls that also counts bytes, as a policy would.
#[derive(Clone, Debug, Default)]
struct Concurrency {
    now: Arc<AtomicU64>,
    bytes: Arc<AtomicU64>,
    outcomes: Arc<Mutex<Vec<Outcome>>>,
}

impl OnFinish for Concurrency {
    fn finished(self: Box<Self>, outcome: Outcome) {
        self.now.fetch_sub(1, Ordering::AcqRel);
        if let Outcome::Answered { bytes, .. } = outcome {
            self.bytes.fetch_add(bytes, Ordering::AcqRel);
        }
        self.outcomes.lock().unwrap().push(outcome);
    }
}

impl Concurrency {
    fn admit(&self, engine: &Engine, most: u64) -> Option<Permit> {
        if self.now.fetch_add(1, Ordering::AcqRel) >= most {
            self.now.fetch_sub(1, Ordering::AcqRel);
            return None;
        }
        Some(engine.decide(&call(Some(KEY), start())).unwrap().and(self.clone()))
    }
}

#[test]
fn a_place_is_free_again_when_the_call_is_over_and_its_bytes_count() {
    let (engine, limit) = (engine(), Concurrency::default());
    let first = limit.admit(&engine, 2).unwrap();
    let second = limit.admit(&engine, 2).unwrap();
    assert!(limit.admit(&engine, 2).is_none(), "two at the same time");
    first.finish(200, 1_500, Duration::from_millis(3));
    let third = limit.admit(&engine, 2).unwrap();
    // Their outcome was not reported.
    drop(second);
    drop(third);
    assert_eq!(limit.now.load(Ordering::Acquire), 0);
    assert_eq!(limit.bytes.load(Ordering::Acquire), 1_500);
    let answered =
        Outcome::Answered { status: 200, bytes: 1_500, duration: Duration::from_millis(3) };
    let outcomes = limit.outcomes.lock().unwrap().clone();
    assert_eq!(outcomes, [answered, Outcome::Unknown, Outcome::Unknown], "each is told once");
}

#[test]
fn a_call_is_metered_when_it_is_admitted_however_it_ends() {
    let engine = engine();
    let permit = engine.decide(&call(Some(KEY), start())).unwrap();
    let allowed = || engine.usage_changed_since(0).1[0].allowed;
    assert_eq!(allowed(), 1);
    permit.finish(503, 0, Duration::ZERO);
    drop(engine.decide(&call(Some(KEY), start())).unwrap());
    assert_eq!(allowed(), 2);
}
