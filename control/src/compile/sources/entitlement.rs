//! Subscriptions with their terms: wherever a publish is that they cover.

use imp_core::SubscriptionId;
use imp_proto::config::ResourceType;
use imp_store::compile::{self as table, Read, SubscribedTerms, Which};
use imp_store::outbox::Subject;
use imp_store::{Result, Store};

use super::super::message;
use super::super::placement::{Anchor, Place, Placed};
use super::{Source, Unplaceable};

pub(super) struct Entitlements;

impl Source for Entitlements {
    const TYPE: ResourceType = ResourceType::Entitlement;
    const SUBJECT: fn(SubscriptionId) -> Subject = Subject::Subscription;
    type Id = SubscriptionId;
    type Row = SubscribedTerms;

    async fn rows(
        store: &Store,
        which: Which<'_, SubscriptionId>,
    ) -> Result<Vec<Read<SubscriptionId, SubscribedTerms>>> {
        table::subscriptions(store, which).await
    }

    fn place(row: &SubscribedTerms) -> std::result::Result<Option<Placed>, Unplaceable> {
        let bought = &row.subscription;
        let offer = (bought.product_id, bought.environment);
        let place = Place::With(match bought.product_publish_id {
            None => Anchor::Offer(offer),
            Some(pin) => Anchor::Publish(pin, offer),
        });
        Ok(Some(Placed { place, resource: message::resource(&message::entitlement(row)) }))
    }
}
