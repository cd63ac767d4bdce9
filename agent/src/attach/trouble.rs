//! Why a Gateway does not have what it should.

use imp_kube::{Fault, NotAnObject};
use imp_translate::envoy_gateway::NoJson;
use thiserror::Error;

use crate::port::IssueError;

#[derive(Debug, Error)]
pub(super) enum Trouble {
    #[error(transparent)]
    Fault(#[from] Fault),
    #[error(transparent)]
    Certificate(#[from] IssueError),
    #[error(transparent)]
    NoJson(#[from] NoJson),
    #[error(transparent)]
    NotAnObject(#[from] NotAnObject),
    #[error("the label imp-gateway.io/gateway is {0:?}, not the id of a gateway")]
    Label(String),
    #[error("gateway {0} is on another, older Gateway already")]
    Twice(String),
    #[error("{0} is there and not ours (it lacks the label imp-gateway.io/gateway)")]
    Foreign(String),
    #[error(
        "its spec.infrastructure.parametersRef must name EnvoyProxy {0}, so that its Envoys find the agent"
    )]
    Parameters(String),
    #[error("somebody else changes EnvoyPatchPolicy {0}, too")]
    Fight(String),
    #[error("Envoy Gateway does not apply EnvoyPatchPolicy {name}: {words}")]
    NotApplied { name: String, words: String },
}

impl Trouble {
    /// Whether it may end as soon as the Gateway or the policy is another one, or says something else.
    pub(super) fn may_end_with_news(&self) -> bool {
        matches!(self, Self::Label(_) | Self::Parameters(_) | Self::NotApplied { .. })
    }
}
