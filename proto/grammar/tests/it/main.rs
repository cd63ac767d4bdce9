//! Tests of the shared rules.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod classes;
mod generated;
mod hosts;
mod paths;
mod query;
mod reference;
mod regexes;
mod routes;
mod table;
mod texts;
