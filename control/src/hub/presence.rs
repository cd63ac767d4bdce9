//! Detects processes that use one agent's identity at the same time: a copied state directory, or a
//! stolen one.
//!
//! A process names itself in the proofs that it signs. A new stream of the same process replaces
//! the earlier one: that is a reconnect, and the old connection may not have noticed yet that it is
//! dead. Another process may be a restart after a crash, so two count as duplicates only when both
//! are still there after dead connections would have been detected, when an old process returns
//! although a newer one was seen, or when processes of one name replace each other again and again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use clap::ValueEnum;
use imp_core::AgentId;
use imp_grammar::caps;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// How to treat the second process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Duplicates {
    /// Serve it and report it to the operator.
    #[default]
    Allow,
    /// Refuse it while the first one is connected, and report it.
    Refuse,
}

/// Longer than it takes to detect a dead connection: twice the keep-alive times.
const OVERLAP: Duration = Duration::from_secs(30);

/// How often an agent's duplicate is reported again.
const AGAIN: Duration = Duration::from_secs(60);

/// This many replacements within [`AGAIN`] are not explained by a bad network.
const DISPLACEMENTS: u32 = 10;

/// How many processes with one identity are served at a time, and how many are remembered.
const PROCESSES: usize = caps::AGENT_PROCESSES.size();

/// The kinds of streams; each process has one of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Resources to the agent.
    Delta,
    /// Status and usage from the agent.
    Report,
}

/// All agents that are connected here.
#[derive(Debug)]
pub struct Presence {
    policy: Duplicates,
    agents: Mutex<HashMap<AgentId, Agent>>,
    noticed: mpsc::Sender<AgentId>,
}

#[derive(Debug, Default)]
struct Agent {
    last_number: u64,
    streams: Vec<Stream>,
    /// Processes that were seen, the most recent last.
    seen: Vec<Arc<str>>,
    told_at: Option<Instant>,
    /// How many streams were replaced, and since when that is counted.
    displaced: Option<(u32, Instant)>,
    /// Since when a refused process keeps trying.
    contested_since: Option<Instant>,
}

#[derive(Debug)]
struct Stream {
    number: u64,
    kind: Kind,
    instance: Arc<str>,
    since: Instant,
    displaced: CancellationToken,
}

/// An open stream; dropping it ends it.
#[derive(Debug)]
pub struct Present {
    presence: Arc<Presence>,
    agent: AgentId,
    number: u64,
    /// Cancelled when another stream of the same process replaces it.
    pub displaced: CancellationToken,
}

impl Presence {
    /// Sends duplicates to the receiver, at most one per agent and period.
    pub fn new(policy: Duplicates) -> (Arc<Self>, mpsc::Receiver<AgentId>) {
        let (noticed, receiver) = mpsc::channel(256);
        (Arc::new(Self { policy, agents: Mutex::default(), noticed }), receiver)
    }

    /// Registers a stream of a process.
    pub fn join(
        self: &Arc<Self>,
        id: AgentId,
        instance: &Arc<str>,
        kind: Kind,
        now: Instant,
    ) -> Result<Present, Status> {
        let mut agents = self.lock();
        let agent = agents.entry(id).or_default();
        let others = agent.others(instance);
        let comes_back = agent.note(instance);
        let refused = match self.policy {
            Duplicates::Refuse if others > 0 => Some(in_use()),
            _ if others >= PROCESSES => Some(Status::resource_exhausted("too many processes")),
            _ => None,
        };
        if refused.is_none() {
            agent.contested_since = None;
        }
        let contested =
            refused.is_some() && now - *agent.contested_since.get_or_insert(now) >= OVERLAP;
        let displaced = refused.is_none() && agent.displace(instance, kind, now);
        if (comes_back && others > 0) || contested || displaced {
            self.tell(id, agent, now);
        }
        if let Some(status) = refused {
            return Err(status);
        }
        agent.last_number += 1;
        let (number, displaced) = (agent.last_number, CancellationToken::new());
        let instance = instance.clone();
        agent.streams.push(Stream {
            number,
            kind,
            instance,
            since: now,
            displaced: displaced.clone(),
        });
        drop(agents);
        Ok(Present { presence: self.clone(), agent: id, number, displaced })
    }

    /// Looks for processes that have overlapped for too long.
    pub fn look(&self, now: Instant) {
        for (id, agent) in self.lock().iter_mut() {
            let old = agent.streams.iter().filter(|stream| now - stream.since >= OVERLAP);
            let mut processes: Vec<&Arc<str>> = old.map(|stream| &stream.instance).collect();
            processes.sort();
            processes.dedup();
            if processes.len() > 1 {
                self.tell(*id, agent, now);
            }
        }
    }

    fn tell(&self, id: AgentId, agent: &mut Agent, now: Instant) {
        if agent.told_at.is_some_and(|at| now - at < AGAIN) {
            return;
        }
        agent.told_at = Some(now);
        metrics::counter!("imp_agent_duplicate_streams_total").increment(1);
        tracing::warn!(agent = %id, policy = ?self.policy, "two processes use one agent's identity: revoke it unless you know why");
        // If the queue is full, the log and the counter still have it.
        let _full = self.noticed.try_send(id);
    }

