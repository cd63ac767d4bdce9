//! A generic xDS server and delta client.
//!
//! It serves *resources* (a type URL, a name, a version, opaque bytes) to clients that subscribe to
//! them, over the delta protocol that Envoy speaks, and tells the embedding program what each client
//! acknowledged or refused. It knows no product and no Envoy message.
//!
//! - [`ResourceSet`]: what one group of clients should hold; one writer, any number of streams.
//! - [`AdsServer`]: the gRPC service. [`Admission`] says which resource set a client sees, [`Observer`] is
//!   told what happened.
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
pub use server::{AdsServer, StreamStatus, TypeStatus};
pub use stream::SentResource;
