//! The messages of the discovery protocol, as far as a server and a client need them. Unknown
//! fields are skipped. Field numbers are those of `envoy.service.discovery.v3`; a test compares
//! them with envoy-types.

mod metadata;

use std::collections::HashMap;
use std::time;

use bytes::Bytes;

pub use metadata::{Field, Metadata, Namespace, Struct, Value};

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Any {
    /// The type of the message inside.
    #[prost(string, tag = "1")]
    pub type_url: String,
    /// The message inside.
    #[prost(bytes = "bytes", tag = "2")]
    pub value: Bytes,
}

/// `google.protobuf.Duration`.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Duration {
    /// Whole seconds.
    #[prost(int64, tag = "1")]
    pub seconds: i64,
    /// The fraction of a second.
    #[prost(int32, tag = "2")]
    pub nanos: i32,
}

impl From<time::Duration> for Duration {
    fn from(time: time::Duration) -> Self {
        // The type allows no more; Envoy rejects longer durations.
        let seconds = time.as_secs().min(315_576_000_000);
        Self { seconds: seconds.cast_signed(), nanos: time.subsec_nanos().cast_signed() }
    }
}

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Status {
    /// A gRPC code.
    #[prost(int32, tag = "1")]
    pub code: i32,
    /// The error message.
    #[prost(string, tag = "2")]
    pub message: String,
}

/// `envoy.config.core.v3.Node`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Node {
    /// The client's id.
    #[prost(string, tag = "1")]
    pub id: String,
    /// The client's group.
    #[prost(string, tag = "2")]
    pub cluster: String,
    /// `envoy`, or another client.
    #[prost(string, tag = "6")]
    pub user_agent_name: String,
    /// Its version, as text.
    #[prost(string, tag = "7")]
    pub user_agent_version: String,
    /// Its version, in numbers; what Envoy sends.
    #[prost(message, optional, tag = "8")]
    pub user_agent_build_version: Option<BuildVersion>,
    /// The names of features that the client supports.
    #[prost(string, repeated, tag = "10")]
    pub client_features: Vec<String>,
}

impl Node {
    /// The client's version, from either field.
    pub fn version_text(&self) -> String {
        match self.user_agent_build_version.as_ref().and_then(|build| build.version.as_ref()) {
            Some(v) => format!("{}.{}.{}", v.major_number, v.minor_number, v.patch),
            None => self.user_agent_version.clone(),
        }
    }
}

/// `envoy.config.core.v3.BuildVersion`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct BuildVersion {
    #[prost(message, optional, tag = "1")]
    pub version: Option<SemanticVersion>,
}

/// `envoy.type.v3.SemanticVersion`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SemanticVersion {
    /// 1 of 1.40.0.
    #[prost(uint32, tag = "1")]
    pub major_number: u32,
    /// 40 of 1.40.0.
    #[prost(uint32, tag = "2")]
    pub minor_number: u32,
    /// 0 of 1.40.0.
    #[prost(uint32, tag = "3")]
    pub patch: u32,
}

/// `envoy.service.discovery.v3.Resource`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Resource {
    /// The version of the content.
    #[prost(string, tag = "1")]
    pub version: String,
    /// The content.
    #[prost(message, optional, tag = "2")]
    pub resource: Option<Any>,
    /// Unique within the type.
    #[prost(string, tag = "3")]
    pub name: String,
    /// Other names that it may be subscribed by.
    #[prost(string, repeated, tag = "4")]
    pub aliases: Vec<String>,
    /// How long the client may keep it without a heartbeat (R75).
    #[prost(message, optional, tag = "6")]
    pub ttl: Option<Duration>,
    /// Its origin, and other data that is not part of the content.
    #[prost(message, optional, tag = "9")]
    pub metadata: Option<Metadata>,
}

impl Resource {
    /// Its own type URL, for lists of wrapped resources.
    pub const TYPE_URL: &'static str = "type.googleapis.com/envoy.service.discovery.v3.Resource";
}

/// `envoy.service.discovery.v3.DeltaDiscoveryRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct DeltaDiscoveryRequest {
    /// In the first message of a stream, at least.
    #[prost(message, optional, tag = "1")]
    pub node: Option<Node>,
    #[prost(string, tag = "2")]
    pub type_url: String,
    /// Names to subscribe to.
    #[prost(string, repeated, tag = "3")]
    pub resource_names_subscribe: Vec<String>,
    /// Names to unsubscribe from.
    #[prost(string, repeated, tag = "4")]
    pub resource_names_unsubscribe: Vec<String>,
    /// What the client had before this stream.
    #[prost(map = "string, string", tag = "5")]
    pub initial_resource_versions: HashMap<String, String>,
    /// The nonce of the response that this answers.
    #[prost(string, tag = "6")]
    pub response_nonce: String,
    /// Present in a NACK.
    #[prost(message, optional, tag = "7")]
    pub error_detail: Option<Status>,
}

/// `envoy.service.discovery.v3.DeltaDiscoveryResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct DeltaDiscoveryResponse {
    /// For display.
    #[prost(string, tag = "1")]
    pub system_version_info: String,
    /// New or changed.
    #[prost(message, repeated, tag = "2")]
    pub resources: Vec<Resource>,
    #[prost(string, tag = "4")]
    pub type_url: String,
    /// The nonce of the answer.
    #[prost(string, tag = "5")]
    pub nonce: String,
    /// Removed, or never existed.
    #[prost(string, repeated, tag = "6")]
    pub removed_resources: Vec<String>,
    /// Not a field of Envoy's, which skips it: the first answer to a wildcard client continues in
    /// the next response (R93).
    #[prost(bool, tag = "1000")]
    pub more: bool,
}

/// The number of the field `DeltaDiscoveryResponse.more`.
pub(crate) const MORE: u32 = 1000;

/// `envoy.service.discovery.v3.DiscoveryRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct DiscoveryRequest {
    /// The version of the last acknowledged response.
    #[prost(string, tag = "1")]
    pub version_info: String,
    /// In the first message of a stream, at least.
    #[prost(message, optional, tag = "2")]
    pub node: Option<Node>,
    /// All subscribed names.
    #[prost(string, repeated, tag = "3")]
    pub resource_names: Vec<String>,
    #[prost(string, tag = "4")]
    pub type_url: String,
    /// The nonce of the response that this answers.
    #[prost(string, tag = "5")]
    pub response_nonce: String,
    /// Present in a NACK.
    #[prost(message, optional, tag = "6")]
    pub error_detail: Option<Status>,
}

/// `envoy.service.discovery.v3.DiscoveryResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct DiscoveryResponse {
    /// The version of the content.
    #[prost(string, tag = "1")]
    pub version_info: String,
    /// Everything, or the changes, depending on the type.
    #[prost(message, repeated, tag = "2")]
    pub resources: Vec<Any>,
    #[prost(string, tag = "4")]
    pub type_url: String,
    /// The nonce of the answer.
    #[prost(string, tag = "5")]
    pub nonce: String,
}
