//! A generic xDS server and delta client.
//!
//! It serves *resources* (a type URL, a name, a version, opaque bytes) to clients that subscribe to
//! them, over the delta protocol that Envoy uses, and reports to the embedding program what each
//! client acknowledged or rejected. It is independent of the product and of Envoy's messages.
//!
//! - [`ResourceSet`]: the resources of one group of clients; one writer, any number of streams.
//! - [`AdsServer`]: the gRPC service. [`Admission`] chooses the resource set of a client,
//!   [`Observer`] receives events.
//! - [`client::DeltaClient`]: the other side of the same protocol, for programs that consume it.
//!
//! Inside, [`stream`] is a pure state machine (no sockets, no clock): every protocol rule lives there
//! and is tested there. R-ids in the docs are requirements of the protocol, listed in `README.md`.

mod admission;
pub mod client;
mod keep_alive;
mod resource;
mod resource_set;
mod rules;
mod server;
pub mod stream;
#[cfg(feature = "testing")]
pub mod testing;
pub mod wire;

pub use admission::{Admission, Event, NoObserver, Observer, Peer, StreamId};
pub use keep_alive::KeepAlive;
pub use resource::{MAX_RESOURCE_BYTES, Resource, TypeUrl};
pub use resource_set::{Change, ResourceSet, Revision, WeakResourceSet};
pub use rules::{Batching, Debounce, ServerConfig, TypeRules};
pub use server::{AdsServer, SINGLE_TYPE_SERVICES, StreamStatus, TypeStatus};
pub use stream::SentResource;
