//! One set: its objects, how far they are applied, what is said of them.

use std::collections::HashMap;
use std::time::Duration;

use imp_process::random::random;
use serde_json::Value;
use tokio::time::Instant;

use super::version;
use crate::fault::Fault;
use crate::object::{Key, Object};
use crate::standing::{self, Standing};

/// Delays after failures, with jitter.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// How long a controller may say nothing.
const SILENCE: Duration = Duration::from_secs(10);
/// A controller may refuse what it has heard the half of.
const SETTLE: Duration = Duration::from_secs(1);

pub(super) struct Set {
    revision: u64,
    gateway: String,
    objects: Vec<Entry>,
    /// Worked on.
    busy: bool,
    /// Not before this.
    due: Instant,
    failures: u32,
    fault: Option<(Key, Fault)>,
    /// Since when all of it is applied.
    since: Instant,
    standing: Option<Standing>,
    /// Whether nobody wants it.
    over: bool,
    /// Left as it is.
    held: bool,
}

struct Entry {
    object: Object,
    /// As the API server had it after it was applied; none if it must be applied.
    accepted: Option<Value>,
    /// Not before this.
    due: Option<Instant>,
}

impl Set {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            revision: 0,
            gateway: String::new(),
            objects: Vec::new(),
            busy: false,
            due: now,
            failures: 0,
            fault: None,
            since: now,
            standing: None,
            over: true,
            held: false,
        }
    }

    /// Objects that are wanted as before are not applied again.
    pub(super) fn want(
        &mut self,
        (revision, gateway): (u64, String),
        objects: Vec<Object>,
        now: Instant,
    ) {
        let mut known: HashMap<Key, Entry> =
            self.objects.drain(..).map(|entry| (entry.object.key().clone(), entry)).collect();
        let entry = |object: Object| match known.remove(object.key()) {
            Some(entry) if entry.object == object => entry,
            _ => Entry { object, accepted: None, due: None },
        };
        self.objects = objects.into_iter().map(entry).collect();
        (self.revision, self.gateway, self.over) = (revision, gateway, false);
        self.held = false;
        (self.due, self.failures, self.fault, self.since) = (now, 0, None, now);
        self.standing = None;
    }

    pub(super) fn hold(&mut self) {
        (self.over, self.held) = (false, true);
    }

    pub(super) fn forget(&mut self, now: Instant) {
        self.objects.clear();
        self.held = false;
        (self.over, self.due, self.failures, self.fault) = (true, now, 0, None);
    }

    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    pub(super) fn has(&self, key: &Key) -> bool {
        self.objects.iter().any(|entry| entry.object.key() == key)
    }

    pub(super) fn is_over(&self) -> bool {
        self.over && !self.busy
    }

    pub(super) fn accepted(&self, key: &Key) -> Option<&Value> {
        self.entry(key)?.accepted.as_ref()
    }

    /// Whether what was applied is newer than this.
    pub(super) fn is_ahead(&self, key: &Key, object: &Value) -> bool {
        self.accepted(key).is_some_and(|accepted| version(accepted) > version(object))
    }

    /// The object must be applied again, not before `at`.
    pub(super) fn correct(&mut self, key: &Key, at: Instant) {
        if let Some(entry) = self.objects.iter_mut().find(|entry| entry.object.key() == key) {
            (entry.accepted, entry.due) = (None, Some(at));
        }
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        !self.busy && !self.held && self.due <= now
    }

    /// What must be applied, in order. What waits for a truce holds up what comes after it.
    pub(super) fn to_apply(&self, now: Instant) -> Vec<Object> {
        let waits = |entry: &&Entry| entry.due.is_none_or(|due| due <= now);
        let missing = self.objects.iter().filter(|entry| entry.accepted.is_none());
        missing.take_while(waits).map(|entry| entry.object.clone()).collect()
    }

    /// Whether something is not applied because of a truce.
    pub(super) fn is_held_up(&self, now: Instant) -> bool {
        self.objects.iter().any(|entry| entry.due.is_some_and(|due| due > now))
    }

    /// Whether nobody needs what it had before.
    pub(super) fn is_replaced(&self, live: &HashMap<Key, Value>, now: Instant) -> bool {
        self.over || self.stands(live, now) == Standing::Accepted
    }

    pub(super) fn begin(&mut self) {
        self.busy = true;
    }

    pub(super) fn applied(&mut self, object: &Object, live: Value) {
        let entry = self.objects.iter_mut().find(|entry| entry.object == *object);
        if let Some(entry) = entry {
            (entry.accepted, entry.due) = (Some(live), None);
        }
    }

    pub(super) fn ended(&mut self, fault: Option<(Key, Fault)>, now: Instant) {
        self.busy = false;
        if let Some((key, fault)) = &fault {
            // Once for each reason.
            if self.fault.as_ref().map(|(_, fault)| fault) != Some(fault) {
                tracing::warn!(object = %key, %fault, "an object is not applied; tried again");
            }
            metrics::counter!("imp_kube_failures_total").increment(1);
            self.due = now + wait(self.failures);
            self.failures = self.failures.saturating_add(1);
        } else {
            self.failures = 0;
        }
        (self.fault, self.since) = (fault, now);
    }

    /// How it stands, if otherwise than when it was last asked, and whether that can change by events
    /// only.
    pub(super) fn changed(
        &mut self,
        live: &HashMap<Key, Value>,
        now: Instant,
    ) -> (Option<Standing>, bool) {
        if self.over || self.held {
            return (None, true);
        }
        let standing = self.stands(live, now);
        let rests = !matches!(standing, Standing::Waiting(_));
        if self.standing.as_ref() == Some(&standing) {
            return (None, rests);
        }
        self.standing = Some(standing.clone());
        (Some(standing), rests)
    }

    fn stands(&self, live: &HashMap<Key, Value>, now: Instant) -> Standing {
        if let Some((key, fault)) = &self.fault {
            return Standing::Refused(format!("{key}: {fault}"));
        }
        if self.objects.iter().any(|entry| entry.accepted.is_none()) {
            return Standing::Applying;
        }
        let mut waiting = None;
        for entry in &self.objects {
            let object = live.get(entry.object.key()).or(entry.accepted.as_ref());
            let Some(object) = object else { continue };
            match standing::of(object, &self.gateway) {
                Standing::Refused(words) if now >= self.since + SETTLE => {
                    return Standing::Refused(words);
                }
                Standing::Refused(words) | Standing::Waiting(words) => {
                    waiting.get_or_insert(words);
                }
                Standing::Applying | Standing::Accepted => {}
            }
        }
        match waiting {
            None => Standing::Accepted,
            Some(object) if now >= self.since + SILENCE => Standing::Refused(format!(
                "{object}: no controller has answered within {} s; is that of the class running?",
                SILENCE.as_secs()
            )),
            Some(object) => Standing::Waiting(object),
        }
    }

    fn entry(&self, key: &Key) -> Option<&Entry> {
        self.objects.iter().find(|entry| entry.object.key() == key)
    }
}

/// The delay after so many failures, and up to as much again.
fn wait(failures: u32) -> Duration {
    let wait = FIRST_WAIT.saturating_mul(2_u32.saturating_pow(failures.min(16))).min(LONGEST_WAIT);
    wait.mul_f64(0.5 + f64::from(random::<u16>()) / f64::from(u16::MAX) / 2.0)
}
