//! Publishing: what is served where, as immutable revisions with frozen services.

use imp_core::api_service::{ApiService, ApiServiceStatus};
use imp_core::check::{Check, Violations};
use imp_core::cluster::Cluster;
use imp_core::gateway::Gateway;
use imp_core::product::{CatalogStatus, Product};
use imp_core::product_publish::{
    FrozenApiService, NodeCounts, ProductPublish, ProductPublishSpec, PublishRevision,
    PublishStatus,
};
use imp_core::{ApiServiceId, Meta, ProductPublishId, grammar};
use imp_grammar::caps;
use imp_store::api_service::{self, Hold};
use imp_store::listener_port;
use imp_store::outbox::Subject;
use imp_store::product_publish as table;
use sha2::{Digest as _, Sha256};

use crate::flows::{Write, capabilities, hostnames, ports, share};
use crate::problem::Problem;
use crate::workers::off_workers;

const REVISIONS_KEPT: i64 = caps::REVISIONS_KEPT.value.cast_signed();

/// What a part of a service is in JSON, about.
const PART_BYTES: usize = 256;

/// What one revision serves.
struct Content {
    spec: ProductPublishSpec,
    services: Vec<FrozenApiService>,
}

/// The first revision of a new publish. The write's scope is the tenant's.
pub async fn create(
    write: &mut Write<'_>,
    product: &Product,
    spec: ProductPublishSpec,
) -> Result<ProductPublish, Problem> {
    if product.status == CatalogStatus::Closed {
        let detail = "the product is closed: it is not published any more";
        return Err(Problem::conflict("product_closed", detail).at("/product_id"));
    }
    let content = gather(write, product, spec, &[]).await?;
    let publish = ProductPublish {
        id: ProductPublishId::new(),
        tenant_id: product.tenant_id,
        status: PublishStatus::Pending,
        desired_revision: 1,
        acked_revision: 0,
        nodes: NodeCounts::default(),
        last_error: None,
        activated_at: None,
        spec: content.spec.clone(),
        meta: Meta::new(write.now),
    };
    hostnames::refuse_taken(write, &publish, &[]).await?;
    table::insert(&mut write.tx, &publish).await?;
    store_revision(write, &publish, content).await?;
    Ok(publish)
}

/// A new revision from the services as they are now; the spec may have changed, too.
pub async fn redeploy(
    write: &mut Write<'_>,
    publish: ProductPublish,
    spec: ProductPublishSpec,
) -> Result<ProductPublish, Problem> {
    let product = write.refer::<Product>(spec.product_id, "/product_id").await?;
    let now = table::get_revision_in(&mut write.tx, publish.id, publish.desired_revision).await?;
    let held: Vec<_> = now.iter().flat_map(|now| &now.api_services).map(|held| held.id).collect();
    let content = gather(write, &product, spec, &held).await?;
    advance(write, publish, content).await
}

/// A new revision that equals an earlier one.
pub async fn rollback(
    write: &mut Write<'_>,
    publish: ProductPublish,
    revision: i64,
) -> Result<ProductPublish, Problem> {
    let earlier = table::get_revision_in(&mut write.tx, publish.id, revision).await?;
    let earlier = earlier
        .ok_or_else(|| Problem::unknown_reference("/revision", "revision of this publish"))?;
    check_place(write, &earlier.spec).await?;
    for service in &earlier.api_services {
        refuse_retired(write, service.id, "/revision").await?;
    }
    let content = Content { spec: earlier.spec, services: earlier.api_services };
    check_upstreams(write, &content.services)?;
    let at = Some("/revision");
    capabilities::refuse_unsupported(write, &content.spec, &content.services, at).await?;
    advance(write, publish, content).await
}

/// Callers get 503 until it is resumed.
pub async fn suspend(
    write: &mut Write<'_>,
    publish: ProductPublish,
) -> Result<ProductPublish, Problem> {
    let status = publish.status.suspend()?;
    turn(write, publish, status).await
}

