//! The control plane: REST, flows, compile, hub.

pub mod admission;
pub mod app;
pub mod auth;
pub mod compile;
pub mod config;
pub mod dns;
pub mod entity;
pub mod flows;
pub mod hub;
pub mod jobs;
pub mod listen;
pub mod operation;
pub mod private_file;
pub mod problem;
pub mod readiness;
pub mod refusal;
pub mod rest;
pub mod retry;
pub mod state;
pub mod tls;
pub mod workers;
