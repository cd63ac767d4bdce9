//! The product in Rust: entities, ids, life cycles, roles and policies. No I/O.
//!
//! Every entity comes as two structs: a *spec*, which is what a caller may write (unknown fields are
//! refused, [`Check::check`] finds what the types cannot), and the entity itself: the spec plus what
//! the platform decides (ids, times, versions, states). Life cycles are enums whose transition
//! functions are the only way from one state to the next. Specs are stored as JSON, too: [`stored`] reads
//! what another release wrote.

pub mod api_service;
pub mod api_token;
pub mod backend_settings;
pub mod check;
pub mod client_app;
pub mod cluster;
mod condition;
pub mod consumer;
pub mod credential;
pub mod customer;
pub mod domain;
pub mod gateway;
pub mod grammar;
pub mod hostname;
pub mod id;
pub mod json;
pub mod meta;
pub mod plan;
pub mod policy;
pub mod port;
pub mod product;
pub mod product_publish;
pub mod rewrite;
pub mod role;
pub mod route;
pub mod route_order;
pub mod scope;
pub mod secret;
pub mod stored;
pub mod subscription;
pub mod tenant;
pub mod time_zone;
pub mod upstream;

pub use check::{Check, Violation, Violations};
pub use id::*;
pub use meta::{Meta, Transition};
