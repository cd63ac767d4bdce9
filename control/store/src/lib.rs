//! All SQL of the control plane, on SQLite and on PostgreSQL.
//!
//! One module per entity, all of the same shape: the entity is a [`Record`] (`get`, `get_in`,
//! `list`, `list_in`, `delete`) and [`Writable`] (`insert`, `update`); if its row has more than the
//! object, such as a secret's hash, `insert` and `update` are functions of the module. Its columns
//! are named once, in `columns!`. Reads of tenant-owned tables take a
//! [`TenantScope`](imp_core::scope::TenantScope); rows outside of it do not exist. Writes take a
//! [`Tx`], so that rows, outbox and audit trail are committed together. The SQL text is the same
//! for both databases; only `migrations/` has two dialects.

mod batch;
mod cause;
mod db;
mod error;
mod file;
mod kept;
mod lock;
mod measure;
mod open;
mod schema;
mod span;
#[macro_use]
mod sql;
mod store;
mod table;
mod tx;
mod wake;
mod wal;

pub mod agent;
pub mod api_service;
pub mod api_token;
pub mod audit;
pub mod client_app;
pub mod cluster;
pub mod compile;
pub mod consumer;
pub mod credential;
pub mod customer;
pub mod domain;
pub mod event;
pub mod gateway;
pub mod gateway_condition;
pub mod history;
pub mod job;
pub mod listener_port;
pub mod outbox;
pub mod plan;
pub mod product;
pub mod product_publish;
pub mod registration_token;
pub mod share;
pub mod subscription;
pub mod tenant;
#[cfg(feature = "testing")]
pub mod testing;
pub mod usage;
pub mod wildcard;

pub use batch::Soon;
pub use cause::Cause;
pub use error::StoreError;
pub use store::Store;
pub use table::{Object, Page, Record, Writable};
pub use tx::Tx;

pub type Result<T> = std::result::Result<T, StoreError>;
