//! Domains become a tenant's, and stop being one's.

use imp_core::domain::{Domain, DomainStatus};
use imp_store::domain as table;

use crate::flows::Write;
use crate::problem::Problem;

/// The proof was found.
pub async fn verify(write: &mut Write<'_>, domain: Domain) -> Result<Domain, Problem> {
    if domain.status.is_held() {
        return Ok(domain);
    }
    hold(write, domain, DomainStatus::Verified).await
}

/// An operator says so, with no proof.
pub async fn grant(write: &mut Write<'_>, domain: Domain) -> Result<Domain, Problem> {
    if domain.status == DomainStatus::Granted {
        return Ok(domain);
    }
    hold(write, domain, DomainStatus::Granted).await
}

async fn hold(
    write: &mut Write<'_>,
    domain: Domain,
    status: DomainStatus,
) -> Result<Domain, Problem> {
    write.within(domain.tenant_id)?;
    let expected = domain.meta.version;
    let held = domain.held_as(status, write.now);
    match table::update(&mut write.tx, &held, expected).await {
        Err(error) if table::is_held_by_another(&error) => {
            let detail = "this domain is not available; ask the operator";
            Err(Problem::conflict("domain_taken", detail).at("/name"))
        }
        done => Ok(done.map(|()| held)?),
    }
}

/// Hostnames below it may not be taken any more; so nothing may be served there.
pub async fn release(write: &mut Write<'_>, domain: Domain) -> Result<(), Problem> {
    write.within(domain.tenant_id)?;
    if domain.status.is_held() && table::is_in_use(&mut write.tx, &domain).await? {
        let detail = "publishes serve hostnames of this domain; take those away first";
        return Err(Problem::conflict("in_use", detail));
    }
    table::delete(&mut write.tx, &write.scope, domain.id).await?;
    Ok(())
}
