//! Quotas of tenants: objects of each kind, bytes of each service and publish, a share of each
//! cluster.

use imp_core::ApiServiceId;
use imp_core::api_service::ApiServiceSpec;
use imp_core::product_publish::{FrozenApiService, ProductPublish, PublishStatus};
use imp_core::role::Kind;
use imp_grammar::caps::{self, Cap};
use imp_proto::bounds::{self, Exceeded, Share};
use imp_proto::policies::List;
use imp_store::Soon;
use imp_store::compile::DesiredPublish;
use imp_store::share::{self as table, ClusterShare};

use crate::compile::message::{self, MessageError};
use crate::entity::Stored;
use crate::operation::Transaction;
use crate::refusal::Refusal;

/// The number of objects of a kind that one tenant may have; `None` if only operators create them.
fn cap_of(kind: Kind) -> Option<&'static Cap> {
    Some(match kind {
        Kind::ApiService => &caps::SERVICES_PER_TENANT,
        Kind::Gateway => &caps::GATEWAYS_PER_TENANT,
        Kind::Product => &caps::PRODUCTS_PER_TENANT,
        Kind::Plan => &caps::PLANS_PER_TENANT,
        Kind::ProductPublish => &caps::PUBLISHES_PER_TENANT,
        Kind::Customer => &caps::CUSTOMERS_PER_TENANT,
        Kind::Subscription => &caps::SUBSCRIPTIONS_PER_TENANT,
        Kind::ClientApp => &caps::APPS_PER_TENANT,
        Kind::Consumer => &caps::CONSUMERS_PER_TENANT,
        Kind::Credential => &caps::CREDENTIALS_PER_TENANT,
        Kind::Domain => &caps::DOMAINS_PER_TENANT,
        Kind::ApiToken => &caps::API_TOKENS_PER_TENANT,
        _ => return None,
    })
}

/// The tenant's number of objects, for [`refuse_too_many`]; `None` if it is not bounded.
pub(super) type Count = Option<(&'static Cap, Soon<u64>)>;

/// Asks how many objects the tenant has, counting the new one, which must be in the transaction already.
pub(super) async fn count<E: Stored>(tx: &mut Transaction<'_>) -> Result<Count, Refusal> {
    let (Some(cap), Some(tenant)) = (cap_of(E::KIND), tx.scope.tenant()) else { return Ok(None) };
    Ok(Some((cap, table::objects(tx, tenant, E::TABLE).await?)))
}

/// Refuses if the tenant has too many objects.
pub(super) async fn refuse_too_many(tx: &mut Transaction<'_>, count: Count) -> Result<(), Refusal> {
    let Some((cap, objects)) = count else { return Ok(()) };
    if tx.now(objects).await? <= cap.value {
        return Ok(());
    }
    let detail = format!("a tenant has at most {} of these: {}", cap.value, cap.bounds);
    Err(Refusal::conflict("cap_reached", detail))
}

/// Checks that agents would accept a service of this size.
pub(super) fn check_service(spec: &ApiServiceSpec) -> Result<(), Refusal> {
    let (id, revision) = (ApiServiceId::new(), 1);
    let frozen = FrozenApiService { id, revision, spec: spec.clone() };
    let mut policies = List::default();
    let message = message::api_service(&frozen, &mut policies).map_err(not_rendered)?;
    let policies = policies.finish();
    bounds::service(&message, &policies).map_err(|exceeded| too_large(&exceeded, ""))
}

/// Whether agents of former releases refuse a service of this size. What cannot be rendered is refused when
/// the publish is measured.
pub(super) fn is_large(service: &FrozenApiService) -> bool {
    let mut policies = List::default();
    let message = message::api_service(service, &mut policies);
    message.is_ok_and(|message| bounds::is_large_service(&message, &policies.finish()))
}

/// Measures a publish with these services as agents do, in its longest form: it can be suspended
/// and get higher revisions without another check.
pub(super) fn measure(
    publish: &ProductPublish,
    services: Vec<FrozenApiService>,
) -> Result<(Share, Vec<FrozenApiService>), Refusal> {
    let longest = DesiredPublish {
        id: publish.id,
        tenant_id: publish.tenant_id,
        status: PublishStatus::Suspended,
        revision: i64::MAX,
        spec: publish.spec.clone(),
        api_services: services,
        // They have a bound of their own.
        kept_out_hosts: Vec::new(),
    };
    let message = message::publish(&longest).map_err(not_rendered)?;
    let share = bounds::publish(&message).and_then(Share::check);
    let share = share.map_err(|exceeded| too_large(&exceeded, "/api_services"))?;
    Ok((share, longest.api_services))
}

/// Records the publish's share of its cluster. Returns that of all the tenant's publishes there, for
/// [`refuse_beyond`].
pub(super) async fn take(
    tx: &mut Transaction<'_>,
    publish: &ProductPublish,
    share: Share,
) -> Result<Soon<ClusterShare>, Refusal> {
    let Share { served_bytes, regexes, .. } = share;
    let own = ClusterShare { served_bytes: served_bytes as u64, regexes: regexes as u64 };
    Ok(table::take(tx, publish, own).await?)
}

/// Refuses if the tenant has not that much of the cluster.
pub(super) async fn refuse_beyond(
    tx: &mut Transaction<'_>,
    all: Soon<ClusterShare>,
) -> Result<(), Refusal> {
    let all = tx.now(all).await?;
    for (cap, wanted) in [
        (&caps::TENANT_CLUSTER_BYTES, all.served_bytes),
        (&caps::TENANT_CLUSTER_REGEXES, all.regexes),
    ] {
        if wanted > cap.value {
            let detail = format!("{} {}", cap.bounds, cap.words());
            return Err(Refusal::conflict("cap_reached", detail).at("/cluster_id"));
        }
    }
    Ok(())
}

fn not_rendered(error: MessageError) -> Refusal {
    match error {
        MessageError::UnknownPolicy { .. } => {
            Refusal::conflict("unknown_policy_type", error.to_string())
        }
        MessageError::UnknownWord { .. } => Refusal::conflict("unknown_value", error.to_string()),
        MessageError::UnknownBackend(_)
        | MessageError::UnknownTimeZone(_)
        | MessageError::UnreadableTerms(_) => Refusal::internal(error),
    }
}

fn too_large(exceeded: &Exceeded, pointer: &str) -> Refusal {
    Refusal::TooLarge { pointer: pointer.to_owned(), detail: exceeded.to_string() }
}
