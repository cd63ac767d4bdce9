//! The messages of the discovery protocol, as far as a server and a client need them. Unknown fields
//! are skipped. Field numbers are those of `envoy.service.discovery.v3`; a test holds them against
//! envoy-types.

mod metadata;

use std::collections::HashMap;
use std::time;

use bytes::Bytes;

pub use metadata::{Metadata, Struct, Value};

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Any {
    /// Of the message inside.
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
    /// And the rest of one.
    #[prost(int32, tag = "2")]
    pub nanos: i32,
}

impl From<time::Duration> for Duration {
    fn from(time: time::Duration) -> Self {
        // The type knows no more; Envoy refuses what is longer.
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
    /// In words.
    #[prost(string, tag = "2")]
    pub message: String,
}

/// `envoy.config.core.v3.Node`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Node {
    /// Which client.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Which group of clients.
    #[prost(string, tag = "2")]
    pub cluster: String,
    /// `envoy`, or what else speaks.
    #[prost(string, tag = "6")]
    pub user_agent_name: String,
    /// Its version, as text.
    #[prost(string, tag = "7")]
    pub user_agent_version: String,
    /// Its version, in numbers; what Envoy sends.
    #[prost(message, optional, tag = "8")]
    pub user_agent_build_version: Option<BuildVersion>,
    /// What the client can do, by name.
    #[prost(string, repeated, tag = "10")]
    pub client_features: Vec<String>,
}

impl Node {
    /// The client's version, however it was sent.
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
    /// The numbers.
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
    /// Of the content.
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
    /// For how long the client may hold it without hearing of it again (R75).
    #[prost(message, optional, tag = "6")]
    pub ttl: Option<Duration>,
    /// Where it comes from, and what else is no part of the content.
    #[prost(message, optional, tag = "9")]
    pub metadata: Option<Metadata>,
}

impl Resource {
    /// Its own, for lists of resources that are wrapped in it.
    pub const TYPE_URL: &'static str = "type.googleapis.com/envoy.service.discovery.v3.Resource";
}

/// `envoy.service.discovery.v3.DeltaDiscoveryRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct DeltaDiscoveryRequest {
    /// On the first message of a stream, at least.
    #[prost(message, optional, tag = "1")]
    pub node: Option<Node>,
    /// What it is about.
    #[prost(string, tag = "2")]
    pub type_url: String,
    /// Wanted from now on.
    #[prost(string, repeated, tag = "3")]
    pub resource_names_subscribe: Vec<String>,
    /// No longer wanted.
    #[prost(string, repeated, tag = "4")]
    pub resource_names_unsubscribe: Vec<String>,
    /// What the client held before this stream.
    #[prost(map = "string, string", tag = "5")]
    pub initial_resource_versions: HashMap<String, String>,
    /// Which response this answers.
    #[prost(string, tag = "6")]
    pub response_nonce: String,
    /// Set: a NACK.
    #[prost(message, optional, tag = "7")]
    pub error_detail: Option<Status>,
}

/// `envoy.service.discovery.v3.DeltaDiscoveryResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct DeltaDiscoveryResponse {
    /// For people.
    #[prost(string, tag = "1")]
    pub system_version_info: String,
    /// New or changed.
    #[prost(message, repeated, tag = "2")]
    pub resources: Vec<Resource>,
    /// What it is about.
    #[prost(string, tag = "4")]
    pub type_url: String,
    /// To be answered with.
    #[prost(string, tag = "5")]
    pub nonce: String,
    /// Gone, or never there.
    #[prost(string, repeated, tag = "6")]
    pub removed_resources: Vec<String>,
    /// No field of Envoy's, which skips it: the first answer to a client that wants everything goes on
    /// in the next response (R93).
    #[prost(bool, tag = "1000")]
    pub more: bool,
}

/// The field `DeltaDiscoveryResponse.more`.
pub(crate) const MORE: u32 = 1000;

/// `envoy.service.discovery.v3.DiscoveryRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct DiscoveryRequest {
    /// Of the last response that was accepted.
    #[prost(string, tag = "1")]
    pub version_info: String,
    /// On the first message of a stream, at least.
    #[prost(message, optional, tag = "2")]
    pub node: Option<Node>,
    /// Everything that is wanted.
    #[prost(string, repeated, tag = "3")]
    pub resource_names: Vec<String>,
    /// What it is about.
    #[prost(string, tag = "4")]
    pub type_url: String,
    /// Which response this answers.
    #[prost(string, tag = "5")]
    pub response_nonce: String,
    /// Set: a NACK.
    #[prost(message, optional, tag = "6")]
    pub error_detail: Option<Status>,
}

/// `envoy.service.discovery.v3.DiscoveryResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct DiscoveryResponse {
    /// Of the content.
    #[prost(string, tag = "1")]
    pub version_info: String,
    /// Everything, or what changed: that is a matter of the type.
    #[prost(message, repeated, tag = "2")]
    pub resources: Vec<Any>,
    /// What it is about.
    #[prost(string, tag = "4")]
    pub type_url: String,
    /// To be answered with.
    #[prost(string, tag = "5")]
    pub nonce: String,
}