/// Serves again.
pub async fn resume(
    write: &mut Write<'_>,
    publish: ProductPublish,
) -> Result<ProductPublish, Problem> {
    let status = publish.status.resume()?;
    turn(write, publish, status).await
}

/// Takes it away: the row goes, and the tailer takes it out of the cluster's world.
pub async fn undeploy(write: &mut Write<'_>, publish: ProductPublish) -> Result<(), Problem> {
    publish.status.undeploy()?;
    ports::release(write, &publish).await?;
    hostnames::release(write, &publish).await?;
    table::delete(&mut write.tx, &write.scope, publish.id).await?;
    write.note(Subject::ProductPublish(publish.id)).await
}

async fn turn(
    write: &mut Write<'_>,
    mut publish: ProductPublish,
    status: PublishStatus,
) -> Result<ProductPublish, Problem> {
    let expected = publish.meta.version;
    publish.status = status;
    publish.meta.touch(write.now);
    table::update(&mut write.tx, &publish, expected).await?;
    write.note(Subject::ProductPublish(publish.id)).await?;
    Ok(publish)
}

async fn advance(
    write: &mut Write<'_>,
    mut publish: ProductPublish,
    content: Content,
) -> Result<ProductPublish, Problem> {
    let expected = publish.meta.version;
    publish.status = publish.status.redeploy()?;
    publish.desired_revision += 1;
    publish.nodes = NodeCounts::default();
    publish.last_error = None;
    let former = std::mem::replace(&mut publish.spec, content.spec.clone());
    publish.meta.touch(write.now);
    hostnames::refuse_taken(write, &publish, &former.hostnames).await?;
    table::update(&mut write.tx, &publish, expected).await?;
    store_revision(write, &publish, content).await?;
    Ok(publish)
}

async fn store_revision(
    write: &mut Write<'_>,
    publish: &ProductPublish,
    content: Content,
) -> Result<(), Problem> {
    let Content { spec, services } = content;
    let bytes = services.iter().map(|service| service.spec.parts() * PART_BYTES).sum();
    // Agents and Envoys have as much to do with it.
    write.call.charge(bytes);
    let (taken, services, content_hash) = off_workers(bytes, || {
        let (taken, services) = share::measure(publish, services)?;
        let bytes = serde_json::to_vec(&(&spec, &services)).map_err(Problem::internal)?;
        Ok::<_, Problem>((taken, services, hex::encode(Sha256::digest(bytes))))
    })?;
    share::take(write, publish, taken).await?;
    let revision = PublishRevision {
        product_publish_id: publish.id,
        revision: publish.desired_revision,
        content_hash,
        spec,
        api_services: services,
        created_at: publish.meta.updated_at,
    };
    table::insert_revision(&mut write.tx, &revision).await?;
    table::prune_revisions(&mut write.tx, publish, REVISIONS_KEPT).await?;
    hostnames::claim(write, publish).await?;
    write.note(Subject::ProductPublish(publish.id)).await
}

/// Checks the references and freezes the services. `held` are those that the publish serves now.
async fn gather(
    write: &mut Write<'_>,
    product: &Product,
    spec: ProductPublishSpec,
    held: &[ApiServiceId],
) -> Result<Content, Problem> {
    check_place(write, &spec).await?;
    let chosen = choose(product, &spec)?;
    // Held in one order by everybody, whatever the order in which they are served.
    let mut in_order: Vec<_> = chosen.iter().enumerate().collect();
    in_order.sort_by_key(|(_, (id, _))| *id);
    let mut frozen = Vec::with_capacity(chosen.len());
    for (place, (id, pointer)) in in_order {
        frozen.push((place, freeze(write, *id, pointer, held.contains(id)).await?));
    }
    frozen.sort_by_key(|(place, _)| *place);
    let services: Vec<_> = frozen.into_iter().map(|(_, service)| service).collect();
    check_upstreams(write, &services)?;
    capabilities::refuse_unsupported(write, &spec, &services, None).await?;
    Ok(Content { spec, services })
}

