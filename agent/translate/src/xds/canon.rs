//! Canonical encoding. A resource's version is a hash of its bytes, so equal input must give equal
//! bytes after a restart. Protobuf's only freedom here is the order of map entries, and envoy-types
//! uses `HashMap` for maps: so each of our maps has at most one entry, or is encoded with the
//! ordered messages below.

use std::collections::BTreeMap;

use envoy_types::pb::envoy::config::accesslog::v3::AccessLogFilter;
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::google::protobuf::{Any, BoolValue, Duration, UInt32Value};
use prost::{Message, Name};
use sha2::{Digest, Sha256};

/// 96 bits: enough to rule out collisions, short enough for logs.
pub(super) fn hash(bytes: &[u8]) -> String {
    let digest: [u8; 32] = Sha256::digest(bytes).into();
    hex::encode(digest.split_at(12).0)
}

pub(crate) fn any<M: Name>(message: &M) -> Any {
    Any { type_url: M::type_url(), value: message.encode_to_vec() }
}

pub(super) fn extension<M: Name>(name: &str, message: &M) -> core::TypedExtensionConfig {
    core::TypedExtensionConfig { name: name.to_owned(), typed_config: Some(any(message)) }
}

pub(crate) fn milliseconds(milliseconds: u32) -> Option<Duration> {
    let nanos = i32::try_from((milliseconds % 1000) * 1_000_000).unwrap_or_default();
    Some(Duration { seconds: i64::from(milliseconds / 1000), nanos })
}

pub(crate) fn uint(value: u32) -> Option<UInt32Value> {
    Some(UInt32Value { value })
}

pub(crate) fn truth(value: bool) -> Option<BoolValue> {
    Some(BoolValue { value })
}

pub(super) fn inline(text: &str) -> core::DataSource {
    use core::data_source::Specifier;
    core::DataSource {
        specifier: Some(Specifier::InlineString(text.to_owned())),
        ..Default::default()
    }
}

pub(super) fn socket_address(address: String, port: u16) -> core::Address {
    use core::socket_address::PortSpecifier::PortValue;
    core::Address {
        address: Some(core::address::Address::SocketAddress(core::SocketAddress {
            address,
            port_specifier: Some(PortValue(port.into())),
            ..Default::default()
        })),
    }
}

pub(super) fn ads() -> Option<core::ConfigSource> {
    use core::config_source::ConfigSourceSpecifier::Ads;
    Some(core::ConfigSource {
        resource_api_version: core::ApiVersion::V3.into(),
        config_source_specifier: Some(Ads(core::AggregatedConfigSource {})),
        ..Default::default()
    })
}

/// The agent by a stream of its own for each type and slot, for an Envoy whose aggregated stream is somebody
/// else's. What waits for it waits no longer than this.
pub(super) fn agent(cluster: &str, at_most: Option<Duration>) -> Option<core::ConfigSource> {
    use core::config_source::ConfigSourceSpecifier::ApiConfigSource;
    let retries = core::RetryPolicy {
        retry_back_off: Some(core::BackoffStrategy {
            base_interval: milliseconds(50),
            max_interval: milliseconds(1_000),
        }),
        ..Default::default()
    };
    let service = core::GrpcService {
        target_specifier: Some(core::grpc_service::TargetSpecifier::EnvoyGrpc(
            core::grpc_service::EnvoyGrpc {
                cluster_name: cluster.to_owned(),
                retry_policy: Some(retries),
                ..Default::default()
            },
        )),
        ..Default::default()
    };
    Some(core::ConfigSource {
        resource_api_version: core::ApiVersion::V3.into(),
        initial_fetch_timeout: at_most,
        config_source_specifier: Some(ApiConfigSource(core::ApiConfigSource {
            api_type: core::api_config_source::ApiType::DeltaGrpc.into(),
            transport_api_version: core::ApiVersion::V3.into(),
            set_node_on_first_message_only: true,
            grpc_services: vec![service],
            ..Default::default()
        })),
        ..Default::default()
    })
}

pub(super) fn header(
    key: &str,
    value: &str,
    action: core::header_value_option::HeaderAppendAction,
) -> core::HeaderValueOption {
    core::HeaderValueOption {
        header: Some(core::HeaderValue {
            key: key.to_owned(),
            value: value.to_owned(),
            ..Default::default()
        }),
        append_action: action.into(),
        ..Default::default()
    }
}

/// `envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute` with its map in order.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ExtAuthzPerRoute {
    #[prost(message, optional, tag = "2")]
    pub(super) check_settings: Option<CheckSettings>,
}

/// `envoy.extensions.filters.http.ext_authz.v3.CheckSettings` with its map in order.
#[derive(Clone, PartialEq, Message)]
pub(super) struct CheckSettings {
    #[prost(btree_map = "string, string", tag = "1")]
    pub(super) context_extensions: BTreeMap<String, String>,
}

/// The field `metadata` of a `Route`; encoded behind the rest.
#[derive(Clone, PartialEq, Message)]
pub(super) struct WithMetadata {
    #[prost(message, optional, tag = "4")]
    pub(super) metadata: Option<Metadata>,
}

/// `envoy.config.core.v3.Metadata` with its maps in order.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Metadata {
    #[prost(btree_map = "string, message", tag = "1")]
    pub(super) filter_metadata: BTreeMap<String, Fields>,
}

/// The field `local_reply_config` of an `HttpConnectionManager`. Protobuf merges concatenated
/// messages, so this is encoded behind the rest.
#[derive(Clone, PartialEq, Message)]
pub(super) struct LocalReplies {
    #[prost(message, optional, tag = "38")]
    pub(super) config: Option<LocalReplyConfig>,
}

/// `LocalReplyConfig` with its JSON format's map in order.
#[derive(Clone, PartialEq, Message)]
pub(super) struct LocalReplyConfig {
    #[prost(message, repeated, tag = "1")]
    pub(super) mappers: Vec<ResponseMapper>,
}

/// `ResponseMapper` with its JSON format's map in order.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ResponseMapper {
    #[prost(message, optional, tag = "1")]
    pub(super) filter: Option<AccessLogFilter>,
    #[prost(message, optional, tag = "2")]
    pub(super) status_code: Option<UInt32Value>,
    #[prost(message, optional, tag = "4")]
    pub(super) body_format_override: Option<BodyFormat>,
    #[prost(message, repeated, tag = "5")]
    pub(super) headers_to_add: Vec<core::HeaderValueOption>,
}

/// `SubstitutionFormatString` with its JSON format's map in order.
#[derive(Clone, PartialEq, Message)]
pub(super) struct BodyFormat {
    #[prost(message, optional, tag = "2")]
    pub(super) json_format: Option<Fields>,
    #[prost(string, tag = "4")]
    pub(super) content_type: String,
    #[prost(message, optional, tag = "5")]
    pub(super) text_format_source: Option<core::DataSource>,
}

/// `google.protobuf.Struct` with its map in order.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Fields {
    #[prost(btree_map = "string, message", tag = "1")]
    pub(super) fields: BTreeMap<String, Text>,
}

/// `google.protobuf.Value` that is a string.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Text {
    #[prost(string, tag = "3")]
    pub(super) string_value: String,
}
