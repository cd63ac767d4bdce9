//! Derives the status of a publish from the agents' reports. Pure.

use std::collections::BTreeMap;

use chrono::{DateTime, SubsecRound as _, TimeDelta, Utc};
use imp_core::product_publish::{
    NodeCounts, ProductPublish, Progress, PublishCondition, PublishError, PublishStatus,
};

/// Envoys of an agent that has a revision and reports nothing new for this long count as
/// unresponsive.
pub const PATIENCE: TimeDelta = TimeDelta::seconds(10);

/// The last report of one agent on a publish.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reported {
    /// The revision that it holds and pushes.
    pub revision: i64,
    /// The newest revision that all its Envoys acknowledged.
    pub acked_revision: i64,
    pub nodes: NodeCounts,
    /// How many of the Envoys that are behind the agent no longer waits for.
    pub silent: u32,
    /// The error of `revision`.
    pub error: Option<Box<PublishError>>,
    /// What else it says.
    pub conditions: Vec<PublishCondition>,
    /// Since when the agent has reported nothing new on any publish; `None` if unknown.
    pub quiet_since: Option<DateTime<Utc>>,
}

impl Reported {
    fn total(&self) -> u32 {
        let NodeCounts { acked, nacked, behind } = self.nodes;
        acked.saturating_add(nacked).saturating_add(behind)
    }

    /// Whether Envoys are connected, none has acknowledged or rejected the revision, and none ever
    /// acknowledged an earlier one.
    pub fn is_unanswered(&self) -> bool {
        let NodeCounts { acked, nacked, behind } = self.nodes;
        let answered = acked > 0 || nacked > 0 || self.error.is_some();
        behind > 0 && !answered && self.acked_revision < self.revision
    }

    /// Whether the Envoys had enough time: the agent waits for none of them, or nothing changes
    /// there.
    fn is_overdue(&self, now: DateTime<Utc>) -> bool {
        let quiet = self.quiet_since.is_some_and(|since| now - since >= PATIENCE);
        self.is_unanswered() && (quiet || self.silent >= self.nodes.behind)
    }

    /// Whether no Envoy of this agent has it and one gave an error. A rejection of something that
    /// others accepted is that Envoy's own problem.
    fn refuses(&self) -> bool {
        let by_envoys = |error: &PublishError| error.code == "envoy_nack";
        let by_agent = self.error.as_ref().is_some_and(|error| !by_envoys(error));
        by_agent || self.nodes.acked == 0 && (self.error.is_some() || self.nodes.nacked > 0)
    }
}

/// The publish as it should be stored now. `reports` has one entry per connected agent of the
/// cluster: its report on this publish, if it has sent one.
pub fn settle(
    before: &ProductPublish,
    reports: &[Option<Reported>],
    now: DateTime<Utc>,
) -> ProductPublish {
    let mut after = before.clone();
    after.nodes = nodes(before.desired_revision, reports);
    after.acked_revision = acked_revision(before, reports);
    after.conditions = conditions(before, reports);
    if let Some(progress) = progress(before, reports, after.nodes) {
        after.status = before.status.report(progress);
        after.last_error = match progress {
            Progress::Refused => Some(refusal(before, reports).unwrap_or_else(wordless)),
            Progress::Acked | Progress::Deploying => refusal(before, reports),
        };
        if progress == Progress::Deploying && is_overdue(before, reports, after.nodes, now) {
            after.status = before.status.report(Progress::Refused);
            after.last_error = Some(no_answer(after.nodes.behind));
        }
        let first =
            before.activated_at.is_none() || before.acked_revision < before.desired_revision;
        if after.status == PublishStatus::Active && first {
            after.activated_at = Some(now.trunc_subsecs(6));
        }
    }
    after
}

/// Sums the counts over all agents. An Envoy that was sent another revision has not answered yet.
fn nodes(desired: i64, reports: &[Option<Reported>]) -> NodeCounts {
    let mut sum = NodeCounts::default();
    for report in reports.iter().flatten() {
        let counts = match report.revision == desired {
            true => report.nodes,
            false => NodeCounts { behind: report.total(), ..NodeCounts::default() },
        };
        sum.acked = sum.acked.saturating_add(counts.acked);
        sum.nacked = sum.nacked.saturating_add(counts.nacked);
        sum.behind = sum.behind.saturating_add(counts.behind);
    }
    sum
}

