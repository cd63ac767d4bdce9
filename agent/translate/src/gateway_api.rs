//! The renderer for Gateway API: objects of Kubernetes, as JSON.
//!
//! A gateway becomes a `Gateway`, a publish becomes `HTTPRoute`s and, where the class has them, its
//! policies and backends. What a class cannot say is a [`Refusal`], never an object that matches
//! other calls. Who applies the objects is `imp-kube`.

mod backends;
mod deployed;
mod duration;
mod entry;
mod filters;
mod gateway;
mod object;
mod plan;
mod precedence;
mod probe;
mod reach;
mod refusal;
mod routes;
mod security;
mod split;
mod told;
mod traffic;

pub use deployed::{Decider, Deployed, Options, gateway_name};
pub use object::{CLUSTER, GATEWAY, MANAGED_BY, MANAGER, PROBE, PUBLISH, REVISION, label};
pub use plan::Plan;
pub use probe::{PATH as PROBE_PATH, Target as ProbeTarget, mark_of};
pub use refusal::Refusal;
pub use told::{NAMESPACE as METADATA, context};
