//! Publishing: what is served where, as immutable revisions with frozen services.

mod asked;

use imp_core::api_service::{ApiService, ApiServiceStatus};
use imp_core::check::{Check, Violations};
use imp_core::gateway::Gateway;
use imp_core::product::{CatalogStatus, Product};
use imp_core::product_publish::{
    FrozenApiService, NodeCounts, ProductPublish, ProductPublishSpec, PublishRevision,
    PublishStatus,
};
use imp_core::route::Route;
use imp_core::scope::TenantScope;
use imp_core::{ApiServiceId, Meta, ProductPublishId, grammar, route_order};
use imp_grammar::caps;
use imp_store::agent::Able;
use imp_store::api_service::{self, Hold};
use imp_store::product_publish::{self as table, Former};
use sha2::{Digest as _, Sha256};

use self::asked::{Asked, AskedServices};
use crate::entity::Stored as _;
use crate::flows::hostnames::Early;
use crate::flows::{capabilities, classes, hostnames, ports, share};
use crate::operation::{Operation, Transaction};
use crate::refusal::Refusal;
use crate::workers::{off_workers, statements};

const REVISIONS_KEPT: i64 = caps::REVISIONS_KEPT.value.cast_signed();

/// Approximate overhead in JSON of one part of a service.
const PART_BYTES: usize = 256;

/// The content of one revision.
struct Content {
    spec: ProductPublishSpec,
    services: Vec<FrozenApiService>,
    /// Who claims its hostnames.
    claimed: Early,
}

/// Creates a publish with its first revision.
pub async fn create(
    operation: &Operation,
    scope: TenantScope,
    spec: ProductPublishSpec,
) -> Result<ProductPublish, Refusal> {
    let mut tx = Transaction::begin(operation, scope).await?;
    statements(&operation.store, async move {
        let product = tx.ask::<Product>(spec.product_id).await?;
        let services = AskedServices::about(&mut tx, &spec).await?;
        let asked = Asked::about(&mut tx, &spec, None).await?;
        let product = tx.referred(product, "/product_id").await?;
        tx.within(product.tenant_id)?;
        let publish = insert(&mut tx, &product, asked, services, spec).await?;
        tx.finish::<ProductPublish>("create", publish.id).await?;
        Ok(publish)
    })
    .await
}

async fn insert(
    tx: &mut Transaction<'_>,
    product: &Product,
    asked: Asked,
    services: AskedServices,
    spec: ProductPublishSpec,
) -> Result<ProductPublish, Refusal> {
    if product.status == CatalogStatus::Closed {
        let detail = "the product is closed: it is not published any more";
        return Err(Refusal::conflict("product_closed", detail).at("/product_id"));
    }
    check_base_path(&spec)?;
    let content = gather(tx, product, asked, services, spec, None).await?;
    let publish = ProductPublish {
        id: ProductPublishId::new(),
        tenant_id: product.tenant_id,
        status: PublishStatus::Pending,
        desired_revision: 1,
        acked_revision: 0,
        nodes: NodeCounts::default(),
        last_error: None,
        conditions: Vec::new(),
        activated_at: None,
        spec: content.spec.clone(),
        meta: Meta::new(tx.now),
    };
    let Content { claimed, services, spec } = content;
    hostnames::refuse_taken(tx, &publish, &[], claimed).await?;
    tx.insert_later(&publish).await?;
    let objects = share::count::<ProductPublish>(tx).await?;
    store_revision(tx, &publish, spec, services, None).await?;
    share::refuse_too_many(tx, objects).await?;
    Ok(publish)
}

fn check_base_path(spec: &ProductPublishSpec) -> Result<(), Refusal> {
    let mut v = Violations::new();
    v.take("base_path", grammar::new_base_path(&spec.base_path));
    Ok(v.into_result()?)
}

/// A new revision from the services as they are now.
pub async fn redeploy(
    tx: &mut Transaction<'_>,
    publish: ProductPublish,
) -> Result<ProductPublish, Refusal> {
    let spec = publish.spec.clone();
    edit(tx, publish, spec).await
}