/// The revision that every Envoy has acknowledged. Envoys that come or go do not lower it.
fn acked_revision(before: &ProductPublish, reports: &[Option<Reported>]) -> i64 {
    if reports.iter().any(Option::is_none) {
        return before.acked_revision;
    }
    let with_envoys = reports.iter().flatten().filter(|report| report.total() > 0);
    let everywhere = with_envoys.map(|report| report.acked_revision).min().unwrap_or_default();
    before.acked_revision.max(everywhere.min(before.desired_revision))
}

/// What the agents say beside it, of each type the newest. What was said stays while none of them speaks.
fn conditions(before: &ProductPublish, reports: &[Option<Reported>]) -> Vec<PublishCondition> {
    if reports.iter().all(Option::is_none) {
        return before.conditions.clone();
    }
    let mut newest: BTreeMap<&str, &PublishCondition> = BTreeMap::new();
    for said in reports.iter().flatten().flat_map(|report| &report.conditions) {
        let known = newest.entry(&said.kind).or_insert(said);
        if known.since < said.since {
            *known = said;
        }
    }
    newest.into_values().cloned().collect()
}

/// The new status; `None` if no report can change it.
fn progress(
    before: &ProductPublish,
    reports: &[Option<Reported>],
    nodes: NodeCounts,
) -> Option<Progress> {
    let desired = before.desired_revision;
    let current = || reports.iter().flatten().filter(|report| report.revision == desired);
    current().next()?;
    if current().any(Reported::refuses) {
        return Some(Progress::Refused);
    }
    if nodes == NodeCounts::default()
        && matches!(before.status, PublishStatus::Active | PublishStatus::Failed)
    {
        return None;
    }
    let agrees = |report: &Option<Reported>| {
        report.as_ref().is_some_and(|report| {
            report.revision == desired
                && report.nodes.behind <= report.silent
                && (report.nodes.acked == 0 || report.acked_revision == desired)
        })
    };
    let all = nodes.acked > 0 && reports.iter().all(agrees);
    Some(if all { Progress::Acked } else { Progress::Deploying })
}

/// Whether it has failed because no Envoy answers. That lasts until one does, whatever else
/// happens.
fn is_overdue(
    before: &ProductPublish,
    reports: &[Option<Reported>],
    nodes: NodeCounts,
    now: DateTime<Utc>,
) -> bool {
    let of_desired = |report: &&Reported| report.revision == before.desired_revision;
    let unanswered = nodes.acked == 0
        && before.acked_revision < before.desired_revision
        && reports.iter().flatten().filter(of_desired).any(Reported::is_unanswered);
    let known = before.status == PublishStatus::Failed
        && before.last_error.as_ref().is_some_and(|error| error.code == NO_ANSWER);
    unanswered
        && (known || reports.iter().flatten().filter(of_desired).any(|it| it.is_overdue(now)))
}

const NO_ANSWER: &str = "no_answer";

/// The error when agents have it and their Envoys do not answer.
pub fn no_answer(envoys: u32) -> PublishError {
    PublishError {
        code: NO_ANSWER.to_owned(),
        resource: String::new(),
        envoy_message: String::new(),
        hint: format!(
            "{envoys} of the gateway's Envoys were given it and none has answered. See whether they run \
             and what their logs say; it becomes active by itself when one takes it."
        ),
    }
}

fn refusal(before: &ProductPublish, reports: &[Option<Reported>]) -> Option<PublishError> {
    let current =
        || reports.iter().flatten().filter(|report| report.revision == before.desired_revision);
    current().find_map(|report| report.error.as_deref().cloned())
}

/// The error when an Envoy rejected it without a message that the agent knows.
fn wordless() -> PublishError {
    PublishError {
        code: "envoy_nack".to_owned(),
        resource: String::new(),
        envoy_message: String::new(),
        hint: "see the agent's log".to_owned(),
    }
}

#[cfg(test)]
mod tests;
