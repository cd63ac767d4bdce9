//! Who is connected, and what each said last. In memory: an agent says everything again when it
//! opens its stream.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use imp_core::{AgentId, ClusterId, ProductPublishId, TenantId};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::settle::Reported;

/// What calls to a publish may still be counted after it is gone.
const GONE_KEPT: Duration = Duration::from_secs(3600);

/// More than any cluster has; an agent that says more is out of its mind.
const MAX_PUBLISHES: usize = 200_000;

/// One report stream of one agent.
#[derive(Clone, Debug)]
pub struct Session {
    pub cluster: ClusterId,
    pub agent: AgentId,
    number: u64,
    /// Cancelled when the agent opens another one.
    pub superseded: CancellationToken,
}

/// All clusters.
#[derive(Debug, Default)]
pub struct ConnectedAgents {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    last_session: u64,
    clusters: HashMap<ClusterId, Cluster>,
}

#[derive(Debug, Default)]
struct Cluster {
    agents: HashMap<AgentId, Agent>,
    /// Publishes that the database said are in this cluster, with their owners.
    own: HashMap<ProductPublishId, TenantId>,
    gone: HashMap<ProductPublishId, (TenantId, Instant)>,
}

#[derive(Debug)]
struct Agent {
    session: Session,
    reports: HashMap<ProductPublishId, Reported>,
}

impl ConnectedAgents {
    /// An agent opened a report stream; an earlier one of it ends.
    pub fn join(&self, cluster: ClusterId, agent: AgentId) -> Session {
        let mut state = self.lock();
        state.last_session += 1;
        let superseded = CancellationToken::new();
        let session = Session { cluster, agent, number: state.last_session, superseded };
        let agents = &mut state.clusters.entry(cluster).or_default().agents;
        let joined = Agent { session: session.clone(), reports: HashMap::new() };
        match agents.insert(agent, joined) {
            Some(earlier) => earlier.session.superseded.cancel(),
            None => metrics::gauge!("imp_agents_connected").increment(1.0),
        }
        session
    }

    /// The stream ended. What the agent had said of publishes, unless it is back already.
    pub fn leave(&self, session: &Session) -> Vec<ProductPublishId> {
        let mut state = self.lock();
        let Some(cluster) = state.clusters.get_mut(&session.cluster) else { return Vec::new() };
        let current = cluster.agents.get(&session.agent);
        if current.is_none_or(|agent| agent.session.number != session.number) {
            return Vec::new();
        }
        metrics::gauge!("imp_agents_connected").decrement(1.0);
        let left = cluster.agents.remove(&session.agent);
        left.map(|agent| agent.reports.into_keys().collect()).unwrap_or_default()
    }

    /// Takes what an agent said. The publishes of which it said something new.
    pub fn report(
        &self,
        session: &Session,
        reports: Vec<(ProductPublishId, Reported)>,
    ) -> Vec<ProductPublishId> {
        let mut state = self.lock();
        let cluster = state.clusters.get_mut(&session.cluster);
        let agent = cluster.and_then(|cluster| cluster.agents.get_mut(&session.agent));
        let Some(agent) = agent.filter(|agent| agent.session.number == session.number) else {
            return Vec::new();
        };
        let mut news = Vec::new();
        for (id, reported) in reports {
            let known = agent.reports.get(&id);
            let room = known.is_some() || agent.reports.len() < MAX_PUBLISHES;
            if known != Some(&reported) && room {
                agent.reports.insert(id, reported);
                news.push(id);
            }
        }
        news
    }

    /// What every connected agent of the cluster says of a publish.
    pub fn reports(&self, cluster: ClusterId, publish: ProductPublishId) -> Vec<Option<Reported>> {
        let state = self.lock();
        let Some(cluster) = state.clusters.get(&cluster) else { return Vec::new() };
        cluster.agents.values().map(|agent| agent.reports.get(&publish).cloned()).collect()
    }

