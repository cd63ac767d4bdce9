//! The decision: credential -> consumer -> entitlement -> limits, and the count of it. Pure: the
//! caller passes the time in. Used by the agent's ext_authz door now and by the module inside Envoy
//! later.

mod access;
mod account;
mod decision;
mod engine;
mod entitlement;
mod gcra;
mod kept;
mod keys;
mod ledger;
mod limit;
mod quota;
mod usage;

pub use access::{AuthMode, PublishAccess, RouteLimit};
pub use account::is_over;
pub use decision::{Admission, Call, Decision, Denial};
pub use engine::Engine;
pub use ledger::{Ledger, Pair, Place};
pub use usage::{Counter, QuotaRow, Snapshot};
