//! What takes more than one write: each flow is one transaction of rows, outbox and audit trail, so
//! that nothing half-written is ever seen.

pub mod capabilities;
pub mod catalog;
pub mod credential;
pub mod domain;
pub mod hostnames;
pub mod ports;
pub mod publish;
pub mod share;
pub mod subscription;

use chrono::{DateTime, Utc};
use imp_core::TenantId;
use imp_core::scope::TenantScope;
use imp_store::audit::{self, Actor};
use imp_store::outbox::Subject;
use imp_store::{Tx, outbox};
use uuid::Uuid;

use crate::problem::Problem;
use crate::rest::admission::Turn;
use crate::rest::call::Call;
use crate::rest::crud::operation;
use crate::rest::entity::{Entity, Stored};

/// A transaction on behalf of a caller.
pub struct Write<'c> {
    pub call: &'c Call,
    pub tx: Tx,
    /// What the caller may touch.
    pub scope: TenantScope,
    pub now: DateTime<Utc>,
    /// Behind the transaction, so that it is given back after that has ended.
    _turn: Turn,
}

impl<'c> Write<'c> {
    pub async fn begin(call: &'c Call, scope: TenantScope) -> Result<Self, Problem> {
        let turn = call.state.admission.write(&call.scope, call.tightens).await?;
        let tx = call.state.store.begin().await?;
        Ok(Self { call, tx, scope, now: call.now(), _turn: turn })
    }

    /// Cuts the scope down to the tenant of the object at hand: references lead no further.
    pub fn within(&mut self, tenant: TenantId) -> Result<(), Problem> {
        self.scope = self.scope.within(tenant).ok_or_else(|| Problem::not_found("tenant"))?;
        Ok(())
    }

    /// The object that the field at `pointer` names. Another tenant's is as unknown as none.
    pub async fn refer<E: Entity>(&mut self, id: E::Id, pointer: &str) -> Result<E, Problem> {
        let found = <E as Stored>::get_in(&mut self.tx, &self.scope, id).await?;
        found.ok_or_else(|| Problem::unknown_reference(pointer, E::NOUN))
    }

    /// The object that the path names.
    pub async fn get<E: Entity>(&mut self, id: E::Id) -> Result<E, Problem> {
        let found = <E as Stored>::get_in(&mut self.tx, &self.scope, id).await?;
        found.ok_or_else(|| Problem::not_found(E::NOUN))
    }

    /// Tells the tailer that what this touches must be compiled anew.
    pub async fn note(&mut self, subject: Subject) -> Result<(), Problem> {
        Ok(outbox::append(&mut self.tx, subject).await?)
    }

    /// Writes the audit row and commits, unless a new object is one too many.
    pub async fn finish<E: Entity>(mut self, verb: &str, id: E::Id) -> Result<(), Problem> {
        if verb == "create" {
            share::refuse_too_many::<E>(&mut self).await?;
        }
        self.finish_as(&operation::<E>(verb), id.into()).await
    }

    pub async fn finish_as(mut self, operation: &str, object: Uuid) -> Result<(), Problem> {
        let entry = audit::Entry {
            at: self.now,
            actor: Actor::Token(self.call.principal.token_id),
            tenant_id: self.scope.tenant(),
            operation: operation.to_owned(),
            object_id: object,
            detail: String::new(),
        };
        audit::append(&mut self.tx, &entry).await?;
        Ok(self.tx.commit().await?)
    }
}
