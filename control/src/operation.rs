//! The context of an operation: created when a request, an agent's call or a job begins, and passed
//! to every flow. It does not depend on HTTP.

mod transaction;

use std::sync::Arc;

use chrono::{DateTime, Utc};
use imp_core::AgentId;
use imp_core::role::{Action, Kind, Role, any_allows};
use imp_core::scope::{Principal, TenantScope};
use imp_core::upstream::UpstreamPolicy;
use imp_process::traces;
use imp_store::{Cause, Store, audit};
use uuid::Uuid;

use crate::admission::{Admission, Payer, RestRates};
use crate::state::{ClaimRules, Clock, State};

pub use transaction::Transaction;

/// The actor. Users and service accounts do not exist yet: each becomes a variant here, with the
/// principal that `auth.rs` makes of its session or key, and one of [`audit::Actor`].
#[derive(Clone, Debug)]
pub enum Actor {
    /// A caller of the REST API, by its token.
    ApiToken(Principal),
    /// An agent, identified by its identity or, at registration, by its own word.
    Agent(AgentId),
    /// A job, by the name of its kind.
    Job(&'static str),
    /// The first start, or an operator's command at the control plane's machine.
    Bootstrap,
    /// The control plane itself.
    Platform,
}

impl Actor {
    /// Whether the actor's roles allow this. Only callers have roles.
    pub fn may(&self, kind: Kind, action: Action) -> bool {
        matches!(self, Self::ApiToken(caller) if any_allows(&caller.roles, kind, action))
    }

    pub fn has(&self, role: Role) -> bool {
        matches!(self, Self::ApiToken(caller) if caller.roles.contains(&role))
    }

    /// Whether the actor is above all tenants.
    pub fn is_operator(&self) -> bool {
        matches!(self, Self::ApiToken(caller) if caller.tenant_id.is_none())
    }
}

impl From<&Actor> for audit::Actor {
    fn from(actor: &Actor) -> Self {
        match actor {
            Actor::ApiToken(caller) => Self::Token(caller.token_id),
            Actor::Agent(id) => Self::Agent(*id),
            Actor::Job(_) => Self::Job,
            Actor::Bootstrap => Self::Bootstrap,
            Actor::Platform => Self::Platform,
        }
    }
}

/// The context of an operation. Cheap to clone.
#[derive(Clone)]
pub struct Operation {
    pub store: Store,
    pub clock: Clock,
    /// The upstream addresses that tenants may use.
    pub upstreams: Arc<UpstreamPolicy>,
    /// The hostnames and ports that tenants may claim.
    pub claims: Arc<ClaimRules>,
    pub admission: Admission,
    pub actor: Actor,
    /// The tenants that the actor may touch.
    pub scope: TenantScope,
    /// Links audit rows to the log: the id of the request or job, or empty if neither began it.
    pub request_id: String,
    /// Whether it revokes or removes something; such operations never wait for others.
    pub tightens: bool,
}

impl Operation {
    /// For an authenticated and authorised caller.
    pub fn of_caller(state: &State, caller: Principal, scope: TenantScope) -> Self {
        Self::begin(state, Actor::ApiToken(caller), scope)
    }

    /// For the control plane itself, over all tenants. Never for a request.
    pub fn of_platform(state: &State) -> Self {
        let operation = Self::begin(state, Actor::Platform, TenantScope::platform());
        Self { store: state.store.for_platform(), ..operation }
    }

    /// For the first start and for operators at the machine. Only the database is available:
    /// nothing may be claimed, and only public upstreams are allowed.
    pub fn of_bootstrap(store: Store, clock: Clock) -> Self {
        Self {
            store,
            clock,
            upstreams: Arc::default(),
            claims: Arc::default(),
            admission: Admission::new(RestRates::default()),
            actor: Actor::Bootstrap,
            scope: TenantScope::platform(),
            request_id: String::new(),
            tightens: false,
        }
    }

    /// The same operation with a job as its actor.
    pub fn of_job(&self, name: &'static str, id: Uuid) -> Self {
        Self { request_id: id.to_string(), ..self.by(Actor::Job(name)) }
    }

    fn begin(state: &State, actor: Actor, scope: TenantScope) -> Self {
        Self {
            store: state.store.clone(),
            clock: state.clock.clone(),
            upstreams: state.upstreams.clone(),
            claims: state.claims.clone(),
            admission: state.admission.clone(),
            actor,
            scope,
            request_id: String::new(),
            tightens: false,
        }
    }

    /// The same operation with another actor.
    pub fn by(&self, actor: Actor) -> Self {
        Self { actor, ..self.clone() }
    }

    pub fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    /// The cause to store in outbox rows.
    pub fn cause(&self) -> Cause {
        Cause { request_id: self.request_id.clone(), traceparent: traces::traceparent() }
    }

    /// Charges work to the caller's rates, in addition to what it sent and received.
    pub fn charge(&self, bytes: usize) {
        if let Actor::ApiToken(caller) = &self.actor {
            self.admission.charge(Payer::from(caller), bytes);
        }
    }
}
