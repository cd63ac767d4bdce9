//! The decision: credential -> consumer -> entitlement -> limits, and its count. Pure: the caller
//! passes the time. Used by the agent's ext_authz service now and by a module inside Envoy later.

mod access;
mod account;
mod auth_mode;
mod call;
mod class;
mod context;
mod decision;
mod digest;
mod engine;
mod entitlement;
mod id;
mod interned;
mod kept;
mod keys;
mod ledger;
mod limit;
mod locations;
mod meter;
mod meters;
mod parse;
mod permit;
mod places;
mod quota;
mod rate;
mod rules;
mod shared;
mod spec;
mod terms;
mod usage;

pub use access::PublishAccess;
pub use auth_mode::AuthMode;
pub use call::{Call, Presented, PublishKey};
pub use class::is_over;
pub use context::RouteContext;
pub use decision::{Admission, Denial};
pub use engine::{Engine, Object};
pub use entitlement::Entitlement;
pub use keys::Credential;
pub use ledger::{Ledger, Pair, Place};
pub use locations::KeyLocations;
pub use parse::ParseError;
pub use permit::{OnFinish, Outcome, Permit};
pub use rules::FORMER_RULES;
pub use terms::Terms;
pub use usage::{Counter, QuotaRow, Snapshot};
