//! A response as a gRPC message: type, nonce and removals are encoded here, resources were encoded
//! once for all streams. Protobuf messages may be concatenated, so head and resources form one
//! message. It is created piece by piece while it is written, because lists of pieces would be
//! large while clients are filled.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};
use tonic::Status;

use crate::resource::{absent, unframed};
use crate::stream::{Entry, Response, SentResource, Variant};
use crate::wire;
use crate::{Resource, TypeRules, TypeUrl};

/// The rest of a response to write.
#[derive(Debug)]
pub(super) struct Message {
    form: Form,
    type_url: TypeUrl,
    sent: Arc<[SentResource]>,
    /// How many of its resources are done.
    done: usize,
    /// Bytes to write before the next resource.
    ready: Option<Bytes>,
    /// Re-encoded contents, in order.
    restamped: VecDeque<Bytes>,
    restamp: Option<Restamp>,
    /// Without the gRPC header.
    length: usize,
}

type Restamp = fn(&Resource, u32) -> Bytes;

/// The gRPC header: a compression flag and the message's length.
const HEAD: usize = 5;

impl Message {
    pub(super) fn new(
        variant: Variant,
        response: &Response,
        rules: &[TypeRules],
    ) -> Result<Self, Status> {
        let rules = rules.iter().find(|rules| rules.type_url == response.type_url);
        let mut message = Self {
            form: Form { variant, tells_ttl: response.tells_ttl },
            type_url: response.type_url.clone(),
            sent: response.sent.clone(),
            done: 0,
            ready: None,
            restamped: VecDeque::new(),
            restamp: rules.and_then(|rules| rules.restamp),
            length: 0,
        };
        message.restamp(response);
        message.begin(response)?;
        Ok(message)
    }

    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// Its length on the wire.
    pub(super) fn framed_len(&self) -> usize {
        HEAD + self.length
    }

    /// The next bytes of it.
    pub(super) fn next_piece(&mut self) -> Option<Cow<'_, Bytes>> {
        if let Some(ready) = self.ready.take() {
            return Some(Cow::Owned(ready));
        }
        while let Some(sent) = self.sent.get(self.done) {
            self.done += 1;
            let (form, type_url) = (self.form, &self.type_url);
            let is_restamped = is_restamped(&sent.0, self.restamp);
            let encoded = if is_restamped { self.restamped.pop_front() } else { None };
            let Some(body) = encoded.map(Cow::Owned).or_else(|| form.body(type_url, &sent.0))
            else {
                continue;
            };
            let Some(head) = form.any_head(type_url, &sent.0, body.len()) else {
                return Some(body);
            };
            self.ready = Some(body.into_owned());
            return Some(Cow::Owned(head));
        }
        None
    }

    fn restamp(&mut self, response: &Response) {
        let Some(restamp) = self.restamp else { return };
        let again = response.upserts().filter(|(_, attempt)| *attempt > 0);
        let (form, type_url) = (self.form, &self.type_url);
        let encoded = again.map(|(resource, attempt)| {
            form.restamped(type_url, resource, restamp(resource, attempt))
        });
        self.restamped = encoded.collect();
    }

    fn begin(&mut self, response: &Response) -> Result<(), Status> {
        let mut head = head(self.form.variant, response);
        self.length = head.len() - HEAD + self.bodies_len();
        let framed = u32::try_from(self.length)
            .map_err(|_| Status::resource_exhausted("a response of more than 4 GiB"))?;
        let [_, length @ ..] =
            head.first_chunk_mut::<HEAD>().ok_or_else(|| Status::internal("no head"))?;
        *length = framed.to_be_bytes();
        self.ready = Some(head.into());
        Ok(())
    }

    fn bodies_len(&self) -> usize {
        let (form, type_url) = (self.form, &self.type_url);
        let mut restamped = self.restamped.iter();
        let lengths = self.sent.iter().filter_map(|SentResource(entry)| {
            let encoded =
                is_restamped(entry, self.restamp).then(|| restamped.next().map(Bytes::len));
            let body = encoded.flatten().or_else(|| Some(form.body(type_url, entry)?.len()))?;
            Some(form.any_head(type_url, entry, body).map_or(0, |head| head.len()) + body)
        });
        lengths.sum()
    }
}