    fn leave(&self, id: AgentId, number: u64) {
        let mut agents = self.lock();
        let Some(agent) = agents.get_mut(&id) else { return };
        agent.streams.retain(|stream| stream.number != number);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<AgentId, Agent>> {
        self.agents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Agent {
    /// The number of other processes with streams.
    fn others(&self, instance: &Arc<str>) -> usize {
        let others = self.streams.iter().map(|stream| &stream.instance);
        let mut others: Vec<_> = others.filter(|other| *other != instance).collect();
        others.sort();
        others.dedup();
        others.len()
    }

    /// Returns whether the process is back after a newer one was seen.
    fn note(&mut self, instance: &Arc<str>) -> bool {
        let before = self.seen.iter().position(|seen| seen == instance);
        let comes_back = before.is_some_and(|at| at + 1 < self.seen.len());
        if let Some(at) = before {
            self.seen.remove(at);
        }
        self.seen.push(instance.clone());
        if self.seen.len() > PROCESSES {
            self.seen.remove(0);
        }
        comes_back
    }

    /// Ends the process's earlier stream of this kind. Returns whether that happens too often.
    fn displace(&mut self, instance: &Arc<str>, kind: Kind, now: Instant) -> bool {
        let mut found = false;
        self.streams.retain(|stream| {
            let same = stream.kind == kind && stream.instance == *instance;
            if same {
                stream.displaced.cancel();
                found = true;
            }
            !same
        });
        if !found {
            return false;
        }
        let counted = self.displaced.filter(|(_, since)| now - *since < AGAIN);
        let (count, since) = counted.unwrap_or((0, now));
        self.displaced = Some((count + 1, since));
        count + 1 >= DISPLACEMENTS
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        self.presence.leave(self.agent, self.number);
    }
}

fn in_use() -> Status {
    Status::already_exists("another process uses this agent's identity; revoke it, or stop one")
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Scene {
        presence: Arc<Presence>,
        noticed: mpsc::Receiver<AgentId>,
        agent: AgentId,
        now: Instant,
    }

    impl Scene {
        fn new(policy: Duplicates) -> Self {
            let (presence, noticed) = Presence::new(policy);
            Self { presence, noticed, agent: AgentId::new(), now: Instant::now() }
        }

        fn join(&self, instance: &str, kind: Kind) -> Result<Present, Status> {
            self.presence.join(self.agent, &instance.into(), kind, self.now)
        }

        fn noticed(&mut self) -> bool {
            self.presence.look(self.now);
            self.noticed.try_recv().is_ok()
        }
    }

    #[test]
    fn a_reconnect_takes_the_place_of_the_stream_before_and_is_no_duplicate() {
        for policy in [Duplicates::Allow, Duplicates::Refuse] {
            let mut scene = Scene::new(policy);
            let _report = scene.join("one", Kind::Report).unwrap();
            let first = scene.join("one", Kind::Delta).unwrap();
            let second = scene.join("one", Kind::Delta).unwrap();
            assert!(first.displaced.is_cancelled() && !second.displaced.is_cancelled());
            drop(first);
            scene.now += OVERLAP * 2;
            assert!(!scene.noticed());
        }
    }

    #[test]
    fn a_restart_over_a_dead_connection_is_no_duplicate() {
        let mut scene = Scene::new(Duplicates::Allow);
        let dead = scene.join("crashed", Kind::Delta).unwrap();
        scene.now += OVERLAP;
        let _living = scene.join("restarted", Kind::Delta).unwrap();
        scene.now += OVERLAP - Duration::from_secs(1);
        assert!(!scene.noticed());
        drop(dead);
        scene.now += OVERLAP;
        assert!(!scene.noticed());
    }

    #[test]
    fn two_that_stay_are_noticed_and_both_are_served() {
        let mut scene = Scene::new(Duplicates::Allow);
        let one = scene.join("one", Kind::Delta).unwrap();
        let two = scene.join("two", Kind::Delta).unwrap();
        scene.now += OVERLAP;
        assert!(scene.noticed());
        assert!(!one.displaced.is_cancelled() && !two.displaced.is_cancelled());
        assert!(!scene.noticed(), "told once in a while");
        scene.now += AGAIN;
        assert!(scene.noticed());
    }

    #[test]
    fn an_old_process_that_comes_back_is_noticed_at_once() {
        let mut scene = Scene::new(Duplicates::Allow);
        let _one = scene.join("one", Kind::Delta).unwrap();
        let _two = scene.join("two", Kind::Delta).unwrap();
        assert!(!scene.noticed());
        let _back = scene.join("one", Kind::Report).unwrap();
        assert!(scene.noticed());
    }

    #[test]
    fn processes_of_one_name_that_displace_each_other_are_noticed() {
        let mut scene = Scene::new(Duplicates::Allow);
        let mut streams = Vec::new();
        for _ in 0..DISPLACEMENTS {
            streams.push(scene.join("one", Kind::Delta).unwrap());
            assert!(!scene.noticed());
        }
        streams.push(scene.join("one", Kind::Delta).unwrap());
        assert!(scene.noticed());
    }

    #[test]
    fn a_second_process_is_refused_by_choice_until_the_first_is_gone() {
        let mut scene = Scene::new(Duplicates::Refuse);
        let first = scene.join("one", Kind::Delta).unwrap();
        let refused = scene.join("two", Kind::Delta).unwrap_err();
        assert_eq!(refused.code(), tonic::Code::AlreadyExists);
        assert!(!scene.noticed(), "it may be a restart");
        scene.now += OVERLAP;
        scene.join("two", Kind::Delta).unwrap_err();
        assert!(scene.noticed());
        assert!(!first.displaced.is_cancelled());
        drop(first);
        scene.join("two", Kind::Delta).unwrap();
    }

    #[test]
    fn processes_of_one_identity_are_bounded() {
        let scene = Scene::new(Duplicates::Allow);
        let streams: Vec<_> =
            (0..PROCESSES).map(|n| scene.join(&n.to_string(), Kind::Delta).unwrap()).collect();
        let refused = scene.join("one more", Kind::Delta).unwrap_err();
        assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
        drop(streams);
    }
}
