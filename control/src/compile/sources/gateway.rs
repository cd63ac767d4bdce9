//! Gateway templates: placed in each cluster that has a publish on them.

use imp_core::GatewayId;
use imp_core::gateway::Gateway;
use imp_proto::config::ResourceType;
use imp_store::compile::{self as table, Read, Which};
use imp_store::outbox::Subject;
use imp_store::{Object as _, Result, Store};

use super::super::message;
use super::super::placement::{Anchor, Place, Placed};
use super::{Source, Unplaceable};

pub(super) struct Gateways;

impl Source for Gateways {
    const TYPE: ResourceType = ResourceType::Gateway;
    const TABLE: &'static str = imp_core::gateway::Gateway::TABLE;
    const SUBJECT: fn(GatewayId) -> Subject = Subject::Gateway;
    type Id = GatewayId;
    type Row = Gateway;

    async fn rows(
        store: &Store,
        which: Which<'_, GatewayId>,
    ) -> Result<Vec<Read<GatewayId, Gateway>>> {
        table::gateways(store, which).await
    }

    async fn places(_: &Store, ids: &[GatewayId]) -> Result<Vec<(GatewayId, Option<Place>)>> {
        Ok(ids.iter().map(|id| (*id, Some(place(*id)))).collect())
    }

    fn place(row: &Gateway) -> std::result::Result<Option<Placed>, Unplaceable> {
        Ok(Some(Placed {
            place: place(row.id),
            resource: message::resource(&message::gateway(row)?),
        }))
    }
}

fn place(id: GatewayId) -> Place {
    Place::With(Anchor::Gateway(id))
}
