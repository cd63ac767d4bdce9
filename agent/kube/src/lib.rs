//! The agent's side to Kubernetes: applies sets of objects, removes what left them, and watches
//! what others make of them. Knows no publish and no Envoy.
//!
//! [`Cluster`] is a connection to an API server; [`Object`] is what we want there, as JSON with one
//! of the [`kinds`] that we write or read. [`Keeper`] keeps sets of them. Every failure is a [`Fault`], which says whether trying
//! again helps.

// Its feature chooses the Kubernetes release that `kube` is compiled for.
use k8s_openapi as _;

mod cluster;
mod compare;
mod connect;
mod fault;
mod keeper;
pub mod kinds;
mod object;
mod role;
mod standing;

pub use cluster::{Applied, Change, Cluster, FIELD_MANAGER, Force};
pub use connect::{Access, ConnectError};
pub use fault::Fault;
pub use keeper::{Keeper, Order, Report};
pub use kinds::{Kind, Scope};
pub use object::{Key, NotAnObject, Object};
pub use role::{Reach, Use, role};
pub use standing::Standing;
