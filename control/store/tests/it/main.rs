//! The store on real databases: every test on SQLite and on PostgreSQL.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a failed unwrap is a failed test")]
#![expect(clippy::disallowed_methods, reason = "tests look at the clock")]
#![expect(unreachable_pub, reason = "modules of a test binary share by pub")]

mod batch;
mod claims;
mod compile;
mod deletion;
mod dialects;
mod domains;
mod duplicates;
mod durability;
mod events;
mod files;
mod gateway_conditions;
mod healing;
mod history;
mod jobs;
mod newer_release;
mod outbox;
mod ports;
mod publishes;
mod references;
mod round_trips;
mod scopes;
mod shop;
mod upgrade;
mod usage;
