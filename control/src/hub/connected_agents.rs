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
    /// Those that its Envoys have not answered.
    unanswered: HashMap<ProductPublishId, Unanswered>,
    /// None: it has not said which it refuses.
    refused_gateways: Option<RefusedGateways>,
}

/// Which gateways are refused, as far as is said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RefusedGateways {
    /// Those that are named, and why.
    pub all: BTreeMap<GatewayId, PublishError>,
    /// There are more: one that is not named may be refused, too.
    pub truncated: bool,
}

#[derive(Debug)]
struct Unanswered {
    /// The agent's last news of this publish: what it says of others is not this one's progress.
    since: DateTime<Utc>,
    /// [`ConnectedAgents::overdue`] has named it.
    named: bool,
}

impl ConnectedAgents {
    /// An agent opened a report stream; an earlier one of it ends.
    pub fn join(&self, cluster: ClusterId, agent: AgentId) -> Session {
        let mut state = self.lock();
        state.last_session += 1;
        let superseded = CancellationToken::new();
        let session = Session { cluster, agent, number: state.last_session, superseded };
        let agents = &mut state.clusters.entry(cluster).or_default().agents;
        let joined = Agent {
            session: session.clone(),
            reports: HashMap::new(),
            unanswered: HashMap::new(),
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
                match reported.is_unanswered() {
                    true => agent.unanswered.insert(id, Unanswered { since: now, named: false }),
                    false => agent.unanswered.remove(&id),
                };
                agent.reports.insert(id, reported);
                news.push(id);
            }
        }
        news
    }

    /// Takes which gateways an agent refuses. Whether these are others than before.
    pub fn refuses(&self, session: &Session, said: RefusedGateways) -> bool {
        let mut state = self.lock();
        let Some(agent) = state.agent(session) else { return false };
        let said = Some(said);
        let news = agent.refused_gateways != said;
        agent.refused_gateways = said;
        news
    }

    /// Which gateways the connected agents of the cluster refuse. None: none of them has said.
    pub fn refused_gateways(&self, cluster: ClusterId) -> Option<RefusedGateways> {
        let state = self.lock();
        let agents = state.clusters.get(&cluster)?.agents.values();
        let mut said = agents.filter_map(|agent| agent.refused_gateways.as_ref()).peekable();
        said.peek()?;
        let mut together = RefusedGateways::default();
        for RefusedGateways { all, truncated } in said {
            together.all.extend(all.clone());
            together.truncated |= truncated;
        }
        Some(together)
    }

    /// Whether a connected agent of the cluster refuses a gateway.
    pub fn refuses_any(&self, cluster: ClusterId) -> bool {
        let state = self.lock();
        let mut agents = state.clusters.get(&cluster).into_iter().flat_map(|it| it.agents.values());
        agents.any(|agent| agent.refused_gateways.as_ref().is_some_and(|said| !said.all.is_empty()))
    }

    /// Publishes that no Envoy of an agent has answered for a while, each once.
    pub fn overdue(&self, now: DateTime<Utc>) -> HashMap<ClusterId, Vec<ProductPublishId>> {
        let mut overdue: HashMap<ClusterId, Vec<ProductPublishId>> = HashMap::new();
        let mut state = self.lock();
        for (cluster, Cluster { agents, .. }) in &mut state.clusters {
            let waiting = agents.values_mut().flat_map(|agent| &mut agent.unanswered);
            for (id, it) in waiting.filter(|(_, it)| !it.named && now - it.since >= PATIENCE) {
                it.named = true;
                overdue.entry(*cluster).or_default().push(*id);
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
            let quiet_since = agent.unanswered.get(&publish).map(|it| it.since);
            Some(Reported { quiet_since, ..report.clone() })
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
            agent.unanswered.remove(&publish);
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
        let first = connected.join(cluster, agent);
        assert_eq!(connected.report(&first, vec![(publish, reported(1))], now()), [publish]);
        let second = connected.join(cluster, agent);
        assert!(first.superseded.is_cancelled() && !second.superseded.is_cancelled());
        assert!(connected.report(&first, vec![(publish, reported(2))], now()).is_empty());
        assert!(connected.leave(&first).is_empty());
        assert_eq!(connected.reports(cluster, publish), [None]);
        connected.report(&second, vec![(publish, reported(3))], now());
        assert_eq!(connected.leave(&second), [publish]);
        assert!(connected.reports(cluster, publish).is_empty());
    }

    #[test]
    fn what_no_envoy_answers_is_overdue_once_whatever_is_said_of_others() {
        use imp_core::product_publish::NodeCounts;
        let (connected, cluster, agent) =
            (ConnectedAgents::default(), ClusterId::new(), AgentId::new());
        let (waits, answered) = (ProductPublishId::new(), ProductPublishId::new());
        let start = now();
        let session = connected.join(cluster, agent);
        let nodes = |acked, behind| NodeCounts { acked, nacked: 0, behind };
        let waiting = Reported { nodes: nodes(0, 1), ..reported(2) };
        let taken = Reported { nodes: nodes(1, 0), acked_revision: 2, ..reported(2) };
        let behind = |behind| Reported { nodes: nodes(0, behind), ..waiting.clone() };
        connected.report(&session, vec![(waits, behind(1)), (answered, taken)], start);
        // What moves elsewhere is no answer.
        connected.report(&session, vec![(answered, reported(3))], start + PATIENCE / 2);
        assert!(connected.overdue(start + PATIENCE / 2).is_empty());
        let seen = connected.reports(cluster, waits).remove(0).unwrap();
        assert_eq!(seen.quiet_since, Some(start));
        assert_eq!(connected.overdue(start + PATIENCE)[&cluster], [waits]);
        assert!(connected.overdue(start + PATIENCE * 2).is_empty(), "once is enough");
        connected.report(&session, vec![(waits, behind(2))], start + PATIENCE * 2);
        assert!(connected.overdue(start + PATIENCE * 5 / 2).is_empty(), "it moves");
        assert_eq!(connected.overdue(start + PATIENCE * 3)[&cluster], [waits]);
        connected.report(&session, vec![(waits, behind(1))], start + PATIENCE * 3);
        connected.report(&session, vec![(waits, reported(2))], start + PATIENCE * 3);
        assert!(connected.overdue(start + PATIENCE * 5).is_empty(), "answered");
    }

    #[test]
    fn a_gateway_is_refused_while_any_agent_says_so() {
        let (connected, cluster) = (ConnectedAgents::default(), ClusterId::new());
        let gateway = GatewayId::new();
        let error = super::super::settle::no_answer(1);
        let (one, two) = (AgentId::new(), AgentId::new());
        let (one, two) = (connected.join(cluster, one), connected.join(cluster, two));
        assert_eq!(connected.refused_gateways(cluster), None, "nobody has said");
        let refused = RefusedGateways { all: [(gateway, error)].into(), truncated: true };
        assert!(connected.refuses(&one, refused.clone()));
        assert!(connected.refuses(&two, RefusedGateways::default()));
        assert!(!connected.refuses(&two, RefusedGateways::default()), "said before");
        assert_eq!(connected.refused_gateways(cluster), Some(refused));
        connected.leave(&one);
        assert_eq!(connected.refused_gateways(cluster), Some(RefusedGateways::default()));
        connected.leave(&two);
        assert_eq!(connected.refused_gateways(cluster), None);
    }

    #[test]
    fn what_is_said_again_is_no_news() {
        let (connected, publish) = (ConnectedAgents::default(), ProductPublishId::new());
        let session = connected.join(ClusterId::new(), AgentId::new());
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
