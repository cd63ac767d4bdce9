//! A response as a gRPC message. It is created piece by piece while it is written, because lists of
//! pieces would be large while clients are filled; the contents of resources are written from the
//! bytes that all streams share.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use prost::encoding::{WireType, encode_key, encode_varint};
use tonic::Status;

use super::envelope::{Envelope, absent, heartbeat, put, put_whole, whole_len};
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
    /// What comes next of the current one.
    next: Next,
    /// The head of the response or of the current resource.
    head: Vec<u8>,
    /// Other contents of resources, in order.
    restamped: VecDeque<Bytes>,
    restamp: Option<Restamp>,
    /// Without the gRPC header.
    length: usize,
}

#[derive(Clone, Copy, Debug)]
enum Next {
    /// The head of the response.
    Begin,
    Head,
    Content,
}

/// The next bytes of a response.
pub(super) enum Piece<'a> {
    Head(&'a [u8]),
    Content(&'a Bytes),
    /// Of a resource that was rejected before.
    Restamped(Bytes),
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
            next: Next::Begin,
            head: Vec::new(),
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
    pub(super) fn next_piece(&mut self) -> Option<Piece<'_>> {
        if matches!(self.next, Next::Begin) {
            self.next = Next::Head;
            return Some(Piece::Head(&self.head));
        }
        if matches!(self.next, Next::Head) {
            // Some have no bytes of their own.
            while self.put_head().is_none() {
                self.done += 1;
            }
            self.next = Next::Content;
            return if self.head.is_empty() { None } else { Some(Piece::Head(&self.head)) };
        }
        self.next = Next::Head;
        self.done += 1;
        let SentResource(entry) = self.sent.get(self.done - 1)?;
        if is_restamped(entry, self.restamp) {
            return self.restamped.pop_front().map(Piece::Restamped);
        }
        Some(content(entry).map_or(Piece::Head(&[]), Piece::Content))
    }

    /// Writes the head of the current resource, or nothing at the end.
    fn put_head(&mut self) -> Option<()> {
        self.head.clear();
        let Some(SentResource(entry)) = self.sent.get(self.done) else { return Some(()) };
        let restamped =
            if is_restamped(entry, self.restamp) { self.restamped.front() } else { None };
        let envelope = Envelope { type_url: &self.type_url, tells_ttl: self.form.tells_ttl };
        self.form.put_head(envelope, entry, restamped.map(Bytes::len), &mut self.head);
        (!self.head.is_empty()).then_some(())
    }

    fn restamp(&mut self, response: &Response) {
        let Some(restamp) = self.restamp else { return };
        let again = response.upserts().filter(|(_, attempt)| *attempt > 0);
        self.restamped = again.map(|(resource, attempt)| restamp(resource, attempt)).collect();
    }

    fn begin(&mut self, response: &Response) -> Result<(), Status> {
        self.head = head(self.form.variant, response);
        self.length = self.head.len() - HEAD + self.resources_len();
        let framed = u32::try_from(self.length)
            .map_err(|_| Status::resource_exhausted("a response of more than 4 GiB"))?;
        let [_, length @ ..] =
            self.head.first_chunk_mut::<HEAD>().ok_or_else(|| Status::internal("no head"))?;
        *length = framed.to_be_bytes();
        Ok(())
    }

    fn resources_len(&self) -> usize {
        let envelope = Envelope { type_url: &self.type_url, tells_ttl: self.form.tells_ttl };
        let mut restamped = self.restamped.iter();
        let lengths = self.sent.iter().map(|SentResource(entry)| {
            let is_restamped = is_restamped(entry, self.restamp);
            let value = if is_restamped { restamped.next().map(Bytes::len) } else { None };
            self.form.len(envelope, entry, value)
        });
        lengths.sum()
    }
}

fn is_restamped(entry: &Entry, restamp: Option<Restamp>) -> bool {
    restamp.is_some() && matches!(entry, Entry::Upsert(_, 1..))
}

/// The content that follows the head.
fn content(entry: &Entry) -> Option<&Bytes> {
    match entry {
        Entry::Upsert(resource, _) | Entry::Unchanged(resource) => Some(resource.value()),
        Entry::Heartbeat(_) | Entry::Absent(_) | Entry::Removed(_) => None,
    }
}

/// How the client expects resources.
#[derive(Clone, Copy, Debug)]
struct Form {
    variant: Variant,
    tells_ttl: bool,
}

impl Form {
    /// Writes what comes before the content, which is as long as that of the resource unless
    /// another length is given. A list cannot express what is missing, and needs no heartbeats.
    fn put_head(
        self,
        envelope: Envelope<'_>,
        entry: &Entry,
        value: Option<usize>,
        out: &mut Vec<u8>,
    ) {
        match (self.variant, entry) {
            (variant, Entry::Upsert(resource, _) | Entry::Unchanged(resource)) => {
                let value = value.unwrap_or(resource.value().len());
                match variant {
                    Variant::Delta => envelope.put_delta(resource, value, out),
                    Variant::StateOfTheWorld => envelope.put_list(resource, value, out),
                }
            }
            (Variant::Delta, Entry::Heartbeat(resource)) => put_whole(&heartbeat(resource), out),
            (Variant::Delta, Entry::Absent(name)) => put_whole(&absent(name), out),
            _ => {} // only in the head of the response, or nowhere
        }
    }

    /// The length of that with the content.
    fn len(self, envelope: Envelope<'_>, entry: &Entry, value: Option<usize>) -> usize {
        match (self.variant, entry) {
            (variant, Entry::Upsert(resource, _) | Entry::Unchanged(resource)) => {
                let value = value.unwrap_or(resource.value().len());
                match variant {
                    Variant::Delta => envelope.delta_len(resource, value),
                    Variant::StateOfTheWorld => envelope.list_len(resource, value),
                }
            }
            (Variant::Delta, Entry::Heartbeat(resource)) => whole_len(&heartbeat(resource)),
            (Variant::Delta, Entry::Absent(name)) => whole_len(&absent(name)),
            _ => 0,
        }
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

#[cfg(test)]
mod tests;
