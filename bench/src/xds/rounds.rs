//! The rounds of a trial, in which the subjects take turns.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::{Peers, Readings, Subject, Trial};

/// The settings of all trials.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// The number of rounds, if a trial does not limit it.
    pub rounds: usize,
    /// The time limit of a round for a peer. Ours has none.
    pub peer_limit: Duration,
}

/// All rounds of a trial.
#[derive(Debug, Default)]
pub struct Measured {
    pub rounds: BTreeMap<Subject, Vec<Readings>>,
    /// Subjects that did not finish a round, and why. They get no further rounds.
    pub unfinished: BTreeMap<Subject, String>,
}

impl Measured {
    /// The readings of this name, one for each round.
    pub(super) fn values(&self, subject: Subject, what: &str) -> Vec<f64> {
        let rounds = self.rounds.get(&subject).into_iter().flatten();
        let readings = rounds.flat_map(|round| &round.values);
        readings.filter(|reading| reading.what == what).map(|reading| reading.value).collect()
    }

    /// The faults of our subject.
    pub fn faults(&self) -> Vec<String> {
        let ours = self.rounds.get(&Subject::Ours).into_iter().flatten();
        let faults = ours.flat_map(|round| &round.values).filter(|r| r.fault && r.value != 0.0);
        let faults = faults.map(|reading| format!("{}: {}", reading.what, reading.value));
        faults.chain(self.unfinished.get(&Subject::Ours).cloned()).collect()
    }
}

/// Runs all rounds of a trial; `say` gets the result of each.
pub async fn measure(peers: &Peers, trial: &Trial, rules: Rules, say: impl Fn(&str)) -> Measured {
    let mut measured = Measured::default();
    let name = trial.name();
    for round in 1..=rules.rounds {
        for subject in peers.subjects() {
            let rounds = trial.rounds_of(subject, rules.rounds);
            if round > rounds || measured.unfinished.contains_key(&subject) {
                continue;
            }
            let started = Instant::now();
            let outcome = match bounded(peers, trial, subject, rules.peer_limit).await {
                Ok(readings) => {
                    let summary = readings.summary();
                    measured.rounds.entry(subject).or_default().push(readings);
                    summary
                }
                Err(error) => {
                    let why = format!("{error:#}");
                    measured.unfinished.insert(subject, why.clone());
                    why
                }
            };
            let (who, took) = (subject.name(), started.elapsed().as_secs_f64());
            say(&format!("{name}, round {round} of {rounds}: {who:<13} {outcome} ({took:.1} s)"));
        }
    }
    measured
}

/// Runs a round with a time limit; a peer that exceeds it is reported as unfinished.
async fn bounded(
    peers: &Peers,
    trial: &Trial,
    subject: Subject,
    limit: Duration,
) -> Result<Readings> {
    if subject == Subject::Ours {
        return trial.round(peers, subject).await;
    }
    match tokio::time::timeout(limit, trial.round(peers, subject)).await {
        Ok(readings) => readings,
        Err(_) => bail!("not finished in {limit:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xds::Reading;

    #[test]
    fn what_is_a_fault_of_ours_is_none_of_a_peers() {
        let faulty =
            || Readings::from(vec![Reading::fault("lost", 2), Reading::of("CPU", 1.0, "s")]);
        let mut measured = Measured::default();
        measured.rounds.insert(Subject::Linear, vec![faulty()]);
        measured.unfinished.insert(Subject::Snapshot, "not finished in 1s".to_owned());
        assert_eq!(measured.faults(), Vec::<String>::new());
        measured.rounds.insert(Subject::Ours, vec![Readings::default(), faulty()]);
        measured.unfinished.insert(Subject::Ours, "cut off".to_owned());
        assert_eq!(measured.faults(), ["lost: 2", "cut off"]);
    }
}