fn is_restamped(entry: &Entry, restamp: Option<Restamp>) -> bool {
    restamp.is_some() && matches!(entry, Entry::Upsert(_, 1..))
}

/// How the client expects resources.
#[derive(Clone, Copy, Debug)]
struct Form {
    variant: Variant,
    tells_ttl: bool,
}

impl Form {
    /// The bytes of one of its resources in the message, after the head.
    fn body<'a>(self, type_url: &TypeUrl, entry: &'a Entry) -> Option<Cow<'a, Bytes>> {
        match (self.variant, entry) {
            (Variant::Delta, Entry::Upsert(resource, _) | Entry::Unchanged(resource)) => {
                Some(resource.fragment(type_url, self.tells_ttl))
            }
            (Variant::StateOfTheWorld, Entry::Upsert(resource, _) | Entry::Unchanged(resource)) => {
                Some(if self.wraps(resource) {
                    Cow::Owned(unframed(resource.fragment(type_url, true).into_owned()))
                } else {
                    Cow::Borrowed(resource.value())
                })
            }
            (Variant::Delta, Entry::Heartbeat(resource)) => Some(Cow::Owned(resource.heartbeat())),
            (Variant::Delta, Entry::Absent(name)) => Some(Cow::Owned(absent(name))),
            // Only in the head, or nowhere.
            (_, Entry::Removed(_))
            | (Variant::StateOfTheWorld, Entry::Absent(_) | Entry::Heartbeat(_)) => None,
        }
    }

    /// The same with other bytes as content.
    fn restamped(self, type_url: &TypeUrl, resource: &Resource, value: Bytes) -> Bytes {
        match self.variant {
            Variant::Delta => resource.encode(type_url, value, self.tells_ttl),
            Variant::StateOfTheWorld if self.wraps(resource) => {
                unframed(resource.encode(type_url, value, true))
            }
            Variant::StateOfTheWorld => value,
        }
    }

    /// The bytes before a body of this length.
    fn any_head(self, type_url: &TypeUrl, entry: &Entry, body: usize) -> Option<Bytes> {
        let resource = match (self.variant, entry) {
            (Variant::Delta, _) => return None,
            (_, Entry::Upsert(resource, _) | Entry::Unchanged(resource)) => Some(resource),
            _ => None,
        };
        let is_wrapped = resource.is_some_and(|resource| self.wraps(resource));
        let url = if is_wrapped { wire::Resource::TYPE_URL } else { type_url.as_str() };
        Some(any_head(url, body))
    }

    /// Whether to wrap the resource: a list has no field for a TTL (R75).
    fn wraps(self, resource: &Resource) -> bool {
        self.tells_ttl && resource.ttl().is_some()
    }
}

/// The gRPC header's space, and the whole response without its resources. Encoded by hand: the
/// message's structs would need strings of their own for each client.
fn head(variant: Variant, response: &Response) -> Vec<u8> {
    let mut head = Vec::with_capacity(HEAD + response.type_url.as_str().len() + 32);
    head.extend([0; HEAD]);
    put(1, &response.version_info, &mut head);
    put(4, response.type_url.as_str(), &mut head);
    put(5, &response.nonce, &mut head);
    if variant == Variant::Delta {
        response.removals().for_each(|name| put(6, name, &mut head));
        if response.more {
            encode_key(wire::MORE, WireType::Varint, &mut head);
            encode_varint(1, &mut head);
        }
    }
    head
}

/// Appends a text field.
fn put(tag: u32, text: &str, out: &mut Vec<u8>) {
    encode_key(tag, WireType::LengthDelimited, out);
    encode_varint(text.len() as u64, out);
    out.extend_from_slice(text.as_bytes());
}

/// Everything of a `DiscoveryResponse.resources` but the bytes of the resource, which follow: all
/// streams share them, and they are too large to be copied for each.
fn any_head(url: &str, value: usize) -> Bytes {
    let mut any = Vec::with_capacity(url.len() + 32);
    put(1, url, &mut any);
    encode_key(2, WireType::LengthDelimited, &mut any);
    encode_varint(value as u64, &mut any);
    let mut head = Vec::with_capacity(any.len() + 1 + encoded_len_varint(any.len() as u64));
    encode_key(2, WireType::LengthDelimited, &mut head);
    encode_varint((any.len() + value) as u64, &mut head);
    head.append(&mut any);
    head.into()
}

#[cfg(test)]
mod tests;
