//! The connected agents and the last report of each. In memory only: an agent reports everything
//! again when it opens its stream.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use imp_core::product_publish::PublishError;
use imp_core::{AgentId, ClusterId, GatewayId, ProductPublishId, TenantId};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::settle::{PATIENCE, Reported};

/// How long calls to a deleted publish may still be counted.
const GONE_KEPT: Duration = Duration::from_secs(3600);

/// A sanity bound: no cluster has this many publishes.
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
    /// Publishes that the database has placed in this cluster, with their owners.
    own: HashMap<ProductPublishId, TenantId>,
    gone: HashMap<ProductPublishId, (TenantId, Instant)>,
}

#[derive(Debug)]
struct Agent {
    session: Session,
    reports: HashMap<ProductPublishId, Reported>,
    /// When it last reported anything new about a publish, or was last checked for missing reports.
    news_at: DateTime<Utc>,
    swept: bool,
    /// `None` until it has reported which gateways it refuses.
    refused_gateways: Option<BTreeMap<GatewayId, PublishError>>,
}

impl ConnectedAgents {
    /// Registers a report stream; an earlier one of the same agent ends.
    pub fn join(&self, cluster: ClusterId, agent: AgentId, now: DateTime<Utc>) -> Session {
        let mut state = self.lock();
        state.last_session += 1;
        let superseded = CancellationToken::new();
        let session = Session { cluster, agent, number: state.last_session, superseded };
        let agents = &mut state.clusters.entry(cluster).or_default().agents;
        let joined = Agent {
            session: session.clone(),
            reports: HashMap::new(),
            news_at: now,
            swept: false,
            refused_gateways: None,
        };
        match agents.insert(agent, joined) {
            Some(earlier) => earlier.session.superseded.cancel(),
            None => metrics::gauge!("imp_agents_connected").increment(1.0),
        }
        session
    }

    /// Removes the agent when its stream ended, unless it is back already. Returns the publishes it
    /// had reported on.
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

    /// Stores what an agent reported. Returns the publishes with anything new.
    pub fn report(
        &self,
        session: &Session,
        reports: Vec<(ProductPublishId, Reported)>,
        now: DateTime<Utc>,
    ) -> Vec<ProductPublishId> {
        let mut state = self.lock();
        let Some(agent) = state.agent(session) else { return Vec::new() };
        let mut news = Vec::new();
        for (id, reported) in reports {
            let known = agent.reports.get(&id);
            let room = known.is_some() || agent.reports.len() < MAX_PUBLISHES;
            if known != Some(&reported) && room {
                agent.reports.insert(id, reported);
                news.push(id);
            }
        }
        if !news.is_empty() {
            (agent.news_at, agent.swept) = (now, false);
        }
        news
    }

    /// Stores which gateways an agent refuses. Returns whether they have changed.
    pub fn refuses(&self, session: &Session, all: BTreeMap<GatewayId, PublishError>) -> bool {
        let mut state = self.lock();
        let Some(agent) = state.agent(session) else { return false };
        let all = Some(all);
        let news = agent.refused_gateways != all;
        agent.refused_gateways = all;
        news
    }

    /// The gateways that connected agents of the cluster refuse; `None` if none has reported.
    pub fn refused_gateways(
        &self,
        cluster: ClusterId,
    ) -> Option<BTreeMap<GatewayId, PublishError>> {
        let state = self.lock();
        let agents = state.clusters.get(&cluster)?.agents.values();
        let mut said = agents.filter_map(|agent| agent.refused_gateways.as_ref()).peekable();
        said.peek()?;
        Some(said.flatten().map(|(id, error)| (*id, error.clone())).collect())
    }

    /// Takes the publishes whose Envoys are overdue at agents that have reported nothing new for a
    /// while.
    pub fn overdue(&self, now: DateTime<Utc>) -> HashMap<ClusterId, Vec<ProductPublishId>> {
        let mut overdue: HashMap<ClusterId, Vec<ProductPublishId>> = HashMap::new();
        let mut state = self.lock();
        for (cluster, Cluster { agents, .. }) in &mut state.clusters {
            let quiet = |agent: &&mut Agent| !agent.swept && now - agent.news_at >= PATIENCE;
            for agent in agents.values_mut().filter(quiet) {
                agent.swept = true;
                let waits = agent.reports.iter().filter(|(_, report)| report.is_unanswered());
                overdue.entry(*cluster).or_default().extend(waits.map(|(id, _)| *id));
            }
        }
        overdue
    }

    /// The reports of all connected agents of the cluster about a publish.
    pub fn reports(&self, cluster: ClusterId, publish: ProductPublishId) -> Vec<Option<Reported>> {
        let state = self.lock();
        let Some(cluster) = state.clusters.get(&cluster) else { return Vec::new() };
        let told = |agent: &Agent| {
            let report = agent.reports.get(&publish)?;
            Some(Reported { quiet_since: Some(agent.news_at), ..report.clone() })
        };
        cluster.agents.values().map(told).collect()
    }

    /// Whether any agent of the cluster has reported on a publish.
    pub fn knows(&self, cluster: ClusterId, publish: ProductPublishId) -> bool {
        let state = self.lock();
        let agents = state.clusters.get(&cluster).into_iter().flat_map(|c| c.agents.values());
        agents.into_iter().any(|agent| agent.reports.contains_key(&publish))
    }

