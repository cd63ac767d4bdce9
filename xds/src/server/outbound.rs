//! A response as bytes: type, nonce and removals encoded here, resources as they were encoded once.

use bytes::Bytes;
use prost::Message as _;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};

use crate::codec::Frame;
use crate::resource::absent;
use crate::stream::{Response, Variant};
use crate::wire::{DeltaDiscoveryResponse, DiscoveryResponse};
use crate::{TypeRules, TypeUrl};

pub(super) fn frame(variant: Variant, response: &Response, rules: &[TypeRules]) -> Frame {
    let restamp = rules.iter().find(|r| r.type_url == response.type_url).and_then(|r| r.restamp);
    match variant {
        Variant::Delta => {
            let bodies = response.upserts.iter().map(|(resource, attempt)| match restamp {
                Some(restamp) if *attempt > 0 => {
                    resource.encode(&response.type_url, restamp(resource, *attempt))
                }
                _ => resource.fragment(&response.type_url),
            });
            let absent = response.absent.iter().map(|name| absent(name));
            let pieces = std::iter::once(delta_head(response)).chain(bodies).chain(absent);
            Frame { pieces: pieces.collect() }
        }
        Variant::StateOfTheWorld => {
            let changed = response.upserts.iter().map(|(resource, attempt)| match restamp {
                Some(restamp) if *attempt > 0 => restamp(resource, *attempt),
                _ => resource.value().clone(),
            });
            let unchanged = response.unchanged.iter().map(|resource| resource.value().clone());
            let bodies = changed
                .chain(unchanged)
                .flat_map(|value| [any_head(&response.type_url, value.len()), value]);
            Frame { pieces: std::iter::once(list_head(response)).chain(bodies).collect() }
        }
    }
}

fn delta_head(response: &Response) -> Bytes {
    let head = DeltaDiscoveryResponse {
        type_url: response.type_url.to_string(),
        nonce: response.nonce.clone(),
        removed_resources: response.removals.iter().map(ToString::to_string).collect(),
        ..Default::default()
    };
    head.encode_to_vec().into()
}

fn list_head(response: &Response) -> Bytes {
    let head = DiscoveryResponse {
        version_info: response.version_info.clone(),
        type_url: response.type_url.to_string(),
        nonce: response.nonce.clone(),
        ..Default::default()
    };
    head.encode_to_vec().into()
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
