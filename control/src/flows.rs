//! The rules of the domain: what each operation needs, refuses and changes. Each operation is one
//! transaction of rows, outbox and audit trail.
//!
//! A `create` begins and finishes its own transaction. Operations on an existing object take the
//! transaction in which the object was read.

pub mod agent;
pub mod api_service;
pub mod api_token;
mod capabilities;
mod classes;
pub mod client_app;
pub mod cluster;
pub mod consumer;
pub mod credential;
pub mod customer;
pub mod domain;
pub mod gateway;
mod hostnames;
pub mod plan;
mod ports;
pub mod product;
pub mod publish;
pub mod registration_token;
mod share;
pub mod subscription;
pub mod tenant;

use chrono::{DateTime, SubsecRound as _, Utc};
use imp_store::Writable;

use crate::entity::Stored;
use crate::operation::Transaction;
use crate::refusal::Refusal;

/// A new object with its secret, which is shown only once.
pub struct Created<E> {
    pub entity: E,
    pub secret: Option<String>,
}

impl<E> From<E> for Created<E> {
    fn from(entity: E) -> Self {
        Self { entity, secret: None }
    }
}

/// Inserts and commits a new object, unless it exceeds its tenant's cap.
async fn create<E: Stored + Writable>(mut tx: Transaction<'_>, entity: E) -> Result<E, Refusal> {
    tx.insert(&entity).await?;
    finish_create::<E>(tx, entity.id()).await?;
    Ok(entity)
}

/// Commits a new object, unless it exceeds its tenant's cap.
async fn finish_create<E: Stored>(mut tx: Transaction<'_>, id: E::Id) -> Result<(), Refusal> {
    let objects = share::count::<E>(&mut tx).await?;
    share::refuse_too_many(&mut tx, objects).await?;
    tx.finish::<E>("create", id).await
}

/// Checks that an end is in the future and truncates it to the databases' precision.
fn future_end(
    tx: &Transaction<'_>,
    end: Option<DateTime<Utc>>,
) -> Result<Option<DateTime<Utc>>, Refusal> {
    if end.is_some_and(|end| end <= tx.now) {
        return Err(Refusal::invalid("/expires_at", "in_the_past", "a time to come"));
    }
    Ok(end.map(|end| end.trunc_subsecs(6)))
}
