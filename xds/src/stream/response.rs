//! Responses, and the part of them that is kept until they are answered.

use std::sync::Arc;

use crate::{Resource, TypeUrl};

/// A response to be sent.
#[derive(Debug)]
pub struct Response {
    pub type_url: TypeUrl,
    /// Unique on the stream (R30).
    pub nonce: String,
    /// The version of the type's content in the resource set: `version_info` of the state of the
    /// world, and `system_version_info` over delta. Equal for equal content, also after a restart
    /// and on another replica (R40, R55).
    pub version_info: String,
    /// The content.
    pub sent: Arc<[SentResource]>,
    /// Whether the first answer to a wildcard client continues in the next response (R93).
    pub more: bool,
    /// Whether the client supports TTLs.
    pub(crate) tells_ttl: bool,
}

impl Response {
    /// New or changed resources, each with the attempt to restamp it with (0 for unchanged bytes).
    pub fn upserts(&self) -> impl Iterator<Item = (&Resource, u32)> {
        self.sent.iter().filter_map(|sent| match &sent.0 {
            Entry::Upsert(resource, attempt) => Some((resource, *attempt)),
            _ => None,
        })
    }

    /// Unchanged resources that belong to the response.
    pub fn unchanged(&self) -> impl Iterator<Item = &Resource> {
        self.sent.iter().filter_map(|sent| match &sent.0 {
            Entry::Unchanged(resource) => Some(resource),
            _ => None,
        })
    }

    /// Heartbeats, without content (R75).
    pub fn heartbeats(&self) -> impl Iterator<Item = &Resource> {
        self.sent.iter().filter_map(|sent| match &sent.0 {
            Entry::Heartbeat(resource) => Some(resource),
            _ => None,
        })
    }

    /// Missing names, expressed by a resource without content.
    pub fn absent(&self) -> impl Iterator<Item = &Arc<str>> {
        self.sent.iter().filter_map(|sent| match &sent.0 {
            Entry::Absent(name) => Some(&**name),
            _ => None,
        })
    }

    /// Removed or missing names.
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

/// One entry of a response. There are many while clients are filled, so entries are small: removals
/// are rare, and their names are stored elsewhere.
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
    pub fn name(&self) -> &Arc<str> {
        match &self.0 {
            Entry::Absent(name) | Entry::Removed(name) => name,
            Entry::Upsert(resource, _)
            | Entry::Unchanged(resource)
            | Entry::Heartbeat(resource) => resource.name(),
        }
    }

    /// `None` if it was removed or does not exist.
    pub fn version(&self) -> Option<&Arc<str>> {
        self.resource().map(Resource::version)
    }

    /// Whether only a heartbeat was sent (R75).
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
