//! What is sent, and what of it is remembered until it is answered.

use std::sync::Arc;

use crate::{Resource, TypeUrl};

/// A response to be sent.
#[derive(Debug)]
pub struct Response {
    /// Of which type.
    pub type_url: TypeUrl,
    /// Unique on the stream (R30).
    pub nonce: String,
    /// What the resource set holds of the type: `version_info` of the state of the world, and
    /// `system_version_info` over delta. Equal for equal content, after a restart and on another replica
    /// too (R40, R55).
    pub version_info: String,
    /// Everything in it.
    pub sent: Arc<[SentResource]>,
    /// More of the first answer to a client that wants everything follows (R93).
    pub more: bool,
    /// The client knows of TTLs.
    pub(crate) tells_ttl: bool,
}

impl Response {
    /// New or changed, each with the attempt to restamp it with (0: as it is).
    pub fn upserts(&self) -> impl Iterator<Item = (&Resource, u32)> {
        self.sent.iter().filter_map(|sent| match &sent.0 {
            Entry::Upsert(resource, attempt) => Some((resource, *attempt)),
            _ => None,
        })
    }

    /// What belongs to it without having changed.
    pub fn unchanged(&self) -> impl Iterator<Item = &Resource> {
        self.sent.iter().filter_map(|sent| match &sent.0 {
            Entry::Unchanged(resource) => Some(resource),
            _ => None,
        })
    }

    /// What still counts, said without the content (R75).
    pub fn heartbeats(&self) -> impl Iterator<Item = &Resource> {
        self.sent.iter().filter_map(|sent| match &sent.0 {
            Entry::Heartbeat(resource) => Some(resource),
            _ => None,
        })
    }

    /// Missing, and said so by a resource without content.
    pub fn absent(&self) -> impl Iterator<Item = &Arc<str>> {
        self.sent.iter().filter_map(|sent| match &sent.0 {
            Entry::Absent(name) => Some(&**name),
            _ => None,
        })
    }

    /// Gone or missing.
    pub fn removals(&self) -> impl Iterator<Item = &Arc<str>> {
        self.sent.iter().filter_map(|sent| match &sent.0 {
            Entry::Removed(name) => Some(&**name),
            _ => None,
        })
    }
}

/// A resource of a response, by name and version. Cheap to clone.
#[derive(Clone, Debug)]
pub struct SentResource(pub(crate) Entry);

/// One place of a response. There are many of them while clients are filled, so they are small: what
/// is not there is rare, and its name stands elsewhere.
#[derive(Clone, Debug)]
pub(crate) enum Entry {
    Upsert(Resource, u32),
    Unchanged(Resource),
    Heartbeat(Resource),
    Absent(Box<Arc<str>>),
    Removed(Box<Arc<str>>),
}

const _: () = assert!(size_of::<Entry>() == 16);

impl SentResource {
    /// Its name.
    pub fn name(&self) -> &Arc<str> {
        match &self.0 {
            Entry::Absent(name) | Entry::Removed(name) => name,
            Entry::Upsert(resource, _)
            | Entry::Unchanged(resource)
            | Entry::Heartbeat(resource) => resource.name(),
        }
    }

    /// None: it was removed, or is not there.
    pub fn version(&self) -> Option<&Arc<str>> {
        self.resource().map(Resource::version)
    }

    /// It was not sent, only said to count still (R75).
    pub fn is_heartbeat(&self) -> bool {
        matches!(self.0, Entry::Heartbeat(_))
    }

    pub(crate) fn resource(&self) -> Option<&Resource> {
        match &self.0 {
            Entry::Upsert(resource, _)
            | Entry::Unchanged(resource)
            | Entry::Heartbeat(resource) => Some(resource),
            Entry::Absent(_) | Entry::Removed(_) => None,
        }
    }
}

impl PartialEq for SentResource {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name() && self.version() == other.version()
    }
}

impl Eq for SentResource {}
