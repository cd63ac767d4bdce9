//! Authenticates callers of the agents' port by the headers alone, before the body is read.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use dashmap::DashMap;
use http::{HeaderMap, header, request::Parts};
use imp_core::{AgentId, ClusterId};
use imp_grammar::proof::{self, CLOCK_HEADER, Call, Fault};
use imp_store::Store;
use imp_store::compile::{self as table, AgentStanding, Which};
use imp_xds::{Admission, Peer, ResourceSet};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::history;
use super::identity::{AgentKey, Claims, Issued, Refusal};
use super::replay::{Replay, Seen};
use crate::compile::ClusterResources;
use crate::state::Clock;

/// An authenticated agent; in the extensions of its call.
#[derive(Clone, Debug)]
pub struct Identity {
    pub agent: AgentId,
    /// From the credential, never from a message.
    pub cluster: ClusterId,
    /// Thumbprint of the key that it proved to have.
    pub key: Arc<str>,
    /// Generation of the token that it showed.
    pub generation: i64,
    /// The name that its process gave itself, signed with its key.
    pub instance: Arc<str>,
    /// Cancelled when the agent is revoked.
    pub revoked: CancellationToken,
}

/// A caller without an identity who proved to have a key; in the extensions of `Register`.
#[derive(Clone, Debug)]
pub struct KeyHolder {
    /// Thumbprint of the key.
    pub key: Arc<str>,
}

/// A refused call.
#[derive(Debug)]
pub struct Refused {
    pub status: Status,
    /// For metrics and the audit trail.
    pub reason: &'static str,
    /// The agent whose token it was, if the token is one of ours.
    pub agent: Option<AgentId>,
}

/// Authenticates agents.
pub struct AgentAuth {
    store: Store,
    clock: Clock,
    key: AgentKey,
    cluster_resources: ClusterResources,
    roster: DashMap<AgentId, Entry>,
}

/// An agent that showed a valid token to this process.
#[derive(Default)]
struct Entry {
    revoked: CancellationToken,
    /// Proofs that can still be replayed.
    seen: Seen,
}

impl AgentAuth {
    pub fn new(
        store: Store,
        clock: Clock,
        key: AgentKey,
        cluster_resources: ClusterResources,
    ) -> Self {
        Self { store, clock, key, cluster_resources, roster: DashMap::new() }
    }

    pub fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    /// Issues a JWT bound to a key.
    pub fn issue(
        &self,
        agent: AgentId,
        cluster: ClusterId,
        key: &str,
        generation: i64,
    ) -> Result<Issued, Status> {
        self.key.issue(agent, cluster, key, generation, self.now()).map_err(|error| {
            tracing::error!(%error, "cannot sign");
            Status::internal("cannot sign the agent's token")
        })
    }

    /// Admits a caller that proves to have a key, to which the new identity will be bound.
    pub fn enter_to_register(&self, request: &Parts) -> Result<KeyHolder, Refused> {
        let call = Call { path: request.uri.path(), token: None };
        let proof = self.prove(&request.headers, &call).map_err(|status| status.of(None))?;
        Ok(KeyHolder { key: proof.thumbprint.into() })
    }

    /// Admits a stream: the JWT must be valid now and the agent not revoked.
    pub async fn enter(&self, request: &Parts) -> Result<Identity, Refused> {
        let jwt = token(&request.headers)?;
        let claims = self.key.verify(jwt, self.now()).map_err(untrusted)?;
        let (shown, agent) = (claims.generation, claims.agent);
        let identity = self.check(request, jwt, claims, |newest| shown >= newest).await?;
        let judged = history::judge(&self.store, &request.headers).await;
        judged.map_err(|status| Refused::new("history", status).of(Some(agent)))?;
        Ok(identity)
    }

    /// Admits a renewal: the JWT may have expired, and it may be the previous one, because the
    /// answer with the newer one may have been lost.
    pub async fn enter_to_renew(&self, request: &Parts) -> Result<Identity, Refused> {
        let jwt = token(&request.headers)?;
        let claims = self.key.verify_for_renewal(jwt, self.now()).map_err(untrusted)?;
        let shown = claims.generation.saturating_add(1);
        self.check(request, jwt, claims, |newest| shown >= newest).await
    }

    /// Takes a change of the agent's row from the tailer.
    pub fn standing(&self, agent: AgentId, now: Option<AgentStanding>) {
        let gone = now.is_none();
        let out = now.is_none_or(|standing| standing.revoked);
        if let Some(entry) = self.roster.get(&agent).filter(|_| out) {
            entry.revoked.cancel();
        }
        // Ids are never reused; its token finds no row.
        if gone {
            self.roster.remove(&agent);
        }
    }

    /// Refuses agents until everything is loaded: an empty answer would make them delete what they
    /// have.
    pub fn ready(&self) -> Result<(), Status> {
        if self.cluster_resources.are_ready() { Ok(()) } else { Err(not_ready()) }
    }

