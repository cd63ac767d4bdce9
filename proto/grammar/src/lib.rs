//! Rules that control plane and agent share, so that the agent and Envoy accept what the API
//! accepts.
//!
//! Pure tables and functions, without I/O. The control plane uses them to refuse what it can judge
//! early, the agent to enforce what is known only later (the address that a name resolves to).

pub mod caps;
pub mod classes;
pub mod features;
pub mod headers;
pub mod hosts;
pub mod network;
pub mod origin;
pub mod path;
pub mod pem;
pub mod proof;
pub mod query;
pub mod regexes;
pub mod rewrite;
pub mod routes;
pub mod texts;
pub mod time_zone;