    /// Sets the owner of a publish from the database.
    pub fn own(&self, cluster: ClusterId, publish: ProductPublishId, tenant: TenantId) {
        let mut state = self.lock();
        state.clusters.entry(cluster).or_default().own.insert(publish, tenant);
    }

    /// The current or recent owner of a publish of the cluster.
    pub fn owner(&self, cluster: ClusterId, publish: ProductPublishId) -> Option<TenantId> {
        let state = self.lock();
        let cluster = state.clusters.get(&cluster)?;
        let gone = || cluster.gone.get(&publish).map(|(tenant, _)| tenant);
        cluster.own.get(&publish).or_else(gone).copied()
    }

    /// Records that the publish is not in this cluster.
    pub fn disown(&self, cluster: ClusterId, publish: ProductPublishId) {
        let mut state = self.lock();
        if let Some(cluster) = state.clusters.get_mut(&cluster) {
            cluster.forget(publish, Instant::now());
        }
    }

    /// Records that the publish is gone from every cluster.
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

impl State {
    /// The agent of the session, unless it has opened another stream.
    fn agent(&mut self, session: &Session) -> Option<&mut Agent> {
        let cluster = self.clusters.get_mut(&session.cluster)?;
        let agent = cluster.agents.get_mut(&session.agent)?;
        (agent.session.number == session.number).then_some(agent)
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

    fn now() -> DateTime<Utc> {
        imp_process::clock::now()
    }

    #[test]
    fn a_second_stream_of_an_agent_takes_the_place_of_the_first() {
        let (connected, cluster, agent) =
            (ConnectedAgents::default(), ClusterId::new(), AgentId::new());
        let publish = ProductPublishId::new();
        let first = connected.join(cluster, agent, now());
        assert_eq!(connected.report(&first, vec![(publish, reported(1))], now()), [publish]);
        let second = connected.join(cluster, agent, now());
        assert!(first.superseded.is_cancelled() && !second.superseded.is_cancelled());
        assert!(connected.report(&first, vec![(publish, reported(2))], now()).is_empty());
        assert!(connected.leave(&first).is_empty());
        assert_eq!(connected.reports(cluster, publish), [None]);
        connected.report(&second, vec![(publish, reported(3))], now());
        assert_eq!(connected.leave(&second), [publish]);
        assert!(connected.reports(cluster, publish).is_empty());
    }

    #[test]
    fn who_says_nothing_new_is_asked_once_for_what_its_envoys_have_not_answered() {
        use imp_core::product_publish::NodeCounts;
        let (connected, cluster, agent) =
            (ConnectedAgents::default(), ClusterId::new(), AgentId::new());
        let (waits, answered) = (ProductPublishId::new(), ProductPublishId::new());
        let start = now();
        let session = connected.join(cluster, agent, start);
        let nodes = |acked, behind| NodeCounts { acked, nacked: 0, behind };
        let waiting = Reported { nodes: nodes(0, 1), ..reported(2) };
        let taken = Reported { nodes: nodes(1, 0), acked_revision: 2, ..reported(2) };
        connected.report(&session, vec![(waits, waiting), (answered, taken)], start);
        assert!(connected.overdue(start + PATIENCE / 2).is_empty());
        assert_eq!(connected.overdue(start + PATIENCE)[&cluster], [waits]);
        assert!(connected.overdue(start + PATIENCE * 2).is_empty(), "once is enough");
        connected.report(&session, vec![(answered, reported(3))], start + PATIENCE * 2);
        assert!(connected.overdue(start + PATIENCE * 5 / 2).is_empty(), "something moves");
        assert_eq!(connected.overdue(start + PATIENCE * 3)[&cluster], [waits]);
    }

    #[test]
    fn a_gateway_is_refused_while_any_agent_says_so() {
        let (connected, cluster) = (ConnectedAgents::default(), ClusterId::new());
        let gateway = GatewayId::new();
        let error = super::super::settle::no_answer(1);
        let (one, two) = (AgentId::new(), AgentId::new());
        let (one, two) = (connected.join(cluster, one, now()), connected.join(cluster, two, now()));
        assert_eq!(connected.refused_gateways(cluster), None, "nobody has said");
        assert!(connected.refuses(&one, [(gateway, error.clone())].into()));
        assert!(connected.refuses(&two, BTreeMap::new()));
        assert!(!connected.refuses(&two, BTreeMap::new()), "said before");
        assert_eq!(connected.refused_gateways(cluster), Some([(gateway, error)].into()));
        connected.leave(&one);
        assert_eq!(connected.refused_gateways(cluster), Some(BTreeMap::new()));
        connected.leave(&two);
        assert_eq!(connected.refused_gateways(cluster), None);
    }

    #[test]
    fn what_is_said_again_is_no_news() {
        let (connected, publish) = (ConnectedAgents::default(), ProductPublishId::new());
        let session = connected.join(ClusterId::new(), AgentId::new(), now());
        assert_eq!(connected.report(&session, vec![(publish, reported(1))], now()), [publish]);
        assert!(connected.report(&session, vec![(publish, reported(1))], now()).is_empty());
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