/// Makes a revision of the new spec and the services' current state.
pub async fn edit(
    tx: &mut Transaction<'_>,
    publish: ProductPublish,
    spec: ProductPublishSpec,
) -> Result<ProductPublish, Refusal> {
    tx.within(publish.tenant_id)?;
    // What was accepted by a former release stays.
    if spec.base_path != publish.spec.base_path {
        check_base_path(&spec)?;
    }
    let product = tx.ask::<Product>(spec.product_id).await?;
    let services = AskedServices::about(tx, &spec).await?;
    let asked = Asked::about(tx, &spec, Some(&publish)).await?;
    let product = tx.referred(product, "/product_id").await?;
    let content = gather(tx, &product, asked, services, spec, Some(&publish)).await?;
    advance(tx, publish, content).await
}

/// Makes a revision that equals an earlier one.
pub async fn rollback(
    tx: &mut Transaction<'_>,
    publish: ProductPublish,
    revision: i64,
) -> Result<ProductPublish, Refusal> {
    tx.within(publish.tenant_id)?;
    let earlier = table::get_revision_in(tx, publish.id, revision).await?;
    let earlier = earlier
        .ok_or_else(|| Refusal::unknown_reference("/revision", "revision of this publish"))?;
    let asked = Asked::about(tx, &earlier.spec, Some(&publish)).await?;
    let (gateway, agents, claimed) = check_place(tx, asked, &earlier.spec).await?;
    for service in &earlier.api_services {
        refuse_retired(tx, service.id, "/revision").await?;
    }
    let content = Content { spec: earlier.spec, services: earlier.api_services, claimed };
    check_upstreams(tx, &content.services)?;
    let at = Some("/revision");
    classes::refuse_lacking(&content.spec, &gateway, &content.services, at)?;
    capabilities::refuse_unsupported(&content.spec, &gateway, &content.services, &agents, at)?;
    advance(tx, publish, content).await
}

/// Suspends the publish: callers get 503 until it is resumed.
pub async fn suspend(
    tx: &mut Transaction<'_>,
    publish: ProductPublish,
) -> Result<ProductPublish, Refusal> {
    let status = publish.status.suspend()?;
    turn(tx, publish, status).await
}

/// Resumes a suspended publish.
pub async fn resume(
    tx: &mut Transaction<'_>,
    publish: ProductPublish,
) -> Result<ProductPublish, Refusal> {
    let status = publish.status.resume()?;
    turn(tx, publish, status).await
}

/// Deletes the publish; the tailer then removes it from the cluster's resource set.
pub async fn undeploy(tx: &mut Transaction<'_>, publish: ProductPublish) -> Result<(), Refusal> {
    publish.status.undeploy()?;
    ports::release(tx, &publish).await?;
    hostnames::release(tx, &publish).await?;
    tx.delete::<ProductPublish>(publish.id).await
}

async fn turn(
    tx: &mut Transaction<'_>,
    mut publish: ProductPublish,
    status: PublishStatus,
) -> Result<ProductPublish, Refusal> {
    publish.status = status;
    tx.save(publish).await
}

async fn advance(
    tx: &mut Transaction<'_>,
    mut publish: ProductPublish,
    content: Content,
) -> Result<ProductPublish, Refusal> {
    publish.status = publish.status.redeploy()?;
    publish.desired_revision += 1;
    publish.nodes = NodeCounts::default();
    publish.last_error = None;
    let Content { spec, services, claimed } = content;
    let former = std::mem::replace(&mut publish.spec, spec.clone());
    let claims = hostnames::refuse_taken(tx, &publish, &former.hostnames, claimed).await?;
    // Its references cannot be changed, or were read: the services that it names.
    let publish = tx.save_later(publish).await?;
    store_revision(tx, &publish, spec, services, claims).await?;
    Ok(publish)
}

async fn store_revision(
    tx: &mut Transaction<'_>,
    publish: &ProductPublish,
    spec: ProductPublishSpec,
    services: Vec<FrozenApiService>,
    claims: Option<Former>,
) -> Result<(), Refusal> {
    let bytes = services.iter().map(|service| service.spec.parts() * PART_BYTES).sum();
    // Agents and Envoys have as much work with it.
    tx.operation.charge(bytes);
    let (taken, services, content_hash) = off_workers(bytes, || {
        let (taken, services) = share::measure(publish, services)?;
        let bytes = serde_json::to_vec(&(&spec, &services)).map_err(Refusal::internal)?;
        Ok::<_, Refusal>((taken, services, hex::encode(Sha256::digest(bytes))))
    })?;
    let all = share::take(tx, publish, taken).await?;
    let revision = PublishRevision {
        product_publish_id: publish.id,
        revision: publish.desired_revision,
        content_hash,
        spec,
        api_services: services,
        created_at: publish.meta.updated_at,
    };
    table::insert_revision(tx, &revision).await?;
    table::prune_revisions(tx, publish, REVISIONS_KEPT).await?;
    hostnames::claim(tx, publish, claims).await?;
    share::refuse_beyond(tx, all).await
}

