//! What control plane and agent must judge alike: what the API accepts, the agent and Envoy accept.
//!
//! Pure tables and functions, without I/O. The control plane uses them to refuse what it can know,
//! the agent to hold what only shows later (the address that a name resolves to).

pub mod caps;
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
