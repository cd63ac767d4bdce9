//! The rules of the domain, as claims.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod caps;
mod life_cycles;
mod roles;
mod specs;
mod stored;
