//! Entitlements, made of subscriptions and their terms: placed with every publish that they cover.

use imp_core::{ProductPublishId, SubscriptionId};
use imp_proto::config::ResourceType;
use imp_store::compile::places::SubscriptionPlace;
use imp_store::compile::{self as table, Read, SubscribedTerms, Which};
use imp_store::outbox::Subject;
use imp_store::{Object as _, Result, Store};

use super::super::message;
use super::super::placement::{Anchor, Offer, Place, Placed};
use super::{Source, Unplaceable, place_of};

pub(super) struct Entitlements;

impl Source for Entitlements {
    const TYPE: ResourceType = ResourceType::Entitlement;
    const TABLE: &'static str = imp_core::subscription::Subscription::TABLE;
    const SUBJECT: fn(SubscriptionId) -> Subject = Subject::Subscription;
    type Id = SubscriptionId;
    type Row = SubscribedTerms;

    async fn rows(
        store: &Store,
        which: Which<'_, SubscriptionId>,
    ) -> Result<Vec<Read<SubscriptionId, SubscribedTerms>>> {
        table::subscriptions(store, which).await
    }

    async fn places(
        store: &Store,
        ids: &[SubscriptionId],
    ) -> Result<Vec<(SubscriptionId, Option<Place>)>> {
        let rows = table::places::subscriptions(store, Which::Ids(ids)).await?;
        let place = |it: SubscriptionPlace| {
            Some(place((it.product_id, it.environment), it.product_publish_id))
        };
        Ok(rows.into_iter().map(|row| place_of(row, place)).collect())
    }

    fn place(row: &SubscribedTerms) -> std::result::Result<Option<Placed>, Unplaceable> {
        let bought = &row.subscription;
        let offer = (bought.product_id, bought.environment);
        let place = place(offer, bought.product_publish_id);
        let entitlement = message::entitlement(row, imp_process::clock::now())?;
        Ok(Some(Placed { place, resource: message::resource(&entitlement) }))
    }
}

fn place(offer: Offer, pin: Option<ProductPublishId>) -> Place {
    Place::With(match pin {
        None => Anchor::Offer(offer),
        Some(pin) => Anchor::Publish(pin, offer),
    })
}