/// Checks the references and freezes the services. `former` is the publish as it is served now.
async fn gather(
    tx: &mut Transaction<'_>,
    product: &Product,
    asked: Asked,
    services: AskedServices,
    spec: ProductPublishSpec,
    former: Option<&ProductPublish>,
) -> Result<Content, Refusal> {
    let (gateway, agents, claimed) = check_place(tx, asked, &spec).await?;
    let chosen = choose(product, &spec)?;
    // All transactions lock in the same order, whatever the order of the services.
    let mut in_order: Vec<_> = chosen.iter().enumerate().collect();
    in_order.sort_by_key(|(_, (id, _))| *id);
    let services = services.answered(tx).await?;
    let mut frozen = Vec::with_capacity(chosen.len());
    for (place, (id, pointer)) in in_order {
        let service = services.get(id).cloned();
        let service =
            service.ok_or_else(|| Refusal::unknown_reference(pointer, ApiService::NOUN))?;
        frozen.push((place, freeze(tx, service, pointer, former).await?));
    }
    frozen.sort_by_key(|(place, _)| *place);
    let services: Vec<_> = frozen.into_iter().map(|(_, service)| service).collect();
    check_upstreams(tx, &services)?;
    refuse_ties(&services)?;
    classes::refuse_lacking(&spec, &gateway, &services, None)?;
    capabilities::refuse_unsupported(&spec, &gateway, &services, &agents, None)?;
    Ok(Content { spec, services, claimed })
}

/// Refuses services whose routes would match the same calls.
fn refuse_ties(services: &[FrozenApiService]) -> Result<(), Refusal> {
    let routes: Vec<_> = services.iter().map(|service| &*service.spec.routes).collect();
    let bytes = services.iter().map(|service| service.spec.parts() * PART_BYTES).sum();
    let Some(tie) = off_workers(bytes, || route_order::tie(&routes)) else { return Ok(()) };
    let said = |(service, route): (usize, &Route)| {
        let spec = services.get(service).map(|service| &service.spec);
        let name = spec.map(|spec| format!("{} {}", spec.name, spec.api_version));
        format!("route '{}' of service '{}'", route.name, name.unwrap_or_default())
    };
    let detail = format!(
        "{} and {} take the same calls: give one of them a higher `priority`",
        said(tie.first),
        said(tie.second)
    );
    Err(Refusal::conflict("ambiguous_routes", detail).at("/api_services"))
}

/// The services of the publish: the named ones, which must belong to the product; otherwise all of
/// the product's.
fn choose(
    product: &Product,
    spec: &ProductPublishSpec,
) -> Result<Vec<(ApiServiceId, String)>, Refusal> {
    let offered = &product.spec.api_services;
    let mut v = Violations::new();
    if spec.api_services.is_empty() && offered.is_empty() {
        v.add("api_services", "required", "neither the product nor the publish names a service");
    }
    v.within("api_services", |v| {
        for (index, id) in spec.api_services.iter().enumerate() {
            if !offered.is_empty() && !offered.contains(id) {
                v.add(
                    &index.to_string(),
                    "not_in_product",
                    "the product does not hold this service",
                );
            }
            if spec.api_services.iter().take(index).any(|other| other == id) {
                v.add(
                    &index.to_string(),
                    "duplicate_service",
                    "this service is in the list already",
                );
            }
        }
    });
    v.into_result()?;
    if spec.api_services.is_empty() {
        return Ok(offered.iter().map(|&id| (id, "/api_services".to_owned())).collect());
    }
    let named = spec.api_services.iter().enumerate();
    Ok(named.map(|(index, &id)| (id, format!("/api_services/{index}"))).collect())
}

