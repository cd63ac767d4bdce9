//! A transaction of an operation: rows, outbox and audit row, all or nothing.

use std::ops::{Deref, DerefMut};

use chrono::{DateTime, Utc};
use imp_core::TenantId;
use imp_core::scope::TenantScope;
use imp_store::outbox::Subject;
use imp_store::{Soon, Tx, Writable, audit, outbox};
use serde_json::Value;
use tracing::{Instrument as _, info_span};
use uuid::Uuid;

use crate::admission::Turn;
use crate::entity::{self, Stored};
use crate::operation::{Actor, Operation};
use crate::refusal::Refusal;

/// A transaction of an operation. It derefs to the store's [`Tx`]; only [`Self::finish`] commits.
pub struct Transaction<'o> {
    pub operation: &'o Operation,
    /// The tenants that it may touch.
    pub scope: TenantScope,
    pub now: DateTime<Utc>,
    tx: Tx,
    /// Declared after `tx`, so that the turn is released after the transaction has ended.
    turn: Turn,
}

impl<'o> Transaction<'o> {
    /// Begins a transaction once it is the tenant's turn to write. `scope` is the operation's or a
    /// part of it.
    pub async fn begin(operation: &'o Operation, scope: TenantScope) -> Result<Self, Refusal> {
        let turn = operation.admission.write(&operation.scope, operation.tightens).await?;
        let mut tx = operation.store.begin().instrument(info_span!("begin")).await?;
        tx.caused_by(operation.cause());
        Ok(Self { operation, tx, scope, now: operation.now(), turn })
    }

    /// Narrows the scope to the tenant of the current object, so that references cannot leave it.
    pub fn within(&mut self, tenant: TenantId) -> Result<(), Refusal> {
        self.scope = self.scope.within(tenant).ok_or(Refusal::NotFound("tenant"))?;
        Ok(())
    }

    /// Returns the object that the field at `pointer` names. Another tenant's object counts as
    /// unknown.
    pub async fn refer<E: Stored>(&mut self, id: E::Id, pointer: &str) -> Result<E, Refusal> {
        let found = E::get_in(&mut self.tx, &self.scope, id).await?;
        found.ok_or_else(|| Refusal::unknown_reference(pointer, E::NOUN))
    }

    /// Asks for an object that is needed later, for [`Transaction::referred`].
    pub async fn ask<E: Stored>(&mut self, id: E::Id) -> Result<Soon<Option<E>>, Refusal> {
        Ok(E::get_soon(&mut self.tx, &self.scope, id).await?)
    }

    /// Returns the object that was asked for and that the field at `pointer` names.
    pub async fn referred<E: Stored>(
        &mut self,
        asked: Soon<Option<E>>,
        pointer: &str,
    ) -> Result<E, Refusal> {
        let found = self.tx.now(asked).await?;
        found.ok_or_else(|| Refusal::unknown_reference(pointer, E::NOUN))
    }

    /// Returns the object with this id.
    pub async fn get<E: Stored>(&mut self, id: E::Id) -> Result<E, Refusal> {
        let found = E::get_in(&mut self.tx, &self.scope, id).await?;
        found.ok_or(Refusal::NotFound(E::NOUN))
    }

    /// Inserts the object and notifies the tailer.
    pub async fn insert<E: Stored + Writable>(&mut self, entity: &E) -> Result<(), Refusal> {
        entity.insert(&mut self.tx).await?;
        self.tell::<E>(entity.id()).await
    }

    /// Like [`Transaction::insert`], for an object whose references were read in this transaction and whose
    /// other values are not unique.
    pub async fn insert_later<E: Stored + Writable>(&mut self, entity: &E) -> Result<(), Refusal> {
        entity.insert_later(&mut self.tx).await?;
        self.tell::<E>(entity.id()).await
    }

    /// Updates the object if its version is still the one that was read, and notifies the tailer.
    pub async fn save<E: Stored>(&mut self, mut entity: E) -> Result<E, Refusal> {
        let expected = entity.meta().version;
        entity.meta_mut().touch(self.now);
        entity.update(&mut self.tx, expected).await?;
        self.tell::<E>(entity.id()).await?;
        Ok(entity)
    }

