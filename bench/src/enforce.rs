//! What a decision about a call costs Envoy, by each door: the module inside Envoy, the agent's
//! ext_authz service, Envoy's own `api_key_auth`, and none. For `make bench-enforce` and
//! `make soak-enforce`.

mod caller;
mod contents;
mod envoy;
mod feed;
pub mod figures;
mod http1;
mod listener;
mod rest;
mod revoke;
mod rounds;
mod service;
mod soak;
mod tls;
mod upstream;

pub use caller::Protocol;
pub use contents::Contents;
pub use rest::from_rest;
pub use revoke::{Revoked, revoke};
pub use rounds::{Cell, Memory, Plan, Round, Setting, memory, run};
pub use soak::{Soak, Soaked, soak};

/// Who decides about calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub enum Door {
    /// Nobody.
    None,
    /// The module inside Envoy.
    Module,
    /// Another library in its place, by its number: a former build, or less of a module.
    Beside(u8),
    /// The agent, which Envoy asks.
    ExtAuthz,
    /// Envoy's own filter, which knows keys and no more.
    ApiKeyAuth,
}

impl Door {
    /// All of them but other libraries, in the order of the table.
    pub const ALL: [Self; 4] = [Self::None, Self::Module, Self::ExtAuthz, Self::ApiKeyAuth];

    /// Its name in figures.
    pub fn name(self) -> String {
        match self {
            Self::None => "no policy".to_owned(),
            Self::Module => "module".to_owned(),
            Self::Beside(number) => format!("beside {number}"),
            Self::ExtAuthz => "ext_authz".to_owned(),
            Self::ApiKeyAuth => "api_key_auth".to_owned(),
        }
    }
}