/// Copies the service's current state and marks it `published`. A deprecated service enters no new
/// publish, but publishes that already serve it can be changed.
async fn freeze(
    tx: &mut Transaction<'_>,
    service: ApiService,
    pointer: &str,
    former: Option<&ProductPublish>,
) -> Result<FrozenApiService, Refusal> {
    let id = service.id;
    if service.status == ApiServiceStatus::Retired {
        return Err(service_retired(pointer));
    }
    let deprecated = service.status == ApiServiceStatus::Deprecated;
    let stays = deprecated && holds(tx, former, id).await?;
    let draft = !stays && service.status.publish()? != service.status;
    let now = tx.now;
    let left = draft && api_service::leave_draft(tx, id, now).await?;
    if !left && !tx.is_alone() {
        // Locked only now: two first publishes that locked earlier would deadlock.
        refuse_retired(tx, id, pointer).await?;
    }
    Ok(FrozenApiService { id, revision: service.revision, spec: service.spec })
}

/// Whether the publish serves the service now.
async fn holds(
    tx: &mut Transaction<'_>,
    former: Option<&ProductPublish>,
    service: ApiServiceId,
) -> Result<bool, Refusal> {
    let Some(publish) = former else { return Ok(false) };
    let now = table::get_revision_in(tx, publish.id, publish.desired_revision).await?;
    Ok(now.iter().flat_map(|now| &now.api_services).any(|held| held.id == service))
}

/// Refuses a service that was retired or deleted, both of which are final. A concurrent retirement
/// comes before or after this transaction.
async fn refuse_retired(
    tx: &mut Transaction<'_>,
    id: ApiServiceId,
    pointer: &str,
) -> Result<(), Refusal> {
    match api_service::hold(tx, id, Hold::Shared).await? {
        Some(ApiServiceStatus::Retired) | None => Err(service_retired(pointer)),
        Some(_) => Ok(()),
    }
}

/// The error for a retired service.
pub fn service_retired(pointer: &str) -> Refusal {
    let detail = "an API service of it was retired or deleted, which is for good";
    Refusal::conflict("service_retired", detail).at(pointer)
}

/// Checks that cluster and gateway exist, that the gateway may listen there, and that every
/// hostname belongs to the tenant and is admitted by the gateway's constraints. Returns the gateway,
/// what the cluster's agents support, and who claims the hostnames.
async fn check_place(
    tx: &mut Transaction<'_>,
    asked: Asked,
    spec: &ProductPublishSpec,
) -> Result<(Gateway, Vec<Able>, Early), Refusal> {
    tx.referred(asked.cluster, "/cluster_id").await?;
    let gateway = tx.referred(asked.gateway, "/gateway_id").await?;
    // It was asked for before the scope was narrowed to the product's tenant.
    if !tx.scope.holds(gateway.tenant_id) {
        return Err(Refusal::unknown_reference("/gateway_id", Gateway::NOUN));
    }
    let mut v = Violations::new();
    gateway.spec.check(&mut v);
    if v.into_result().is_err() {
        return Err(Refusal::invalid("/gateway_id", "unsupported_gateway", "nothing can serve it"));
    }
    let mut v = Violations::new();
    v.each("hostnames", &spec.hostnames, |v, hostname| {
        if !admits(&gateway, hostname) {
            let why = "a listener of the gateway has another hostname";
            v.add("", "hostname_not_admitted", why);
        }
    });
    v.into_result()?;
    let holders = asked.holders;
    hostnames::refuse_unproven(tx, gateway.tenant_id, &spec.hostnames, holders).await?;
    ports::claim(tx, &gateway, spec.cluster_id, asked.ports).await?;
    let agents = tx.now(asked.agents).await?;
    let demanding = tx.now(asked.demanding_terms).await?;
    capabilities::refuse_terms(&demanding, &agents, "/product_id")?;
    Ok((gateway, agents, asked.claimed))
}

/// Whether every listener that names a hostname admits this one.
pub fn admits(gateway: &Gateway, hostname: &str) -> bool {
    let wanted = gateway.spec.listeners.iter().filter_map(|listener| listener.hostname.as_deref());
    wanted.map(grammar::hostname).all(|name| name.is_ok_and(|name| name == hostname))
}

/// Checks the upstreams again, because the deployment's rules may have become stricter since the
/// service was written.
fn check_upstreams(tx: &Transaction<'_>, services: &[FrozenApiService]) -> Result<(), Refusal> {
    let mut v = Violations::new();
    v.each("api_services", services, |v, service| {
        service.spec.check_upstreams(&tx.operation.upstreams, v);
    });
    Ok(v.into_result()?)
}
