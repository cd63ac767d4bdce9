//! What is being done, and by whom: begun when a request, an agent's call or a job begins, and passed
//! to every flow. Nothing in it knows HTTP.

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

/// Who acts. Users and service accounts do not exist yet: each becomes a variant here, with the principal
/// that `auth.rs` makes of its session or key, and one of [`audit::Actor`].
#[derive(Clone, Debug)]
pub enum Actor {
    /// A caller of the REST API, by its token.
    ApiToken(Principal),
    /// An agent, by its own word or its identity.
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

    /// Whether the actor stands above all tenants.
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

/// The context of everything that is done. A clone is cheap.
#[derive(Clone)]
pub struct Operation {
    pub store: Store,
    pub clock: Clock,
    /// Which upstream addresses tenants may name.
    pub upstreams: Arc<UpstreamPolicy>,
    /// Which hostnames and ports tenants may claim.
    pub claims: Arc<ClaimRules>,
    pub admission: Admission,
    pub actor: Actor,
    /// What the actor may touch.
    pub scope: TenantScope,
    /// Leads from an audit row to the log: the request's id or the job's. Empty when neither began it.
    pub request_id: String,
    /// Takes something away from somebody, and so waits for nothing that gives.
    pub tightens: bool,
}

impl Operation {
    /// Of an authenticated and authorised caller.
    pub fn of_caller(state: &State, caller: Principal, scope: TenantScope) -> Self {
        Self::begin(state, Actor::ApiToken(caller), scope)
    }

    /// Of the control plane itself, over all tenants. Never for a request.
    pub fn of_platform(state: &State) -> Self {
        let operation = Self::begin(state, Actor::Platform, TenantScope::platform());
        Self { store: state.store.for_platform(), ..operation }
    }

    /// For the first start and for an operator at the machine. There is only a database: nothing
    /// may be claimed, and no upstream is allowed beyond the public ones.
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

    /// The same, done by a job.
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

    /// The same, done by another actor.
    pub fn by(&self, actor: Actor) -> Self {
        Self { actor, ..self.clone() }
    }

    pub fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    /// What the rows of the outbox name as the reason of a change.
    pub fn cause(&self) -> Cause {
        Cause { request_id: self.request_id.clone(), traceparent: traces::traceparent() }
    }

    /// Counts work against the caller's rates, besides what it sent and got.
    pub fn charge(&self, bytes: usize) {
        if let Actor::ApiToken(caller) = &self.actor {
            self.admission.charge(Payer::from(caller), bytes);
        }
    }
}
