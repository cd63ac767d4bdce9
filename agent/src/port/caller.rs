//! The peer of a connection, and its limits.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use imp_grammar::caps::{NODE_BYTES_IN_FLIGHT, NODE_CONNECTIONS_EACH};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;

/// A verified identity; every caller has one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Who {
    /// A process on this machine, by its user.
    Local { uid: u32 },
    /// The holder of a node certificate.
    Node {
        /// The only gateway that it may see; `None` for all.
        gateway: Option<String>,
        id: String,
    },
    /// An Envoy of somebody else's fleet, which serves this gateway among others of theirs.
    Attached { gateway: String },
}

/// The peer of a connection; in the extensions of every request.
#[derive(Clone, Debug)]
pub struct Caller {
    who: Who,
    process: Option<i32>,
    shares: Arc<Shares>,
}

/// The limits that all connections of one identity share.
#[derive(Debug)]
struct Shares {
    connections: Arc<Semaphore>,
    bytes: Semaphore,
}

/// A slot among the connections of one identity.
#[derive(Debug)]
pub(super) struct Place {
    _place: OwnedSemaphorePermit,
}

impl Caller {
    /// The peer of the connection that a request came on.
    pub fn of(extensions: &http::Extensions) -> Result<&Self, Status> {
        let unknown = || Status::unauthenticated("this connection has not said who it is");
        extensions.get().ok_or_else(unknown)
    }

    /// A caller without a port, for fuzzers that call the services directly.
    pub fn direct(who: Who) -> Self {
        let connections = Arc::new(Semaphore::new(NODE_CONNECTIONS_EACH.size()));
        let bytes = Semaphore::new(NODE_BYTES_IN_FLIGHT.size());
        Self { who, process: None, shares: Arc::new(Shares { connections, bytes }) }
    }

    /// The process that connected, if it is on this machine and the kernel names it: not in another
    /// PID namespace.
    pub fn process(&self) -> Option<i32> {
        self.process
    }

    pub(super) fn with_process(self, process: Option<i32>) -> Self {
        Self { process: process.filter(|id| *id > 0), ..self }
    }

    /// The only gateway that it may see and ask about; `None` for all.
    pub fn gateway(&self) -> Option<&str> {
        match &self.who {
            Who::Local { .. } => None,
            Who::Node { gateway, .. } => gateway.as_deref(),
            Who::Attached { gateway } => Some(gateway),
        }
    }

    /// Whether it is a process on this machine.
    pub fn is_local(&self) -> bool {
        matches!(self.who, Who::Local { .. })
    }

    /// Whether its Envoy is somebody else's.
    pub fn is_attached(&self) -> bool {
        matches!(self.who, Who::Attached { .. })
    }

    /// The gateway of a stream that says this in `node.cluster`. Somebody else's Envoy says what they want.
    pub fn gateway_or(&self, said: Option<String>) -> Option<String> {
        match &self.who {
            Who::Attached { gateway } => Some(gateway.clone()),
            Who::Local { .. } | Who::Node { .. } => said,
        }
    }

    /// Whether it may open a stream with these names in `node`.
    pub fn may_be(&self, node_id: &str, gateway: Option<&str>) -> Result<(), Status> {
        let Who::Node { gateway: own, id } = &self.who else { return Ok(()) };
        if id != node_id {
            let what = format!("this certificate is of node {id:?}, and node.id says {node_id:?}");
            return Err(Status::permission_denied(what));
        }
        if own.as_deref().is_some_and(|own| gateway != Some(own)) {
            let (own, asked) = (own.as_deref().unwrap_or_default(), gateway.unwrap_or("all"));
            let what =
                format!("this certificate is for gateway {own}, and node.cluster says {asked}");
            return Err(Status::permission_denied(what));
        }
        Ok(())
    }

