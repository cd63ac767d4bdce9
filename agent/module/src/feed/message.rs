//! The messages of the feed. The agent and the module of one release speak it: the module is found
//! by the hash of its file, so that both are always of one build.

use imp_proto::config as pb;
use prost::{Message, Oneof};

/// The version of this protocol. An agent closes the connection of a module with another.
pub const PROTOCOL: u32 = 1;

/// What the module says.
#[derive(Clone, PartialEq, Message)]
pub struct FromModule {
    #[prost(oneof = "Said", tags = "1, 2")]
    pub said: Option<Said>,
}

#[derive(Clone, PartialEq, Oneof)]
pub enum Said {
    #[prost(message, tag = "1")]
    Hello(Hello),
    #[prost(message, tag = "2")]
    Applied(Applied),
}

/// The first message.
#[derive(Clone, PartialEq, Message)]
pub struct Hello {
    #[prost(uint32, tag = "1")]
    pub protocol: u32,
    /// The history and the version in it that the module holds; empty and 0: nothing.
    #[prost(string, tag = "2")]
    pub history: String,
    #[prost(uint64, tag = "3")]
    pub version: u64,
}

/// Calls are decided by this version from now on.
#[derive(Clone, PartialEq, Message)]
pub struct Applied {
    #[prost(uint64, tag = "1")]
    pub version: u64,
}

/// What the agent says.
#[derive(Clone, PartialEq, Message)]
pub struct FromAgent {
    #[prost(oneof = "Told", tags = "1, 2, 3")]
    pub told: Option<Told>,
}

#[derive(Clone, PartialEq, Oneof)]
pub enum Told {
    #[prost(message, tag = "1")]
    Update(Update),
    /// Nothing has changed.
    #[prost(message, tag = "2")]
    Ping(Ping),
    #[prost(message, tag = "3")]
    Forget(Forget),
}

#[derive(Clone, Copy, PartialEq, Message)]
pub struct Ping {}

/// The agent has read all counters of hours that ended before this time.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Forget {
    /// Unix milliseconds.
    #[prost(int64, tag = "1")]
    pub before_ms: i64,
}

/// A part of a snapshot, or a change.
#[derive(Clone, PartialEq, Message)]
pub struct Update {
    /// Versions of different histories cannot be compared.
    #[prost(string, tag = "1")]
    pub history: String,
    /// The version that it changes; 0: it is part of a snapshot.
    #[prost(uint64, tag = "2")]
    pub since: u64,
    /// The version that it makes.
    #[prost(uint64, tag = "3")]
    pub version: u64,
    /// Whether further parts of the snapshot follow. It is applied with the last.
    #[prost(bool, tag = "4")]
    pub more: bool,
    #[prost(message, repeated, tag = "5")]
    pub put: Vec<Item>,
    /// Applied after `put`.
    #[prost(message, repeated, tag = "6")]
    pub remove: Vec<Name>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Item {
    #[prost(oneof = "Kind", tags = "1, 2, 3, 4")]
    pub kind: Option<Kind>,
}

#[derive(Clone, PartialEq, Oneof)]
pub enum Kind {
    #[prost(message, tag = "1")]
    Rules(Rules),
    #[prost(message, tag = "2")]
    Entitlement(pb::Entitlement),
    #[prost(message, tag = "3")]
    Credential(pb::Credential),
    #[prost(message, tag = "4")]
    Host(Host),
}

/// The access rules of a publish: [`imp_enforce::PublishAccess`] as JSON.
#[derive(Clone, PartialEq, Message)]
pub struct Rules {
    /// The publish.
    #[prost(string, tag = "1")]
    pub id: String,
    /// The rules of the wanted revision.
    #[prost(bytes = "vec", tag = "2")]
    pub wanted: Vec<u8>,
    /// Those of revisions that some Envoy may still run, the most important first.
    #[prost(bytes = "vec", repeated, tag = "3")]
    pub former: Vec<Vec<u8>>,
}

/// A host at a port: exact, `*.` and a host, or `*`.
#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct Host {
    #[prost(uint32, tag = "1")]
    pub port: u32,
    #[prost(string, tag = "2")]
    pub pattern: String,
}

/// What to remove.
#[derive(Clone, PartialEq, Message)]
pub struct Name {
    #[prost(oneof = "Named", tags = "1, 2, 3, 4")]
    pub named: Option<Named>,
}

#[derive(Clone, PartialEq, Eq, Hash, Oneof)]
pub enum Named {
    #[prost(string, tag = "1")]
    Publish(String),
    #[prost(string, tag = "2")]
    Entitlement(String),
    #[prost(string, tag = "3")]
    Credential(String),
    #[prost(message, tag = "4")]
    Host(Host),
}

impl From<Kind> for Item {
    fn from(kind: Kind) -> Self {
        Self { kind: Some(kind) }
    }
}

impl From<Named> for Name {
    fn from(named: Named) -> Self {
        Self { named: Some(named) }
    }
}

impl From<Said> for FromModule {
    fn from(said: Said) -> Self {
        Self { said: Some(said) }
    }
}

impl From<Told> for FromAgent {
    fn from(told: Told) -> Self {
        Self { told: Some(told) }
    }
}
