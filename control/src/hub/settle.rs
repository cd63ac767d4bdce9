//! From what agents say of a publish to where it stands. Pure.

use chrono::{DateTime, SubsecRound as _, Utc};
use imp_core::product_publish::{
    NodeCounts, ProductPublish, Progress, PublishError, PublishStatus,
};

/// What one agent said last of a publish.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reported {
    /// The revision that it holds and pushes.
    pub revision: i64,
    /// The newest that all its Envoys acknowledged.
    pub acked_revision: i64,
    pub nodes: NodeCounts,
    /// Of those that are behind, the ones that nobody waits for.
    pub silent: u32,
    /// Of `revision`.
    pub error: Option<PublishError>,
}

impl Reported {
    fn total(&self) -> u32 {
        let NodeCounts { acked, nacked, behind } = self.nodes;
        acked.saturating_add(nacked).saturating_add(behind)
    }

    /// No Envoy of this agent has it, and one said why. What others have accepted, an Envoy refuses for
    /// itself alone.
    fn refuses(&self) -> bool {
        let by_envoys = |error: &PublishError| error.code == "envoy_nack";
        let by_agent = self.error.as_ref().is_some_and(|error| !by_envoys(error));
        by_agent || self.nodes.acked == 0 && (self.error.is_some() || self.nodes.nacked > 0)
    }
}

/// The publish as it should be stored now. `reports` has one place per connected agent of the
/// cluster: what it said, if it said anything of this publish so far.
pub fn settle(
    before: &ProductPublish,
    reports: &[Option<Reported>],
    now: DateTime<Utc>,
) -> ProductPublish {
    let mut after = before.clone();
    after.nodes = nodes(before.desired_revision, reports);
    after.acked_revision = acked_revision(before, reports);
    if let Some(progress) = progress(before, reports, after.nodes) {
        after.status = before.status.report(progress);
        after.last_error = match progress {
            Progress::Refused => Some(refusal(before, reports).unwrap_or_else(wordless)),
            Progress::Acked | Progress::Deploying => refusal(before, reports),
        };
        let first =
            before.activated_at.is_none() || before.acked_revision < before.desired_revision;
        if after.status == PublishStatus::Active && first {
            after.activated_at = Some(now.trunc_subsecs(6));
        }
    }
    after
}

/// The sum over all agents. An Envoy that was asked about another revision has not answered yet.
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

/// What every Envoy has acknowledged. An Envoy that comes or goes takes nothing back.
fn acked_revision(before: &ProductPublish, reports: &[Option<Reported>]) -> i64 {
    if reports.iter().any(Option::is_none) {
        return before.acked_revision;
    }
    let with_envoys = reports.iter().flatten().filter(|report| report.total() > 0);
    let everywhere = with_envoys.map(|report| report.acked_revision).min().unwrap_or_default();
    before.acked_revision.max(everywhere.min(before.desired_revision))
}

/// None: nothing was said that could change where it stands.
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

fn refusal(before: &ProductPublish, reports: &[Option<Reported>]) -> Option<PublishError> {
    let current =
        || reports.iter().flatten().filter(|report| report.revision == before.desired_revision);
    current().find_map(|report| report.error.clone())
}

/// An Envoy refused, and the agent has no words for it.
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
