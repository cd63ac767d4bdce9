//! Keys: wherever the subscription is that they act under.

use imp_core::CredentialId;
use imp_proto::config::ResourceType;
use imp_store::compile::{self as table, IssuedCredential, Read, Which};
use imp_store::outbox::Subject;
use imp_store::{Result, Store};

use super::super::message;
use super::super::placement::{Key, Place, Placed};
use super::{Source, Unplaceable};

pub(super) struct Credentials;

impl Source for Credentials {
    const TYPE: ResourceType = ResourceType::Credential;
    const SUBJECT: fn(CredentialId) -> Subject = Subject::Credential;
    type Id = CredentialId;
    type Row = IssuedCredential;

    async fn rows(
        store: &Store,
        which: Which<'_, CredentialId>,
    ) -> Result<Vec<Read<CredentialId, IssuedCredential>>> {
        table::credentials(store, which).await
    }

    fn place(row: &IssuedCredential) -> std::result::Result<Option<Placed>, Unplaceable> {
        let place = Place::Follows(Key::new(ResourceType::Entitlement, row.subscription_id));
        Ok(Some(Placed { place, resource: message::resource(&message::credential(row)) }))
    }
}
