//! Tests of the domain rules.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![expect(clippy::disallowed_methods, reason = "tests look at the clock")]

mod calls;
mod caps;
mod life_cycles;
mod paths;
mod roles;
mod specs;
mod stored;