    /// Reserves this many bytes for a call; released on drop.
    pub(super) fn room(&self, bytes: usize) -> Result<Room, Status> {
        let count = u32::try_from(bytes).unwrap_or(u32::MAX);
        match self.shares.bytes.try_acquire_many(count) {
            Ok(permit) => permit.forget(),
            Err(_) => return Err(Status::resource_exhausted("too many calls are being read")),
        }
        Ok(Room { shares: self.shares.clone(), bytes })
    }
}

/// Reserved bytes.
#[derive(Debug)]
pub(super) struct Room {
    shares: Arc<Shares>,
    bytes: usize,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.shares.bytes.add_permits(self.bytes);
    }
}

/// All connected callers.
#[derive(Clone, Debug, Default)]
pub(super) struct Callers {
    known: Arc<Mutex<HashMap<Who, Weak<Shares>>>>,
}

impl Callers {
    /// Adds a connection; `None` if this identity has too many.
    pub(super) fn come(&self, who: Who) -> Option<(Caller, Place)> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let shares = known.get(&who).and_then(Weak::upgrade).unwrap_or_else(|| {
            known.retain(|_, shares| shares.strong_count() > 0);
            let shares = Arc::new(Shares {
                connections: Arc::new(Semaphore::new(NODE_CONNECTIONS_EACH.size())),
                bytes: Semaphore::new(NODE_BYTES_IN_FLIGHT.size()),
            });
            known.insert(who.clone(), Arc::downgrade(&shares));
            shares
        });
        let place = shares.connections.clone().try_acquire_owned().ok()?;
        Some((Caller { who, process: None, shares }, Place { _place: place }))
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    fn node(gateway: Option<&str>) -> Who {
        Who::Node { gateway: gateway.map(str::to_owned), id: "n".to_owned() }
    }

    #[test]
    fn a_node_is_who_its_certificate_says() {
        let callers = Callers::default();
        let (bound, _place) = callers.come(node(Some("g"))).unwrap();
        assert!(bound.may_be("n", Some("g")).is_ok());
        for (id, gateway) in [("n", None), ("n", Some("h")), ("m", Some("g"))] {
            let refused = bound.may_be(id, gateway).unwrap_err();
            assert_eq!(refused.code(), Code::PermissionDenied, "{id} {gateway:?}");
        }
        let (free, _place) = callers.come(node(None)).unwrap();
        assert!(free.may_be("n", None).is_ok() && free.may_be("n", Some("g")).is_ok());
        assert_eq!((bound.gateway(), free.gateway()), (Some("g"), None));
    }

    #[test]
    fn an_attached_envoy_is_of_the_gateway_in_its_certificate_whatever_it_says() {
        let attached = Who::Attached { gateway: "g".to_owned() };
        let (caller, _place) = Callers::default().come(attached).unwrap();
        for said in [None, Some("h".to_owned())] {
            let gateway = caller.gateway_or(said);
            assert_eq!(gateway.as_deref(), Some("g"));
            assert!(caller.may_be("any-pod", gateway.as_deref()).is_ok());
        }
        assert_eq!((caller.gateway(), caller.is_attached()), (Some("g"), true));
    }

    #[test]
    fn what_one_identity_uses_up_another_still_has() {
        let callers = Callers::default();
        let many: Vec<_> =
            (0..NODE_CONNECTIONS_EACH.size()).map(|_| callers.come(node(None)).unwrap()).collect();
        assert!(callers.come(node(None)).is_none(), "one more than the cap");
        let (caller, _) = many.first().unwrap();
        let all = caller.room(NODE_BYTES_IN_FLIGHT.size()).unwrap();
        assert_eq!(caller.room(1).unwrap_err().code(), Code::ResourceExhausted);
        let (other, _place) = callers.come(node(Some("g"))).unwrap();
        assert!(other.room(NODE_BYTES_IN_FLIGHT.size()).is_ok());
        drop(all);
        assert!(caller.room(NODE_BYTES_IN_FLIGHT.size()).is_ok(), "it was given back");
        drop(many);
        assert!(callers.come(node(None)).is_some());
    }
}