    /// Like [`Transaction::save`], for an object that was read in this transaction, whose references stay as
    /// they are and whose other values are not unique.
    pub async fn save_later<E: Stored + Writable>(&mut self, mut entity: E) -> Result<E, Refusal> {
        let expected = entity.meta().version;
        entity.meta_mut().touch(self.now);
        entity.update_later(&mut self.tx, expected).await?;
        self.tell::<E>(entity.id()).await?;
        Ok(entity)
    }

    /// Deletes the object with this id and notifies the tailer.
    pub async fn delete<E: Stored>(&mut self, id: E::Id) -> Result<(), Refusal> {
        E::delete(&mut self.tx, &self.scope, id).await?;
        self.tell::<E>(id).await
    }

    async fn tell<E: Stored>(&mut self, id: E::Id) -> Result<(), Refusal> {
        match E::subject(id) {
            Some(subject) => self.note(subject).await,
            None => Ok(()),
        }
    }

    /// Has the tailer compile again what depends on the subject.
    pub async fn note(&mut self, subject: Subject) -> Result<(), Refusal> {
        Ok(outbox::append(&mut self.tx, subject).await?)
    }

    /// Writes the audit row and commits. The row names the operation as the OpenAPI document does:
    /// `plans.create`.
    pub async fn finish<E: Stored>(self, verb: &str, id: E::Id) -> Result<(), Refusal> {
        self.finish_as(&entity::operation::<E>(verb), id.into()).await
    }

    /// Writes the audit row and commits.
    pub async fn finish_as(self, operation: &str, object: Uuid) -> Result<(), Refusal> {
        self.finish_with(operation, object, String::new()).await
    }

    /// Writes the audit row with a `detail` for its readers, and commits. `detail` must not contain
    /// a secret.
    pub async fn finish_with(
        mut self,
        operation: &str,
        object: Uuid,
        detail: String,
    ) -> Result<(), Refusal> {
        self.record(operation, object, detail).await?;
        self.commit().await
    }

    /// Writes the audit row with a `payload` for readers of events, and commits. `payload` must be
    /// small and must not contain a secret.
    pub async fn finish_event(
        mut self,
        operation: &str,
        object: Uuid,
        detail: String,
        payload: &Value,
    ) -> Result<(), Refusal> {
        let entry = self.entry(operation, object, detail);
        audit::append_event(&mut self.tx, &entry, payload).await?;
        self.commit().await
    }

    async fn commit(self) -> Result<(), Refusal> {
        let Self { tx, turn, .. } = self;
        Ok(tx.commit_and_drop(turn).instrument(info_span!("commit")).await?)
    }

    /// Rolls back, when there is nothing to do.
    pub async fn rollback(self) -> Result<(), Refusal> {
        Ok(self.tx.rollback().await?)
    }

    /// Writes an audit row; if an operation changes several objects, each has its own.
    pub async fn record(
        &mut self,
        operation: &str,
        object: Uuid,
        detail: String,
    ) -> Result<(), Refusal> {
        let entry = self.entry(operation, object, detail);
        Ok(audit::append(&mut self.tx, &entry).await?)
    }

    fn entry(&self, operation: &str, object: Uuid, detail: String) -> audit::Entry {
        let actor = &self.operation.actor;
        audit::Entry {
            at: self.now,
            actor: actor.into(),
            tenant_id: self.scope.tenant(),
            operation: operation.to_owned(),
            object_id: object,
            // Jobs have no id that fits the column.
            detail: match actor {
                Actor::Job(name) => format!("{name}: {detail}"),
                _ => detail,
            },
            request_id: self.operation.request_id.clone(),
        }
    }
}

impl Deref for Transaction<'_> {
    type Target = Tx;

    fn deref(&self) -> &Tx {
        &self.tx
    }
}

impl DerefMut for Transaction<'_> {
    fn deref_mut(&mut self) -> &mut Tx {
        &mut self.tx
    }
}
