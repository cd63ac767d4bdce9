//! The bytes around the content of a resource. Written by hand into a buffer that is used again and
//! again: they differ among clients and are cheaper to write than to keep.

use bytes::BufMut as _;
use prost::Message as _;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};

use crate::wire;
use crate::{Resource, TypeUrl};

/// Fields of `Resource`.
const VERSION: u32 = 1;
const CONTENT: u32 = 2;
const NAME: u32 = 3;
const ALIASES: u32 = 4;
const TTL: u32 = 6;
const METADATA: u32 = 9;

/// Fields of `Any`.
const TYPE_URL: u32 = 1;
const VALUE: u32 = 2;

/// The field of a response with its resources, in both protocols.
const RESOURCES: u32 = 2;

/// What a client is told of resources.
#[derive(Clone, Copy, Debug)]
pub(super) struct Envelope<'a> {
    pub(super) type_url: &'a TypeUrl,
    pub(super) tells_ttl: bool,
}

/// Keys of all these fields have one byte.
const KEY: usize = 1;

fn framed(length: usize) -> usize {
    KEY + encoded_len_varint(length as u64) + length
}

fn put_frame(tag: u32, length: usize, out: &mut Vec<u8>) {
    encode_key(tag, WireType::LengthDelimited, out);
    encode_varint(length as u64, out);
}

fn put_text(tag: u32, text: &str, out: &mut Vec<u8>) {
    put_frame(tag, text.len(), out);
    out.put_slice(text.as_bytes());
}

fn put_message(tag: u32, message: &impl prost::Message, out: &mut Vec<u8>) {
    put_frame(tag, message.encoded_len(), out);
    // A vector has space for everything.
    let _fits = message.encode(out);
}

/// The length of an `Any` with a value of this length.
fn any_len(url: &str, value: usize) -> usize {
    framed(url.len()) + framed(value)
}

/// Everything of an `Any` but the value.
fn put_any(url: &str, value: usize, out: &mut Vec<u8>) {
    put_text(TYPE_URL, url, out);
    put_frame(VALUE, value, out);
}

impl Envelope<'_> {
    /// Writes everything of a resource in a delta response but its content, which follows.
    pub(super) fn put_delta(self, resource: &Resource, value: usize, out: &mut Vec<u8>) {
        put_frame(RESOURCES, self.resource_len(resource, value), out);
        self.put_resource(resource, value, out);
    }

    /// The length of a resource in a delta response, with a content of this length.
    pub(super) fn delta_len(self, resource: &Resource, value: usize) -> usize {
        framed(self.resource_len(resource, value))
    }

    /// The same in a list, where only a resource with a TTL is wrapped: there is no field for it
    /// (R75).
    pub(super) fn put_list(self, resource: &Resource, value: usize, out: &mut Vec<u8>) {
        if self.wraps(resource) {
            let length = self.resource_len(resource, value);
            put_frame(RESOURCES, any_len(wire::Resource::TYPE_URL, length), out);
            put_any(wire::Resource::TYPE_URL, length, out);
            self.put_resource(resource, value, out);
        } else {
            put_frame(RESOURCES, any_len(self.type_url.as_str(), value), out);
            put_any(self.type_url.as_str(), value, out);
        }
    }

    pub(super) fn list_len(self, resource: &Resource, value: usize) -> usize {
        framed(if self.wraps(resource) {
            any_len(wire::Resource::TYPE_URL, self.resource_len(resource, value))
        } else {
            any_len(self.type_url.as_str(), value)
        })
    }

    fn wraps(self, resource: &Resource) -> bool {
        self.tells_ttl && resource.ttl().is_some()
    }

    fn ttl(self, resource: &Resource) -> Option<wire::Duration> {
        resource.ttl().filter(|_| self.tells_ttl).map(Into::into)
    }

    fn put_resource(self, resource: &Resource, value: usize, out: &mut Vec<u8>) {
        put_text(VERSION, resource.version(), out);
        put_text(NAME, resource.name(), out);
        resource.aliases().iter().for_each(|alias| put_text(ALIASES, alias, out));
        if let Some(ttl) = self.ttl(resource) {
            put_message(TTL, &ttl, out);
        }
        if let Some(metadata) = resource.encoded_metadata() {
            put_frame(METADATA, metadata.len(), out);
            out.put_slice(metadata);
        }
        put_frame(CONTENT, any_len(self.type_url.as_str(), value), out);
        put_any(self.type_url.as_str(), value, out);
    }

    fn resource_len(self, resource: &Resource, value: usize) -> usize {
        let aliases: usize = resource.aliases().iter().map(|alias| framed(alias.len())).sum();
        let ttl = self.ttl(resource).map_or(0, |ttl| framed(ttl.encoded_len()));
        let metadata = resource.encoded_metadata().map_or(0, |encoded| framed(encoded.len()));
        let names = framed(resource.version().len()) + framed(resource.name().len());
        names + aliases + ttl + metadata + framed(any_len(self.type_url.as_str(), value))
    }
}

/// A heartbeat for this version, in a delta response.
pub(super) fn heartbeat(resource: &Resource) -> wire::Resource {
    wire::Resource {
        name: resource.name().to_string(),
        version: resource.version().to_string(),
        ttl: resource.ttl().map(Into::into),
        ..Default::default()
    }
}

/// A resource without content, which says that there is none of this name (R70).
pub(super) fn absent(name: &str) -> wire::Resource {
    let (name, aliases) = (name.to_owned(), vec![name.to_owned()]);
    wire::Resource { name, aliases, ..Default::default() }
}

/// Writes a whole resource of a delta response.
pub(super) fn put_whole(resource: &wire::Resource, out: &mut Vec<u8>) {
    put_message(RESOURCES, resource, out);
}

pub(super) fn whole_len(resource: &wire::Resource) -> usize {
    framed(resource.encoded_len())
}

/// Appends a text field of a response.
pub(super) fn put(tag: u32, text: &str, out: &mut Vec<u8>) {
    put_text(tag, text, out);
}
