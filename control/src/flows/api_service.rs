//! API services: what they may hold, and their life cycle.

use std::collections::HashSet;

use imp_core::api_service::{ApiService, ApiServiceSpec, ApiServiceStatus};
use imp_core::check::Violations;
use imp_core::scope::TenantScope;
use imp_core::{ApiServiceId, Meta, TenantId, Transition};
use imp_store::StoreError;
use imp_store::api_service::{self as table, Hold};

use crate::entity::Stored as _;
use crate::flows::share;
use crate::operation::{Operation, Transaction};
use crate::refusal::Refusal;

pub async fn create(
    operation: &Operation,
    scope: TenantScope,
    tenant_id: TenantId,
    spec: ApiServiceSpec,
) -> Result<ApiService, Refusal> {
    check(operation, &spec)?;
    let tx = Transaction::begin(operation, scope).await?;
    let service = ApiService {
        id: ApiServiceId::new(),
        tenant_id,
        status: ApiServiceStatus::Draft,
        revision: 1,
        spec,
        meta: Meta::new(tx.now),
    };
    super::create(tx, service).await
}

/// Changes the service. A publish keeps serving its frozen copy until it is redeployed.
pub async fn edit(
    tx: &mut Transaction<'_>,
    current: ApiService,
    spec: ApiServiceSpec,
) -> Result<ApiService, Refusal> {
    if current.status == ApiServiceStatus::Retired {
        let refused = Transition { kind: ApiService::NOUN, from: "retired", to: "changed" };
        return Err(refused.into());
    }
    check(tx.operation, &spec)?;
    let revision = current.revision + 1;
    tx.save(ApiService { spec, revision, ..current }).await
}

pub async fn delete(tx: &mut Transaction<'_>, service: ApiService) -> Result<(), Refusal> {
    refuse_served(tx, &service).await?;
    tx.delete::<ApiService>(service.id).await
}

pub async fn deprecate(
    tx: &mut Transaction<'_>,
    service: ApiService,
) -> Result<ApiService, Refusal> {
    let status = service.status.deprecate()?;
    tx.save(ApiService { status, ..service }).await
}

/// Retires the service, if nothing serves it.
pub async fn retire(tx: &mut Transaction<'_>, service: ApiService) -> Result<ApiService, Refusal> {
    let status = service.status.retire()?;
    refuse_served(tx, &service).await?;
    tx.save(ApiService { status, ..service }).await
}

/// Checks what needs the deployment's rules or all parts of the spec together.
fn check(operation: &Operation, spec: &ApiServiceSpec) -> Result<(), Refusal> {
    let mut v = Violations::new();
    spec.check_upstreams(&operation.upstreams, &mut v);
    let parts = [
        ("routes", spec.routes.iter().map(|part| part.id.0).collect::<Vec<_>>()),
        ("backends", spec.backends.iter().map(|part| part.id.0).collect()),
        ("policies", spec.policies.iter().map(|part| part.id.0).collect()),
    ];
    for (list, ids) in parts {
        let mut seen = HashSet::new();
        v.each(list, &ids, |v, id| {
            if !seen.insert(*id) {
                v.add("id", "duplicate_id", "another one has this id");
            }
        });
    }
    v.into_result()?;
    share::check_service(spec)
}

/// Locks the row first, so that a concurrent publish either is seen here or sees this change.
async fn refuse_served(tx: &mut Transaction<'_>, service: &ApiService) -> Result<(), Refusal> {
    table::hold(tx, service.id, Hold::Alone).await?;
    if table::is_published(tx, service.id).await? {
        return Err(StoreError::InUse { by: "product-publishes" }.into());
    }
    Ok(())
}