/// Which services: the named ones, all of them the product's if it names any; else the product's.
fn choose(
    product: &Product,
    spec: &ProductPublishSpec,
) -> Result<Vec<(ApiServiceId, String)>, Problem> {
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

/// A copy of the service as it is now; being in a publish makes it `published`. A deprecated one
/// enters no new publish, but one that serves it already can still be mended.
async fn freeze(
    write: &mut Write<'_>,
    id: ApiServiceId,
    pointer: &str,
    held: bool,
) -> Result<FrozenApiService, Problem> {
    let service = write.refer::<ApiService>(id, pointer).await?;
    if service.status == ApiServiceStatus::Retired {
        return Err(service_retired(pointer));
    }
    let stays = held && service.status == ApiServiceStatus::Deprecated;
    let draft = !stays && service.status.publish()? != service.status;
    if !(draft && api_service::leave_draft(&mut write.tx, id, write.now).await?) {
        // Held only now: of two first publishes, both would wait for the other to let go.
        refuse_retired(write, id, pointer).await?;
    }
    Ok(FrozenApiService { id, revision: service.revision, spec: service.spec })
}

/// Retired is for good, and so is deleted: nothing brings a service back. Whoever retires it comes
/// before or after this transaction.
async fn refuse_retired(
    write: &mut Write<'_>,
    id: ApiServiceId,
    pointer: &str,
) -> Result<(), Problem> {
    match api_service::hold(&mut write.tx, id, Hold::Shared).await? {
        Some(ApiServiceStatus::Retired) | None => Err(service_retired(pointer)),
        Some(_) => Ok(()),
    }
}

/// It is over.
pub fn service_retired(pointer: &str) -> Problem {
    let detail = "an API service of it was retired or deleted, which is for good";
    Problem::conflict("service_retired", detail).at(pointer)
}

/// Cluster and gateway are there, the gateway may listen there, and every hostname is the tenant's
/// and admitted by every constraint of the gateway.
async fn check_place(write: &mut Write<'_>, spec: &ProductPublishSpec) -> Result<(), Problem> {
    write.refer::<Cluster>(spec.cluster_id, "/cluster_id").await?;
    listener_port::keep_listeners(&mut write.tx, spec.gateway_id).await?;
    let gateway = write.refer::<Gateway>(spec.gateway_id, "/gateway_id").await?;
    let mut v = Violations::new();
    gateway.spec.check(&mut v);
    if v.into_result().is_err() {
        return Err(Problem::invalid("/gateway_id", "unsupported_gateway", "nothing can serve it"));
    }
    let mut v = Violations::new();
    v.each("hostnames", &spec.hostnames, |v, hostname| {
        if !admits(&gateway, hostname) {
            let why = "a listener of the gateway has another hostname";
            v.add("", "hostname_not_admitted", why);
        }
    });
    v.into_result()?;
    hostnames::refuse_unproven(write, gateway.tenant_id, &spec.hostnames).await?;
    ports::claim(write, &gateway, spec.cluster_id).await
}

/// Whether every listener that names a hostname names this one.
pub fn admits(gateway: &Gateway, hostname: &str) -> bool {
    let wanted = gateway.spec.listeners.iter().filter_map(|listener| listener.hostname.as_deref());
    wanted.map(grammar::hostname).all(|name| name.is_ok_and(|name| name == hostname))
}

/// The deployment's rules may have become stricter since the service was written.
fn check_upstreams(write: &Write<'_>, services: &[FrozenApiService]) -> Result<(), Problem> {
    let mut v = Violations::new();
    v.each("api_services", services, |v, service| {
        service.spec.check_upstreams(&write.call.state.upstreams, v);
    });
    Ok(v.into_result()?)
}
