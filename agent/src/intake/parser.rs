//! Parses publishes, of which many often share all but their ids, revisions and hosts: that is parsed
//! once.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use bytes::Bytes;
use imp_enforce::PublishAccess;
use imp_proto::config as pb;
use imp_translate::ir;
use imp_xds::Resource;
use prost::Message as _;
use tracing::Span;

use super::wire::{self, Parts, Shared};
use super::{Publish, Rejected, Wire, decode};

/// Remembers the contents that it has parsed.
#[derive(Debug, Default)]
pub struct Parser {
    publishes: HashMap<BySharedBytes, Known<ir::Publish>>,
    access: HashMap<BySharedBytes, Known<()>>,
    bytes: usize,
}

/// The most bytes of contents that are remembered.
const BYTES: usize = 4 << 20;

/// The part of a publish that others share.
#[derive(Debug, PartialEq, Eq)]
struct BySharedBytes(Arc<Shared>);

impl Hash for BySharedBytes {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl Borrow<[u8]> for BySharedBytes {
    fn borrow(&self) -> &[u8] {
        (*self.0).borrow()
    }
}

/// A publish that was parsed.
#[derive(Debug)]
struct Known<T> {
    routes: T,
    access: PublishAccess,
    /// Bounds depend on these.
    own_bytes: usize,
    hosts: usize,
    kept_out: usize,
}

impl<T> Known<T> {
    /// Whether a publish of the same content is within the bounds because this one is.
    fn bounds(&self, own_bytes: usize, own: &pb::Publish) -> bool {
        own_bytes <= self.own_bytes
            && own.hostnames.len() <= self.hosts
            && own.kept_out_hosts.len() <= self.kept_out
    }
}

impl Parser {
    /// Parses a publish with this id.
    pub(super) fn publish(&mut self, bytes: &Bytes, id: &Arc<str>) -> Result<Publish, Rejected> {
        let parts = wire::split(bytes);
        if let Some(known) = parts.as_ref().and_then(|parts| self.known_publish(parts, id)) {
            return known;
        }
        let parsed = whole(bytes, id)?;
        if parts.is_some() {
            self.remember(parsed.wire.shared());
            let known = Known {
                routes: parsed.routes.clone(),
                access: parsed.access.clone(),
                own_bytes: parsed.wire.own_len(),
                hosts: parsed.routes.hostnames.len(),
                kept_out: parsed.routes.kept_out.len(),
            };
            self.publishes.insert(BySharedBytes(parsed.wire.shared().clone()), known);
        }
        Ok(parsed)
    }

    /// `None` if its content is not known.
    fn known_publish(&self, parts: &Parts, id: &Arc<str>) -> Option<Result<Publish, Rejected>> {
        let (shared, known) = self.publishes.get_key_value(&*parts.shared)?;
        let own = pb::Publish::decode(&*parts.own).ok()?;
        if *own.id != **id || !known.bounds(parts.own.len(), &own) {
            return None;
        }
        let routes = known.routes.with_own(&own).map_err(|fault| rejected(&fault, own.revision));
        Some(routes.map(|routes| Publish {
            access: known.access.of_publish(id.clone(), &routes.hostnames),
            routes,
            wire: Wire::of(&parts.own, &shared.0),
            span: Span::none(),
        }))
    }

    /// Parses only the part of a publish that decisions need. Returns its revision, too.
    pub(super) fn access(&mut self, resource: &Resource) -> Result<(PublishAccess, u64), Rejected> {
        let parts = wire::split(resource.value());
        if let Some(parts) = &parts
            && let Some(known) = self.access.get(&*parts.shared)
            && let Ok(own) = pb::Publish::decode(&*parts.own)
            && *own.id == **resource.name()
        {
            let hosts: Vec<Arc<str>> = own.hostnames.iter().map(|it| it.as_str().into()).collect();
            return Ok((known.access.of_publish(resource.name().clone(), &hosts), own.revision));
        }
        let message: pb::Publish = decode(resource)?;
        let access = PublishAccess::from(&message);
        if parts.is_some() {
            let wire = Wire::new(resource.value());
            self.remember(wire.shared());
            let known =
                Known { routes: (), access: access.clone(), own_bytes: 0, hosts: 0, kept_out: 0 };
            self.access.insert(BySharedBytes(wire.shared().clone()), known);
        }
        Ok((access, message.revision))
    }

    fn remember(&mut self, shared: &Shared) {
        self.bytes += shared.len();
        if self.bytes > BYTES {
            (self.publishes, self.access, self.bytes) = Default::default();
        }
    }
}

fn whole(bytes: &Bytes, id: &Arc<str>) -> Result<Publish, Rejected> {
    let message: pb::Publish = decode(&Resource::new(id.clone(), "", bytes.clone()))?;
    let mut routes =
        ir::Publish::parse(&message).map_err(|fault| rejected(&fault, message.revision))?;
    // After the parser, which has checked the sizes.
    let access = PublishAccess::from(&message).of_publish(id.clone(), &routes.hostnames);
    // Its routes name the access rules that apply to their calls.
    routes.access = access.digest();
    Ok(Publish { routes, access, wire: Wire::new(bytes), span: Span::none() })
}

fn rejected(fault: &ir::ParseError, revision: u64) -> Rejected {
    Rejected { reason: fault.to_string(), revision: Some(revision) }
}

#[cfg(test)]
mod tests;
