//! A response as a message of gRPC: type, nonce and removals encoded here, resources as they were
//! encoded once. Protobuf messages may be concatenated, so head and resources are one message.

use bytes::{BufMut as _, Bytes};
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};
use tonic::Status;

use super::outgoing::Outgoing;
use crate::resource::absent;
use crate::stream::{Response, Variant};
use crate::wire::{DeltaDiscoveryResponse, DiscoveryResponse};
use crate::{TypeRules, TypeUrl};

/// Appends the response; how many bytes it has.
pub(super) fn write(
    variant: Variant,
    response: &Response,
    rules: &[TypeRules],
    out: &mut Outgoing,
) -> Result<usize, Status> {
    let bodies = bodies(variant, response, rules);
    match variant {
        Variant::Delta => append(&delta_head(response), bodies, out),
        Variant::StateOfTheWorld => append(&list_head(response), bodies, out),
    }
}

/// Behind gRPC's own head: not compressed, so long.
fn append(
    head: &impl prost::Message,
    bodies: Vec<Bytes>,
    out: &mut Outgoing,
) -> Result<usize, Status> {
    let length = head.encoded_len() + bodies.iter().map(Bytes::len).sum::<usize>();
    let framed = u32::try_from(length)
        .map_err(|_| Status::resource_exhausted("a response of more than 4 GiB"))?;
    let mut bytes = Vec::with_capacity(5 + head.encoded_len());
    bytes.put_u8(0);
    bytes.put_u32(framed);
    head.encode(&mut bytes).map_err(|error| Status::internal(error.to_string()))?;
    out.push(bytes.into());
    bodies.into_iter().for_each(|body| out.push(body));
    Ok(length)
}

/// The resources, shared by all streams.
fn bodies(variant: Variant, response: &Response, rules: &[TypeRules]) -> Vec<Bytes> {
    let restamp = rules.iter().find(|r| r.type_url == response.type_url).and_then(|r| r.restamp);
    match variant {
        Variant::Delta => {
            let upserts = response.upserts.iter().map(|(resource, attempt)| match restamp {
                Some(restamp) if *attempt > 0 => {
                    resource.encode(&response.type_url, restamp(resource, *attempt))
                }
                _ => resource.fragment(&response.type_url),
            });
            upserts.chain(response.absent.iter().map(|name| absent(name))).collect()
        }
        Variant::StateOfTheWorld => {
            let changed = response.upserts.iter().map(|(resource, attempt)| match restamp {
                Some(restamp) if *attempt > 0 => restamp(resource, *attempt),
                _ => resource.value().clone(),
            });
            let unchanged = response.unchanged.iter().map(|resource| resource.value().clone());
            let values = changed.chain(unchanged);
            values.flat_map(|value| [any_head(&response.type_url, value.len()), value]).collect()
        }
    }
}

fn delta_head(response: &Response) -> DeltaDiscoveryResponse {
    DeltaDiscoveryResponse {
        type_url: response.type_url.to_string(),
        nonce: response.nonce.clone(),
        removed_resources: response.removals.iter().map(ToString::to_string).collect(),
        ..Default::default()
    }
}

fn list_head(response: &Response) -> DiscoveryResponse {
    DiscoveryResponse {
        version_info: response.version_info.clone(),
        type_url: response.type_url.to_string(),
        nonce: response.nonce.clone(),
        ..Default::default()
    }
}

/// Everything of a `DiscoveryResponse.resources` but the bytes of the resource, which follow: they are
/// shared by all streams, and too large to be copied for each.
fn any_head(type_url: &TypeUrl, value: usize) -> Bytes {
    let url = type_url.as_str();
    let mut any = Vec::with_capacity(url.len() + 32);
    encode_key(1, WireType::LengthDelimited, &mut any);
    encode_varint(url.len() as u64, &mut any);
    any.extend_from_slice(url.as_bytes());
    encode_key(2, WireType::LengthDelimited, &mut any);
    encode_varint(value as u64, &mut any);
    let mut head = Vec::with_capacity(any.len() + 1 + encoded_len_varint(any.len() as u64));
    encode_key(2, WireType::LengthDelimited, &mut head);
    encode_varint((any.len() + value) as u64, &mut head);
    head.append(&mut any);
    head.into()
}
