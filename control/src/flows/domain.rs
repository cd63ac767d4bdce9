//! Domains: how a tenant acquires and releases one.

use imp_core::domain::{Challenge, Domain, DomainSpec, DomainStatus};
use imp_core::hostname::{Reserved, reserved, reserved_fault};
use imp_core::scope::TenantScope;
use imp_core::{DomainId, Meta, TenantId, Transition};
use imp_grammar::hosts::CATCH_ALL;
use imp_store::outbox::Subject;
use imp_store::{Record as _, Writable as _};
use imp_store::{domain as table, wildcard};

use crate::entity::Stored as _;
use crate::flows::finish_create;
use crate::operation::{Operation, Transaction};
use crate::refusal::Refusal;

/// Creates a domain that is still to be proven. Names of a single machine or network can only be
/// granted by operators.
pub async fn create(
    operation: &Operation,
    scope: TenantScope,
    tenant_id: TenantId,
    spec: DomainSpec,
) -> Result<Domain, Refusal> {
    let granted_only = spec.name == CATCH_ALL || reserved(&spec.name) == Some(Reserved::Local);
    if granted_only && !operation.actor.is_operator() {
        let fault = reserved_fault();
        return Err(Refusal::invalid("/name", fault.code, fault.detail));
    }
    let mut tx = Transaction::begin(operation, scope).await?;
    let domain = Domain {
        id: DomainId::new(),
        tenant_id,
        challenge: Challenge::new(&spec.name),
        spec,
        status: DomainStatus::Pending,
        held_since: None,
        meta: Meta::new(tx.now),
    };
    domain.insert(&mut tx).await?;
    finish_create::<Domain>(tx, domain.id).await?;
    Ok(domain)
}

/// Marks the domain as proven.
pub async fn verify(tx: &mut Transaction<'_>, domain: Domain) -> Result<Domain, Refusal> {
    if domain.status.is_held() {
        return Ok(domain);
    }
    if domain.spec.name == CATCH_ALL {
        let detail = "nobody can prove it; an operator grants it";
        return Err(Refusal::conflict("proof_not_found", detail));
    }
    hold(tx, domain, DomainStatus::Verified).await
}

/// Marks the domain as granted by an operator, without proof.
pub async fn grant(tx: &mut Transaction<'_>, domain: Domain) -> Result<Domain, Refusal> {
    if domain.status == DomainStatus::Granted {
        return Ok(domain);
    }
    if let Some(from) = domain.status.newer_word() {
        return Err(Transition { kind: Domain::NOUN, from, to: "granted" }.into());
    }
    hold(tx, domain, DomainStatus::Granted).await
}

async fn hold(
    tx: &mut Transaction<'_>,
    domain: Domain,
    status: DomainStatus,
) -> Result<Domain, Refusal> {
    tx.within(domain.tenant_id)?;
    let expected = domain.meta.version;
    if !domain.status.is_held() {
        wildcard::hold_all(tx).await?;
        compile_wildcards(tx, &domain).await?;
    }
    let held = domain.held_as(status, tx.now);
    match held.update(tx, expected).await {
        Err(error) if table::is_held_by_another(&error) => {
            let detail = "this domain is not available; ask the operator";
            Err(Refusal::conflict("domain_taken", detail).at("/name"))
        }
        done => Ok(done.map(|()| held)?),
    }
}

/// Releases the domain. Refused while anything is served below it.
pub async fn release(tx: &mut Transaction<'_>, domain: Domain) -> Result<(), Refusal> {
    tx.within(domain.tenant_id)?;
    wildcard::hold_all(tx).await?;
    if domain.status.is_held() && table::is_in_use(tx, &domain).await? {
        let detail = "publishes serve hostnames of this domain; take those away first";
        return Err(Refusal::conflict("in_use", detail));
    }
    if domain.status.is_held() {
        compile_wildcards(tx, &domain).await?;
    }
    tx.delete::<Domain>(domain.id).await
}

/// Has the tailer compile publishes of other tenants again: their wildcards take nothing that is in a
/// domain of this tenant.
async fn compile_wildcards(tx: &mut Transaction<'_>, domain: &Domain) -> Result<(), Refusal> {
    for id in wildcard::concerned_by(tx, domain.tenant_id, &domain.spec.name).await? {
        tx.note(Subject::ProductPublish(id)).await?;
    }
    Ok(())
}
