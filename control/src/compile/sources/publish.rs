//! Publishes at their desired revisions: in their cluster. They place everything else.

use imp_core::ProductPublishId;
use imp_proto::config::ResourceType;
use imp_store::compile::{self as table, DesiredPublish, Read, Which};
use imp_store::outbox::{Subject, Told};
use imp_store::{Result, Store};
use imp_xds::MAX_RESOURCE_BYTES;

use super::super::backlog::DEAR;
use super::super::message;
use super::super::placement::{Anchor, Place, Placed};
use super::{Reader, Source, Unplaceable};

pub(super) struct Publishes;

impl Source for Publishes {
    const TYPE: ResourceType = ResourceType::Publish;
    const SUBJECT: fn(ProductPublishId) -> Subject = Subject::ProductPublish;
    type Id = ProductPublishId;
    type Row = DesiredPublish;

    async fn rows(
        store: &Store,
        which: Which<'_, ProductPublishId>,
    ) -> Result<Vec<Read<ProductPublishId, DesiredPublish>>> {
        table::publishes(store, which).await
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
        let brings = vec![
            Anchor::Gateway(spec.gateway_id),
            Anchor::Offer(offer),
            Anchor::Publish(row.id, offer),
        ];
        Ok(Some(Placed { place: Place::Cluster(spec.cluster_id, brings), resource }))
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
