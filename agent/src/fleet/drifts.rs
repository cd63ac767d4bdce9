//! Objects of publishes that somebody else has changed: remembered for operators, and a condition of the publish.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use imp_process::clock;
use imp_proto::agent as pb;

use super::Fleet;
use super::core::Core;
use super::tracker::About;

/// An object that somebody else has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drift {
    /// Its publish or gateway.
    pub of: String,
    pub object: String,
    pub field: String,
    /// The field manager that wrote last, if that is known.
    pub by: Option<String>,
    /// Unix milliseconds.
    pub at_ms: i64,
}

/// The drifts that are remembered.
const MOST: usize = 20;

/// A publish shows another drift at most so often: somebody may change its objects a thousand times a minute, and each
/// is a row at the control plane.
const PACE: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
pub(super) struct Drifts {
    /// The last ones, the newest first.
    last: VecDeque<Drift>,
    by_publish: HashMap<Arc<str>, Shown>,
}

/// What a publish shows.
#[derive(Debug)]
struct Shown {
    condition: pb::PublishCondition,
    since: Instant,
    /// The newest one since then.
    next: Option<pb::PublishCondition>,
}

impl Drifts {
    /// Takes a drift of an object of these publishes. Returns those that show it now.
    fn drifted(&mut self, drift: Drift, publishes: Vec<Arc<str>>, now: Instant) -> Vec<Arc<str>> {
        let condition = condition(&drift);
        self.last.truncate(MOST - 1);
        self.last.push_front(drift);
        let mut news = Vec::new();
        for id in publishes {
            match self.by_publish.get_mut(&id) {
                Some(shown) if now.saturating_duration_since(shown.since) < PACE => {
                    shown.next = Some(condition.clone());
                }
                _ => {
                    let shown = Shown { condition: condition.clone(), since: now, next: None };
                    self.by_publish.insert(id.clone(), shown);
                    news.push(id);
                }
            }
        }
        news
    }

    /// The object was put right. Returns the publishes that show it so.
    fn corrected(&mut self, object: &str, publishes: Vec<Arc<str>>, at_ms: i64) -> Vec<Arc<str>> {
        let mut news = Vec::new();
        for id in publishes {
            let Some(shown) = self.by_publish.get_mut(&id) else { continue };
            for waiting in shown.next.iter_mut().filter(|it| it.object == object) {
                correct(waiting, at_ms);
            }
            if shown.condition.object == object && shown.condition.corrected_at_ms == 0 {
                correct(&mut shown.condition, at_ms);
                news.push(id);
            }
        }
        news
    }

    /// Shows what has waited long enough. Returns those publishes.
    fn tick(&mut self, now: Instant) -> Vec<Arc<str>> {
        let mut news = Vec::new();
        for (id, shown) in &mut self.by_publish {
            if now.saturating_duration_since(shown.since) >= PACE
                && let Some(next) = shown.next.take()
            {
                (shown.condition, shown.since) = (next, now);
                news.push(id.clone());
            }
        }
        news
    }

    /// The objects of a publish are others now, or gone.
    pub(super) fn forget(&mut self, publish: &str) {
        self.by_publish.remove(publish);
    }

    fn of(&self, publish: &str) -> Option<pb::PublishCondition> {
        self.by_publish.get(publish).map(|shown| shown.condition.clone())
    }
}

fn condition(drift: &Drift) -> pb::PublishCondition {
    let Drift { object, field, by, at_ms, .. } = drift;
    let (object, field, by) = (object.clone(), field.clone(), by.clone().unwrap_or_default());
    pb::PublishCondition {
        r#type: About::Drifted.as_str().to_owned(),
        reason: "correcting".to_owned(),
        message: "Somebody else has changed an object of it; it is being put right.".to_owned(),
        since_ms: *at_ms,
        object,
        field,
        by,
        corrected_at_ms: 0,
    }
}

fn correct(condition: &mut pb::PublishCondition, at_ms: i64) {
    condition.reason = "corrected".to_owned();
    condition.message = "Somebody else had changed an object of it; it was put right.".to_owned();
    condition.corrected_at_ms = at_ms;
}

impl Fleet {
    /// Takes that somebody else has changed an object of these publishes, which is being corrected.
    pub fn drifted(&self, drift: Drift, publishes: Vec<Arc<str>>) {
        let mut core = self.lock();
        let news = core.drifts.drifted(drift, publishes, Instant::now());
        core.show_drifts(news);
        self.tell(core);
    }

    /// Takes that such an object was put right.
    pub fn corrected(&self, object: &str, publishes: Vec<Arc<str>>) {
        let mut core = self.lock();
        let news = core.drifts.corrected(object, publishes, clock::now().timestamp_millis());
        core.show_drifts(news);
        self.tell(core);
    }

    /// The last drifts, the newest first.
    pub fn drifts(&self) -> Vec<Drift> {
        self.lock().drifts.last.iter().cloned().collect()
    }
}

impl Core {
    fn show_drifts(&mut self, publishes: Vec<Arc<str>>) {
        for id in publishes {
            self.tracker.say(&id, About::Drifted, self.drifts.of(&id));
        }
    }

    /// Shows the drifts that have waited.
    pub(super) fn tick_drifts(&mut self, now: Instant) {
        let news = self.drifts.tick(now);
        self.show_drifts(news);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drift(object: &str, at_ms: i64) -> Drift {
        let (of, object, field) = ("publish/p".to_owned(), object.to_owned(), "/spec".to_owned());
        Drift { of, object, field, by: Some("kubectl".to_owned()), at_ms }
    }

    #[test]
    fn each_drift_is_shown_with_its_correction_and_many_are_shown_every_few_seconds() {
        let (mut drifts, start) = (Drifts::default(), Instant::now());
        let ids: fn() -> Vec<Arc<str>> = || vec!["p".into()];
        assert_eq!(drifts.drifted(drift("a", 1), ids(), start), ids());
        assert_eq!(drifts.corrected("other", ids(), 2), []);
        assert_eq!(drifts.corrected("a", ids(), 3), ids());
        let shown = drifts.of("p").unwrap();
        assert_eq!(
            (&*shown.by, &*shown.reason, shown.corrected_at_ms),
            ("kubectl", "corrected", 3)
        );

        let mut shows = 0;
        for number in 1..=1_000_u32 {
            let now = start + Duration::from_millis(60) * number;
            shows += drifts.drifted(drift("b", 10), ids(), now).len() + drifts.tick(now).len();
            shows += drifts.corrected("b", ids(), 11).len();
        }
        assert!((11..=26).contains(&shows), "1,000 in a minute were shown {shows} times");
        assert_eq!(drifts.last.len(), MOST);
        let last = start + Duration::from_secs(100);
        drifts.tick(last);
        assert_eq!(drifts.of("p").unwrap().object, "b");
        drifts.forget("p");
        assert_eq!((drifts.tick(last + PACE), drifts.of("p")), (vec![], None));
    }
}