    /// Inserts the entry before it reads the database: a revocation is either seen by the read, or
    /// comes after it and finds the entry.
    async fn check(
        &self,
        request: &Parts,
        jwt: &str,
        claims: Claims,
        is_current: impl Fn(i64) -> bool,
    ) -> Result<Identity, Refused> {
        let Claims { agent, cluster, key, generation, .. } = claims;
        let call = Call { path: request.uri.path(), token: Some(jwt) };
        let of = |refused: Refused| refused.of(Some(agent));
        let proof = self.prove(&request.headers, &call).map_err(of)?;
        if proof.thumbprint != key {
            return Err(of(refused("key", "the token is bound to another key")));
        }
        let revoked = self.roster.entry(agent).or_default().revoked.clone();
        let rows = table::agents(&self.store, Which::Ids(&[agent])).await;
        let row = rows.map_err(|error| of(failed(error)))?.into_iter().next();
        let Some(row) = row else {
            self.roster.remove(&agent);
            return Err(of(untrusted(Refusal::NotOurs)));
        };
        let standing = row.content.map_err(|error| of(failed(error)))?;
        if standing.cluster_id != cluster || standing.key_thumbprint.as_deref() != Some(&*key) {
            return Err(of(untrusted(Refusal::NotOurs)));
        }
        if standing.revoked {
            revoked.cancel();
        }
        if revoked.is_cancelled() {
            return Err(of(Refused::new("revoked", shut_out())));
        }
        if !is_current(standing.token_generation) {
            return Err(of(refused("generation", "this token was replaced; use the newer one")));
        }
        let mut entry = self.roster.entry(agent).or_default();
        entry.seen.note(&proof.id, self.now().timestamp_millis()).map_err(|why| of(why.into()))?;
        drop(entry);
        let (key, instance) = (key.into(), proof.instance.into());
        Ok(Identity { agent, cluster, key, generation, instance, revoked })
    }

    fn prove(&self, headers: &HeaderMap, call: &Call<'_>) -> Result<proof::Proof, Refused> {
        let proof = only(headers, proof::HEADER);
        let proof = proof.ok_or_else(|| {
            refused("no_proof", "a proof of possession is needed: dpop: <JWT> (RFC 9449)")
        })?;
        let now_ms = self.now().timestamp_millis();
        proof::check(proof, call, now_ms).map_err(|fault| {
            let mut refused = refused("proof", &fault.to_string());
            if let (Fault::Time, Ok(now)) = (fault, now_ms.to_string().parse()) {
                refused.status.metadata_mut().insert(CLOCK_HEADER, now);
            }
            refused
        })
    }
}

/// Authenticates the delta stream. Only calls that [`super::calls`] admitted have an identity.
impl Admission for AgentAuth {
    fn authorise(&self, request: &Parts) -> Result<(), Status> {
        identity(&request.extensions).map(|_| ())
    }

    fn admit(&self, peer: &Peer<'_>) -> Result<ResourceSet, Status> {
        let identity = identity(peer.extensions)?;
        self.ready()?;
        self.cluster_resources.get(identity.cluster).ok_or_else(not_ready)
    }

    fn revoked(&self, peer: &Peer<'_>) -> Option<CancellationToken> {
        Some(identity(peer.extensions).ok()?.revoked.clone())
    }
}

/// The identity of the call. Without it the authentication layer is missing, and the call is
/// refused.
pub fn identity(extensions: &http::Extensions) -> Result<&Identity, Status> {
    extensions.get().ok_or_else(|| Status::unauthenticated("this call has no identity"))
}

impl Refused {
    fn new(reason: &'static str, status: Status) -> Self {
        Self { status, reason, agent: None }
    }

    fn of(self, agent: Option<AgentId>) -> Self {
        Self { agent, ..self }
    }
}

impl From<Replay> for Refused {
    fn from(replay: Replay) -> Self {
        match replay {
            Replay::Again => refused("replay", "this proof of possession was used before"),
            Replay::TooMany => {
                Self::new("too_many", Status::resource_exhausted("too many calls of one agent"))
            }
        }
    }
}

fn token(headers: &HeaderMap) -> Result<&str, Refused> {
    let value = only(headers, header::AUTHORIZATION.as_str());
    let (scheme, token) = value.and_then(|value| value.split_once(' ')).ok_or_else(|| {
        refused("no_token", "an agent's token is needed: authorization: DPoP <JWT>")
    })?;
    if !scheme.eq_ignore_ascii_case(proof::SCHEME) {
        return Err(refused("bearer", "a token alone proves nothing: authorization: DPoP <JWT>"));
    }
    Ok(token.trim())
}

/// The value of a header that occurs once.
fn only<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let (value, another) = (values.next()?, values.next());
    value.to_str().ok().filter(|_| another.is_none())
}

fn refused(reason: &'static str, words: &str) -> Refused {
    Refused::new(reason, Status::unauthenticated(words))
}

fn untrusted(refusal: Refusal) -> Refused {
    refused("token", &refusal.to_string())
}

fn failed(error: imp_store::StoreError) -> Refused {
    Refused::new("unavailable", unavailable(error))
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
