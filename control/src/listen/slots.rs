//! Limits the connections of a port: when all slots are taken, the connection that has been idle
//! longest is closed, so that idle peers keep nobody out. Unauthenticated ones are closed first.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};

use super::activity::Activity;

#[derive(Clone, Debug)]
pub(super) struct Slots {
    most: usize,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Debug, Default)]
struct Taken {
    next: u64,
    by: HashMap<u64, (CancellationToken, Arc<Activity>)>,
}

/// A connection's slot; released on drop.
#[derive(Debug)]
pub(super) struct Slot {
    id: u64,
    cut: CancellationToken,
    activity: Arc<Activity>,
    taken: Arc<Mutex<Taken>>,
}

impl Slots {
    pub(super) fn new(most: usize) -> Self {
        Self { most, taken: Arc::default() }
    }

    /// Takes a slot; `None` if all are taken by busy connections.
    pub(super) fn take(&self) -> Option<Slot> {
        let mut taken = lock(&self.taken);
        if taken.by.len() >= self.most && !taken.cut_idlest() {
            return None;
        }
        let (cut, activity) = (CancellationToken::new(), Activity::new());
        taken.next += 1;
        let id = taken.next;
        taken.by.insert(id, (cut.clone(), activity.clone()));
        metrics::gauge!("imp_connections").set(taken.by.len() as f64);
        Some(Slot { id, cut, activity, taken: self.taken.clone() })
    }

    pub(super) fn cut_idlest(&self) -> bool {
        lock(&self.taken).cut_idlest()
    }

    pub(super) fn cut_all(&self) {
        for (_, (cut, _)) in lock(&self.taken).by.drain() {
            cut.cancel();
        }
    }
}

impl Taken {
    fn cut_idlest(&mut self) -> bool {
        let idle = |(id, (_, activity)): (&u64, &(_, Arc<Activity>))| {
            activity.rank().map(|rank| (rank, *id))
        };
        let idlest = self.by.iter().filter_map(idle).min();
        let cut = idlest.and_then(|(_, id)| self.by.remove(&id));
        if let Some((cut, _)) = &cut {
            cut.cancel();
            metrics::counter!("imp_connections_cut_total").increment(1);
        }
        cut.is_some()
    }
}

impl Slot {
    pub(super) fn activity(&self) -> &Arc<Activity> {
        &self.activity
    }

    /// Resolves when the slot is needed for another connection.
    pub(super) fn cut(&self) -> WaitForCancellationFuture<'_> {
        self.cut.cancelled()
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        lock(&self.taken).by.remove(&self.id);
    }
}

fn lock(taken: &Mutex<Taken>) -> MutexGuard<'_, Taken> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

/// At most half of the process's file descriptors: the database, the agents and the log need some.
pub(super) fn affordable(wanted: usize) -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let open_files = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let most = open_files.and_then(|line| line.split_whitespace().next()?.parse::<usize>().ok());
    most.map_or(wanted, |most| wanted.min((most / 2).max(8)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_give_way_before_those_who_are_known() {
        let slots = Slots::new(3);
        let [known, stranger, busy] = [(); 3].map(|()| slots.take().unwrap());
        known.activity().welcome();
        let _request = busy.activity().begin();
        let newer = slots.take().unwrap();
        let is_cut = |slot: &Slot| slot.cut.is_cancelled();
        assert_eq!([&known, &stranger, &busy].map(is_cut), [false, true, false]);
        newer.activity().welcome();
        let _newest = slots.take().unwrap();
        assert!(is_cut(&known) && !is_cut(&newer), "of those, who is idle longest");
    }
}