    /// Whether any agent of the cluster has said anything of a publish.
    pub fn knows(&self, cluster: ClusterId, publish: ProductPublishId) -> bool {
        let state = self.lock();
        let agents = state.clusters.get(&cluster).into_iter().flat_map(|c| c.agents.values());
        agents.into_iter().any(|agent| agent.reports.contains_key(&publish))
    }

    /// The database says whose it is.
    pub fn own(&self, cluster: ClusterId, publish: ProductPublishId, tenant: TenantId) {
        let mut state = self.lock();
        state.clusters.entry(cluster).or_default().own.insert(publish, tenant);
    }

    /// Whose a publish of the cluster is, or lately was.
    pub fn owner(&self, cluster: ClusterId, publish: ProductPublishId) -> Option<TenantId> {
        let state = self.lock();
        let cluster = state.clusters.get(&cluster)?;
        let gone = || cluster.gone.get(&publish).map(|(tenant, _)| tenant);
        cluster.own.get(&publish).or_else(gone).copied()
    }

    /// The database says that it is none of this cluster's.
    pub fn disown(&self, cluster: ClusterId, publish: ProductPublishId) {
        let mut state = self.lock();
        if let Some(cluster) = state.clusters.get_mut(&cluster) {
            cluster.forget(publish, Instant::now());
        }
    }

    /// It is gone from wherever it was.
    pub fn gone(&self, publish: ProductPublishId, now: Instant) {
        let mut state = self.lock();
        for cluster in state.clusters.values_mut() {
            cluster.forget(publish, now);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cluster {
    fn forget(&mut self, publish: ProductPublishId, now: Instant) {
        for agent in self.agents.values_mut() {
            agent.reports.remove(&publish);
        }
        if let Some(tenant) = self.own.remove(&publish) {
            self.gone.retain(|_, (_, at)| now.duration_since(*at) < GONE_KEPT);
            self.gone.insert(publish, (tenant, now));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reported(revision: i64) -> Reported {
        Reported { revision, ..Reported::default() }
    }

    #[test]
    fn a_second_stream_of_an_agent_takes_the_place_of_the_first() {
        let (connected, cluster, agent) =
            (ConnectedAgents::default(), ClusterId::new(), AgentId::new());
        let publish = ProductPublishId::new();
        let first = connected.join(cluster, agent);
        assert_eq!(connected.report(&first, vec![(publish, reported(1))]), [publish]);
        let second = connected.join(cluster, agent);
        assert!(first.superseded.is_cancelled() && !second.superseded.is_cancelled());
        assert!(connected.report(&first, vec![(publish, reported(2))]).is_empty());
        assert!(connected.leave(&first).is_empty());
        assert_eq!(connected.reports(cluster, publish), [None]);
        connected.report(&second, vec![(publish, reported(3))]);
        assert_eq!(connected.leave(&second), [publish]);
        assert!(connected.reports(cluster, publish).is_empty());
    }

    #[test]
    fn what_is_said_again_is_no_news() {
        let (connected, publish) = (ConnectedAgents::default(), ProductPublishId::new());
        let session = connected.join(ClusterId::new(), AgentId::new());
        assert_eq!(connected.report(&session, vec![(publish, reported(1))]), [publish]);
        assert!(connected.report(&session, vec![(publish, reported(1))]).is_empty());
    }

    #[test]
    fn the_owner_of_what_is_gone_is_known_for_a_while_and_only_in_its_cluster() {
        let (connected, cluster, tenant) =
            (ConnectedAgents::default(), ClusterId::new(), TenantId::new());
        let (one, other) = (ProductPublishId::new(), ProductPublishId::new());
        connected.own(cluster, one, tenant);
        let now = Instant::now();
        connected.gone(one, now);
        assert_eq!(connected.owner(cluster, one), Some(tenant));
        assert_eq!(connected.owner(ClusterId::new(), one), None);
        connected.own(cluster, other, tenant);
        connected.gone(other, now + GONE_KEPT);
        assert_eq!(connected.owner(cluster, one), None);
    }
}
