//! Credentials: placed with their subscription.

use imp_core::{CredentialId, SubscriptionId};
use imp_proto::config::ResourceType;
use imp_store::compile::{self as table, IssuedCredential, Read, Which};
use imp_store::outbox::Subject;
use imp_store::{Object as _, Result, Store};

use super::super::message;
use super::super::placement::{Key, Place, Placed};
use super::{Source, Unplaceable, place_of};

pub(super) struct Credentials;

impl Source for Credentials {
    const TYPE: ResourceType = ResourceType::Credential;
    const TABLE: &'static str = imp_core::credential::Credential::TABLE;
    const SUBJECT: fn(CredentialId) -> Subject = Subject::Credential;
    type Id = CredentialId;
    type Row = IssuedCredential;

    async fn rows(
        store: &Store,
        which: Which<'_, CredentialId>,
    ) -> Result<Vec<Read<CredentialId, IssuedCredential>>> {
        table::credentials(store, which).await
    }

    async fn places(
        store: &Store,
        ids: &[CredentialId],
    ) -> Result<Vec<(CredentialId, Option<Place>)>> {
        let rows = table::places::credentials(store, Which::Ids(ids)).await?;
        Ok(rows.into_iter().map(|row| place_of(row, |leader| Some(place(leader)))).collect())
    }

    fn place(row: &IssuedCredential) -> std::result::Result<Option<Placed>, Unplaceable> {
        let place = place(row.subscription_id);
        Ok(Some(Placed { place, resource: message::resource(&message::credential(row)) }))
    }
}

fn place(leader: SubscriptionId) -> Place {
    Place::Follows(Key::new(ResourceType::Entitlement, leader))
}
