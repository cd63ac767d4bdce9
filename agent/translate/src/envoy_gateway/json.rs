//! Envoy's messages as JSON. Their Rust types have none, so it is written by descriptors, with the types inside
//! of an `Any` expanded.

use std::sync::LazyLock;

use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use serde_json::Value;
use thiserror::Error;

/// Written by the example `descriptors`.
static DESCRIPTORS: &[u8] = include_bytes!("descriptors.bin");

static POOL: LazyLock<Result<DescriptorPool, String>> =
    LazyLock::new(|| DescriptorPool::decode(DESCRIPTORS).map_err(|error| error.to_string()));

/// A message that cannot be written as JSON: the descriptors lack a type.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{message} cannot be written as JSON: {why}")]
pub struct NoJson {
    message: String,
    why: String,
}

/// The message as JSON, with the names of fields as in the `.proto` files.
pub(super) fn to_json<M: prost::Name>(message: &M) -> Result<Value, NoJson> {
    let failed =
        |why: &dyn std::fmt::Display| NoJson { message: M::full_name(), why: why.to_string() };
    let pool = POOL.as_ref().map_err(|why| failed(why))?;
    let descriptor = pool.get_message_by_name(&M::full_name());
    let descriptor = descriptor.ok_or_else(|| failed(&"the type is unknown"))?;
    let dynamic = DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice())
        .map_err(|error| failed(&error))?;
    let options = SerializeOptions::new().use_proto_field_name(true);
    dynamic
        .serialize_with_options(serde_json::value::Serializer, &options)
        .map_err(|error| failed(&error))
}

#[cfg(test)]
pub(super) fn from_json<M: prost::Name + Default>(json: &Value) -> Result<M, String> {
    let pool = POOL.as_ref().map_err(Clone::clone)?;
    let descriptor = pool.get_message_by_name(&M::full_name()).ok_or("the type is unknown")?;
    let text = json.to_string();
    let mut reader = serde_json::Deserializer::from_str(&text);
    let dynamic =
        DynamicMessage::deserialize(descriptor, &mut reader).map_err(|error| error.to_string())?;
    use prost::Message as _;
    M::decode(dynamic.encode_to_vec().as_slice()).map_err(|error| error.to_string())
}
