//! The limits of an open stream.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Sleep;
use tonic::Status;

use super::session::Session;
use crate::stream::Stream;

/// The longest time that a client keeps its slot while it syncs; others wait.
const SYNC_AT_MOST: Duration = Duration::from_secs(10);

/// The limits of an open stream, and when to check them. The timer is not reset by each message.
pub(super) struct Limits {
    session: Arc<Session>,
    /// When its age limit is reached.
    old: Option<Instant>,
    /// Its slot among the streams that have not got everything yet, and how long it may keep it.
    syncing: Option<(OwnedSemaphorePermit, Instant)>,
    reading: Reading,
    pub(super) timer: Pin<Box<Sleep>>,
}

impl Limits {
    pub(super) fn new(session: &Arc<Session>, place: OwnedSemaphorePermit) -> Self {
        let (now, config) = (Instant::now(), &session.shared.config);
        let mut limits = Self {
            session: session.clone(),
            old: config.max_stream_age.and_then(|age| now.checked_add(spread(age))),
            syncing: Some((place, now + SYNC_AT_MOST)),
            reading: Reading::default(),
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
        };
        limits.set_timer(now);
        limits
    }

    /// Releases the slot of a stream that has got everything that it can, or that took too long.
    pub(super) fn note(&mut self) {
        if let Some((_, until)) = &self.syncing {
            let done = self.session.stream(Stream::is_idle).unwrap_or(true);
            if done || Instant::now() >= *until {
                self.syncing = None;
            }
        }
    }

    /// Fails if a limit is exceeded; otherwise sets the timer to the first time at which one can
    /// be.
    pub(super) fn check(&mut self) -> Result<(), Status> {
        let now = Instant::now();
        let config = &self.session.shared.config;
        let unanswered = self.session.stream(Stream::unanswered_since).flatten();
        if unanswered.is_some_and(|since| now - since >= config.ack_timeout) {
            return Err(Status::deadline_exceeded("a response was not answered"));
        }
        if self.old.is_some_and(|old| now >= old) {
            return Err(Status::unavailable("the stream is old; open another"));
        }
        let stuck_since = self.reading.note(self.session.waits_for_reader(), now);
        if stuck_since.is_some_and(|since| now - since >= config.send_timeout) {
            return Err(Status::deadline_exceeded("responses were not read"));
        }
        self.note();
        self.set_timer(now);
        Ok(())
    }

    fn set_timer(&mut self, now: Instant) {
        let config = &self.session.shared.config;
        let unanswered = self.session.stream(Stream::unanswered_since).flatten();
        let syncing = self.syncing.as_ref().map(|(_, until)| *until);
        let due = self.old.into_iter().chain(syncing);
        let due = due.chain(unanswered.unwrap_or(now).checked_add(config.ack_timeout));
        let looked = self.reading.stuck_since().unwrap_or(now);
        let due = due.chain(looked.checked_add(config.send_timeout)).min();
        if let Some(due) = due {
            self.timer.as_mut().reset(due.into());
        }
    }
}

/// Tracks whether the connection reads what waits for it.
#[derive(Debug, Default)]
struct Reading {
    /// The number of polls at the last change, and since when there were no more.
    stuck: Option<(u64, Instant)>,
}

impl Reading {
    /// `asked` is the number of polls so far, if something waits. Returns since when the connection
    /// has not read.
    fn note(&mut self, asked: Option<u64>, now: Instant) -> Option<Instant> {
        self.stuck = asked.map(|asked| match self.stuck {
            Some((before, since)) if before == asked => (asked, since),
            _ => (asked, now),
        });
        self.stuck_since()
    }

    fn stuck_since(&self) -> Option<Instant> {
        self.stuck.map(|(_, since)| since)
    }
}

/// Adds up to a tenth, so that streams that were opened together do not end together (R85).
#[expect(clippy::disallowed_methods, reason = "nothing but a spread depends on it")]
fn spread(age: Duration) -> Duration {
    age.saturating_add((age / 1_000).saturating_mul(rand::random_range(0..=100)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_for_more_reads_however_often_one_looks() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut reading = Reading::default();
        assert_eq!(reading.note(None, at(0)), None);
        assert_eq!(reading.note(Some(7), at(1)), Some(at(1)), "it waits from now on");
        assert_eq!(reading.note(Some(7), at(2)), Some(at(1)));
        assert_eq!(reading.note(Some(8), at(3)), Some(at(3)), "it asked for more");
        assert_eq!(reading.note(None, at(4)), None, "nothing waits");
        assert_eq!(reading.note(Some(8), at(5)), Some(at(5)));
    }

    #[test]
    fn streams_that_were_opened_together_do_not_end_together() {
        let age = Duration::from_secs(1_000);
        let ages: Vec<_> = (0..100).map(|_| spread(age)).collect();
        assert!(ages.iter().all(|spread| (age..=age + age / 10).contains(spread)));
        assert!(ages.iter().any(|spread| *spread != ages[0]));
    }
}
