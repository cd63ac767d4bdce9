//! Publishes at their desired revisions: placed in their cluster. They anchor everything else.

use imp_core::{ClusterId, GatewayId, ProductPublishId};
use imp_proto::config::ResourceType;
use imp_store::compile::places::PublishPlace;
use imp_store::compile::{self as table, DesiredPublish, Read, Which};
use imp_store::outbox::{Subject, Told};
use imp_store::{Object as _, Result, Store};
use imp_xds::MAX_RESOURCE_BYTES;

use super::super::backlog::DEAR;
use super::super::message;
use super::super::placement::{Brought, Offer, Place, Placed};
use super::{Reader, Source, Unplaceable, place_of};

pub(super) struct Publishes;

impl Source for Publishes {
    const TYPE: ResourceType = ResourceType::Publish;
    const TABLE: &'static str = imp_core::product_publish::ProductPublish::TABLE;
    const SUBJECT: fn(ProductPublishId) -> Subject = Subject::ProductPublish;
    type Id = ProductPublishId;
    type Row = DesiredPublish;

    async fn rows(
        store: &Store,
        which: Which<'_, ProductPublishId>,
    ) -> Result<Vec<Read<ProductPublishId, DesiredPublish>>> {
        table::publishes(store, which).await
    }

    async fn places(
        store: &Store,
        ids: &[ProductPublishId],
    ) -> Result<Vec<(ProductPublishId, Option<Place>)>> {
        let rows = table::places::publishes(store, Which::Ids(ids)).await?;
        let place = |it: PublishPlace| {
            let offer = (it.product_id, it.environment);
            it.status.is_served().then(|| place(it.cluster_id, it.gateway_id, offer))
        };
        Ok(rows.into_iter().map(|row| place_of(row, place)).collect())
    }

    fn place(row: &DesiredPublish) -> std::result::Result<Option<Placed>, Unplaceable> {
        if !row.status.is_served() {
            return Ok(None);
        }
        let spec = &row.spec;
        let resource = message::resource(&message::served(row)?);
        if resource.value().len() > MAX_RESOURCE_BYTES {
            return Err(Unplaceable::TooLarge(resource.value().len()));
        }
        let offer = (spec.product_id, spec.environment);
        let place = place(spec.cluster_id, spec.gateway_id, offer);
        Ok(Some(Placed { place, resource }))
    }

    fn told(reader: &mut Reader<'_>, id: ProductPublishId, row: Option<&DesiredPublish>) {
        reader.watcher.publish(id, row.map(|row| row.spec.cluster_id));
    }

    fn placed(reader: &mut Reader<'_>, row: &DesiredPublish, placed: &Placed, why: Option<&Told>) {
        if let Some(why) = why {
            reader.watcher.compiled(row.id, placed.resource.version(), why);
        }
        if placed.resource.value().len() > DEAR {
            reader.dear.push((row.id, row.tenant_id));
        }
    }
}

fn place(cluster: ClusterId, gateway: GatewayId, offer: Offer) -> Place {
    Place::Cluster(cluster, Brought { gateway, offer })
}
