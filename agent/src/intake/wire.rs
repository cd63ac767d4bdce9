//! The bytes of publishes, kept for the row of a fallback. Publishes of one product share most.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use prost::encoding::{DecodeContext, WireType, decode_key, skip_field};
use sha2::{Digest as _, Sha256};

/// The first field that is of the product and not of the publish: `Publish.api_services`.
const CONTENT: u32 = 11;

/// An encoded publish: what is its own, then what others may share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wire {
    own: Box<[u8]>,
    shared: Arc<[u8]>,
}

impl Wire {
    /// Copies the bytes. All of what is not a message is its own.
    pub fn new(bytes: &[u8]) -> Self {
        let (own, shared) = bytes.split_at(content(bytes).unwrap_or(bytes.len()));
        Self { own: own.into(), shared: shared.into() }
    }

    /// The bytes as they were.
    pub fn bytes(&self) -> Bytes {
        [&*self.own, &*self.shared].concat().into()
    }
}

/// Where the content begins. Fields are in the order of their numbers, as versions require.
fn content(bytes: &[u8]) -> Option<usize> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let at = bytes.len() - rest.len();
        let (field, wire_type): (u32, WireType) = decode_key(&mut rest).ok()?;
        if field >= CONTENT {
            return Some(at);
        }
        skip_field(wire_type, field, &mut rest, DecodeContext::default()).ok()?;
    }
    None
}

/// Contents that are in use.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    by_hash: HashMap<[u8; 16], Weak<[u8]>>,
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
        let hash = Sha256::digest(&wire.shared);
        let Some(hash) = hash.first_chunk() else { return wire };
        let slot = self.by_hash.entry(*hash).or_insert_with(|| Weak::<[u8; 0]>::new());
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

    fn wire(id: &str, route: &str) -> Vec<u8> {
        let route = pb::Route { id: route.into(), ..Default::default() };
        let service = pb::ApiService { id: "s".into(), routes: vec![route], ..Default::default() };
        let (hostnames, api_services) = (vec!["a.example.com".into()], vec![service]);
        pb::Publish { id: id.into(), revision: 7, hostnames, api_services, ..Default::default() }
            .encode_to_vec()
    }

    #[test]
    fn bytes_come_back_as_they_were() {
        for bytes in [wire("p", "r"), Vec::new(), b"\xff\xff\xff".to_vec(), vec![0x5a, 0x7f]] {
            assert_eq!(Wire::new(&bytes).bytes(), bytes);
        }
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
