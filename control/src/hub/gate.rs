//! The door of the agents' port: who comes in, which cluster's world they see, and who is shut out
//! while inside.

use chrono::{DateTime, Utc};
use dashmap::DashMap;
use http::{HeaderMap, header};
use imp_core::{AgentId, ClusterId};
use imp_store::Store;
use imp_store::compile::{self as table, AgentStanding, Which};
use imp_xds::{Admission, Peer, World};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::history;
use super::identity::{AgentKey, Claims, Issued, Refusal};
use crate::compile::Worlds;
use crate::state::Clock;

/// An agent that was let in.
#[derive(Clone, Debug)]
pub struct Identity {
    pub agent: AgentId,
    /// From the credential, never from a message.
    pub cluster: ClusterId,
    /// Cancelled when the agent is shut out.
    pub revoked: CancellationToken,
}

/// Lets agents in.
pub struct Gate {
    store: Store,
    clock: Clock,
    key: AgentKey,
    worlds: Worlds,
    roster: DashMap<AgentId, Entry>,
}

/// An agent that showed a valid token to this process.
struct Entry {
    revoked: CancellationToken,
    /// Whether the database has said, since the entry is there, that it is not revoked.
    confirmed: bool,
}

impl Gate {
    pub fn new(store: Store, clock: Clock, key: AgentKey, worlds: Worlds) -> Self {
        Self { store, clock, key, worlds, roster: DashMap::new() }
    }

    pub fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    pub fn worlds(&self) -> &Worlds {
        &self.worlds
    }

    /// A fresh JWT.
    pub fn issue(&self, agent: AgentId, cluster: ClusterId) -> Result<Issued, Status> {
        self.key.issue(agent, cluster, self.now()).map_err(|error| {
            tracing::error!(%error, "cannot sign");
            Status::internal("cannot sign the agent's token")
        })
    }

    /// For a stream: a JWT that is valid now, of an agent that is not revoked.
    pub async fn enter(&self, headers: &HeaderMap) -> Result<Identity, Status> {
        let claims = self.claims(headers)?;
        let identity = self.check(claims).await?;
        history::judge(&self.store, headers).await?;
        Ok(identity)
    }

    /// For renewal: the JWT may have expired.
    pub async fn enter_to_renew(&self, headers: &HeaderMap) -> Result<Identity, Status> {
        let jwt = bearer(headers).ok_or_else(missing)?;
        let claims = self.key.verify_for_renewal(jwt, self.now()).map_err(refused)?;
        self.check(claims).await
    }

    /// What the tailer found out.
    pub fn standing(&self, agent: AgentId, now: Option<AgentStanding>) {
        let out = now.is_none_or(|standing| standing.revoked);
        if let Some(entry) = self.roster.get(&agent).filter(|_| out) {
            entry.revoked.cancel();
        }
    }

    /// The entry comes first, then the look at the database: a revocation is either seen by the
    /// look, or comes after it and finds the entry.
    async fn check(&self, claims: Claims) -> Result<Identity, Status> {
        let Claims { agent, cluster, .. } = claims;
        let fresh = || Entry { revoked: CancellationToken::new(), confirmed: false };
        let revoked = self.roster.entry(agent).or_insert_with(fresh).revoked.clone();
        let rows = table::agents(&self.store, Which::Ids(&[agent])).await.map_err(unavailable)?;
        let row = rows.into_iter().next().ok_or_else(|| refused(Refusal::NotOurs))?;
        let standing = row.content.map_err(unavailable)?;
        if standing.cluster_id != cluster {
            return Err(refused(Refusal::NotOurs));
        }
        if standing.revoked {
            revoked.cancel();
        }
        if revoked.is_cancelled() {
            return Err(shut_out());
        }
        if let Some(mut entry) = self.roster.get_mut(&agent) {
            entry.confirmed = true;
        }
        Ok(Identity { agent, cluster, revoked })
    }

    fn claims(&self, headers: &HeaderMap) -> Result<Claims, Status> {
        let jwt = bearer(headers).ok_or_else(missing)?;
        self.key.verify(jwt, self.now()).map_err(refused)
    }
}

/// The delta stream. The guard in front of it has called [`Gate::enter`]; this looks again, because
/// whoever forgets the guard must not open the door.
impl Admission for Gate {
    fn authorise(&self, request: &http::request::Parts) -> Result<(), Status> {
        let claims = self.claims(&request.headers)?;
        match self.roster.get(&claims.agent) {
            Some(entry) if entry.revoked.is_cancelled() => Err(shut_out()),
            Some(entry) if entry.confirmed => Ok(()),
            _ => Err(Status::unavailable("the agent's standing is not known yet")),
        }
    }

    fn admit(&self, peer: &Peer<'_>) -> Result<World, Status> {
        let claims = self.claims(peer.headers)?;
        self.ready()?;
        self.worlds.get(claims.cluster).ok_or_else(not_ready)
    }

    fn revoked(&self, peer: &Peer<'_>) -> Option<CancellationToken> {
        let claims = self.claims(peer.headers).ok()?;
        Some(self.roster.get(&claims.agent)?.revoked.clone())
    }
}

impl Gate {
    /// Before everything is loaded nobody may be served: an empty answer would make agents delete
    /// what they have.
    pub fn ready(&self) -> Result<(), Status> {
        if self.worlds.are_ready() { Ok(()) } else { Err(not_ready()) }
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (value, another) = (values.next()?, values.next());
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    (another.is_none() && scheme.eq_ignore_ascii_case("bearer")).then_some(token.trim())
}

fn missing() -> Status {
    Status::unauthenticated("an agent's token is needed: authorization: Bearer <JWT>")
}

fn refused(refusal: Refusal) -> Status {
    Status::unauthenticated(refusal.to_string())
}

pub(super) fn shut_out() -> Status {
    Status::permission_denied("this agent was revoked")
}

fn not_ready() -> Status {
    Status::unavailable("the control plane is not ready; try again later")
}

pub(super) fn unavailable(error: imp_store::StoreError) -> Status {
    tracing::warn!(%error, "an agent's call failed");
    Status::unavailable("the database is not available; try again later")
}
