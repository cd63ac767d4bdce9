//! The bytes of publishes. Publishes of one product share most: it is parsed once, and held once for
//! the row of a fallback.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use prost::encoding::{DecodeContext, WireType, decode_key, skip_field};
use sha2::{Digest as _, Sha256};

/// The fields that are of the publish itself: `id`, `hostnames`, `revision`, `kept_out_hosts`.
const OWN: [u32; 4] = [1, 7, 9, 30];

/// An encoded publish: what is its own, and what others may share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wire {
    own: Box<[u8]>,
    shared: Arc<Shared>,
}

/// The part that publishes share. It is hashed once, however many do.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Shared {
    hash: [u8; 16],
    bytes: Box<[u8]>,
}

impl Shared {
    fn new(bytes: &[u8]) -> Self {
        let digest: [u8; 32] = Sha256::digest(bytes).into();
        Self { hash: digest.first_chunk().copied().unwrap_or_default(), bytes: bytes.into() }
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }
}

/// So that it is found by its bytes.
impl Borrow<[u8]> for Shared {
    fn borrow(&self) -> &[u8] {
        &self.bytes
    }
}

impl Hash for Shared {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.bytes.hash(state);
    }
}

/// Both parts of an encoded publish.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Parts {
    pub(super) own: Vec<u8>,
    pub(super) shared: Vec<u8>,
}

impl Wire {
    /// Copies the bytes.
    pub fn new(bytes: &[u8]) -> Self {
        match split(bytes) {
            Some(Parts { own, shared }) => Self::of(&own, &Arc::new(Shared::new(&shared))),
            None => Self::of(bytes, &Arc::new(Shared::new(&[]))),
        }
    }

    /// One whose other part is there already.
    pub(super) fn of(own: &[u8], shared: &Arc<Shared>) -> Self {
        Self { own: own.into(), shared: shared.clone() }
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(super) fn own_len(&self) -> usize {
        self.own.len()
    }

    /// The bytes as they were.
    pub fn bytes(&self) -> Bytes {
        join(&self.own, &self.shared.bytes).into()
    }
}

/// Takes an encoded publish apart. `None` if it is no message, or its fields are not in the order of
/// their numbers, which versions require.
pub(super) fn split(bytes: &[u8]) -> Option<Parts> {
    let mut parts = Parts { own: Vec::new(), shared: Vec::with_capacity(bytes.len()) };
    let (mut rest, mut last) = (bytes, 0);
    while !rest.is_empty() {
        let (field, encoded) = next(&mut rest)?;
        if field < last {
            return None;
        }
        last = field;
        let part = if OWN.contains(&field) { &mut parts.own } else { &mut parts.shared };
        part.extend_from_slice(encoded);
    }
    Some(parts)
}

/// The next field, with its encoding.
fn next<'a>(rest: &mut &'a [u8]) -> Option<(u32, &'a [u8])> {
    let before = *rest;
    let (field, wire_type): (u32, WireType) = decode_key(rest).ok()?;
    skip_field(wire_type, field, rest, DecodeContext::default()).ok()?;
    Some((field, before.get(..before.len() - rest.len())?))
}

/// Puts both parts together, in the order of their fields. What is not split is all in the first.
fn join(mut own: &[u8], mut shared: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(own.len() + shared.len());
    while !own.is_empty() && !shared.is_empty() {
        let (mut of_own, mut of_shared) = (own, shared);
        let (Some(a), Some(b)) = (next(&mut of_own), next(&mut of_shared)) else { break };
        if a.0 < b.0 {
            bytes.extend_from_slice(a.1);
            own = of_own;
        } else {
            bytes.extend_from_slice(b.1);
            shared = of_shared;
        }
    }
    bytes.extend_from_slice(own);
    bytes.extend_from_slice(shared);
    bytes
}

/// Contents that are in use.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    by_hash: HashMap<[u8; 16], Weak<Shared>>,
    /// So many were in use when the others were dropped.
    used: usize,
}

impl Contents {
    /// The same bytes, in memory that equal ones share.
    pub(crate) fn share(&mut self, wire: Wire) -> Wire {
        if self.by_hash.len() >= 2 * self.used.max(64) {
            self.by_hash.retain(|_, content| content.strong_count() > 0);
            self.used = self.by_hash.len();
        }
        let slot = self.by_hash.entry(wire.shared.hash).or_default();
        match slot.upgrade().filter(|known| *known == wire.shared) {
            Some(shared) => Wire { shared, ..wire },
            None => {
                *slot = Arc::downgrade(&wire.shared);
                wire
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use imp_proto::config as pb;
    use prost::Message as _;

    use super::*;

    fn message(id: &str, route: &str) -> pb::Publish {
        let route = pb::Route { id: route.into(), ..Default::default() };
        let service = pb::ApiService { id: "s".into(), routes: vec![route], ..Default::default() };
        pb::Publish {
            id: id.into(),
            tenant_id: "t".into(),
            revision: 7,
            hostnames: vec!["a.example.com".into(), "b.example.com".into()],
            base_path: "/v1".into(),
            api_services: vec![service],
            ..Default::default()
        }
    }

    fn wire(id: &str, route: &str) -> Vec<u8> {
        message(id, route).encode_to_vec()
    }

    #[test]
    fn bytes_come_back_as_they_were() {
        let disordered = [wire("p", "r"), wire("q", "r")].concat();
        let others = [Vec::new(), b"\xff\xff\xff".to_vec(), vec![0x5a, 0x7f], disordered];
        let default = pb::Publish::default().encode_to_vec();
        for bytes in [wire("p", "r"), default].into_iter().chain(others) {
            assert_eq!(Wire::new(&bytes).bytes(), bytes);
        }
    }

    #[test]
    fn a_publish_has_its_id_hosts_and_revision_for_itself() {
        let Parts { own, shared } = split(&wire("p", "r")).unwrap();
        let (own, shared) = (pb::Publish::decode(&*own), pb::Publish::decode(&*shared));
        let (own, shared) = (own.unwrap(), shared.unwrap());
        let whole = message("p", "r");
        let expected = pb::Publish {
            id: whole.id.clone(),
            hostnames: whole.hostnames.clone(),
            revision: whole.revision,
            ..Default::default()
        };
        assert_eq!(own, expected);
        assert_eq!(shared, pb::Publish { id: "".into(), hostnames: vec![], revision: 0, ..whole });
    }

    #[test]
    fn publishes_of_one_content_share_it_and_what_nobody_uses_is_dropped() {
        let mut contents = Contents::default();
        let mut share = |id: &str, route: &str| contents.share(Wire::new(&wire(id, route)));
        let (a, b, other) = (share("a", "r"), share("b", "r"), share("a", "another"));
        assert!(Arc::ptr_eq(&a.shared, &b.shared) && !Arc::ptr_eq(&a.shared, &other.shared));
        assert_eq!((a.bytes(), b.bytes()), (wire("a", "r").into(), wire("b", "r").into()));
        for number in 0..10_000 {
            drop(contents.share(Wire::new(&wire("p", &number.to_string()))));
        }
        assert!(contents.by_hash.len() < 200, "{}", contents.by_hash.len());
        assert!(Arc::ptr_eq(&contents.share(Wire::new(&wire("c", "r"))).shared, &a.shared));
    }
}
