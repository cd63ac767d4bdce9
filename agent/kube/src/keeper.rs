//! Keeps sets of objects in an API server: applies them in order, removes what left them, corrects
//! what others change, and says what controllers make of them.
//!
//! [`state`] is what is wanted, what there is, and what follows; this module does it.

mod state;
mod work;

use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{StreamExt as _, pin_mut};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use crate::cluster::{Change, Cluster};
use crate::fault::Fault;
use crate::kinds::Kind;
use crate::object::Object;
use crate::standing::Standing;
use state::State;
use work::Done;

/// What is wanted.
#[derive(Debug)]
pub enum Order {
    /// These objects, in the order in which they are applied, in place of the set's former ones.
    Want {
        set: String,
        /// Comes back in reports.
        revision: u64,
        /// The `Gateway` whose controller is to accept them.
        gateway: String,
        objects: Vec<Object>,
    },
    /// What there is of the set, whatever it is: what is wanted follows later.
    Hold { set: String },
    /// None of the set.
    Forget { set: String },
    /// All sets have been told: what belongs to no set is removed.
    Complete,
}

/// What became of a set.
#[derive(Clone, Debug, PartialEq)]
pub enum Report {
    /// Its standing has changed.
    Stands { set: String, revision: u64, standing: Standing },
    /// Somebody else has changed an object of it; it is being corrected.
    Drifted { set: String, object: String, field: String, by: Option<String> },
    /// It was.
    Corrected { set: String, object: String },
}

/// What a keeper keeps where.
#[derive(Debug)]
pub struct Keeper {
    pub namespace: String,
    /// The selector of the objects that are ours.
    pub labels: String,
    pub kinds: Vec<&'static Kind>,
    /// The set of an object, from its labels.
    pub set_of: fn(&serde_json::Value) -> Option<String>,
}

/// Sets that are worked on at once.
const AT_ONCE: usize = 8;
/// How often silence of controllers is looked for.
const TICK: Duration = Duration::from_millis(250);

type Told = (&'static Kind, Result<Change, Fault>);

impl Keeper {
    /// Keeps what it is told to until the orders end.
    pub async fn run(
        self,
        cluster: Cluster,
        mut orders: mpsc::UnboundedReceiver<Order>,
        reports: mpsc::UnboundedSender<Report>,
    ) {
        let mut told = self.watch(&cluster);
        let mut state = State::new(&self.kinds, self.set_of);
        let mut working = FuturesUnordered::new();
        loop {
            let now = Instant::now();
            while working.len() < AT_ONCE
                && let Some(work) = state.next_work(now)
            {
                working.push(work.run(cluster.clone()));
            }
            for report in state.reports(now) {
                if reports.send(report).is_err() {
                    return;
                }
            }
            tokio::select! {
                order = orders.recv() => match order {
                    Some(order) => state.order(order, now),
                    None => return,
                },
                Some((kind, change)) = told.recv() => state.told(kind, change, now),
                Some(done) = working.next() => state.done(done, Instant::now()),
                () = sleep_until(now + TICK) => {}
            }
        }
    }

    fn watch(&self, cluster: &Cluster) -> mpsc::Receiver<Told> {
        let (sender, told) = mpsc::channel(1_024);
        for kind in &self.kinds {
            let changes = cluster.watch(kind, Some(&self.namespace), &self.labels);
            let (sender, kind) = (sender.clone(), *kind);
            tokio::spawn(async move {
                pin_mut!(changes);
                while let Some(change) = changes.next().await {
                    if sender.send((kind, change)).await.is_err() {
                        return;
                    }
                }
            });
        }
        told
    }
}

#[cfg(test)]
mod tests;
