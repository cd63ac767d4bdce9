//! Finds publishes by their places: host, base path, and the owner in the digest of their rules.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;

use crate::access::PublishAccess;
use crate::digest::OWNER;
use crate::few::Line;

/// The places of all publishes: of the wanted revisions, and of former ones whose routes an Envoy
/// may still run.
#[derive(Debug, Default)]
pub(crate) struct Places {
    by_place: DashMap<Box<str>, Claims>,
    /// Hashes of places that were left, and of the ids of publishes that have gone.
    left: DashMap<u64, ()>,
    hasher: RandomState,
}

/// How many of them are remembered.
const LEFT: usize = 65_536;

/// The publishes of one place; seldom more than one. The owner is part of the place, so they are of
/// one gateway and product, and one takes over from another.
#[derive(Debug)]
struct Claims {
    last: Claim,
    others: Vec<Claim>,
}

#[derive(Clone, Debug)]
struct Claim {
    publish: Arc<str>,
    /// Whether the wanted revision is served there.
    wanted: bool,
}

impl Places {
    /// The publish at a place: of those whose wanted revision is there the latest, otherwise the
    /// latest of the others.
    pub(crate) fn find(&self, owner: u64, host: &str, base_path: &str) -> Option<Arc<str>> {
        let claims = self.by_place.get(key(owner, host, base_path).as_str())?;
        let all = || claims.others.iter().rev();
        let wanted = all().find(|claim| claim.wanted && !claims.last.wanted);
        Some(wanted.unwrap_or(&claims.last).publish.clone())
    }

    /// Whether a publish was there before. Where none ever was, this agent may lag behind the one that
    /// gave Envoy the route.
    pub(crate) fn was_left(&self, owner: u64, host: &str, base_path: &str) -> bool {
        self.left.contains_key(&self.hasher.hash_one(key(owner, host, base_path).as_str()))
    }

    /// Whether a publish with this id has gone.
    pub(crate) fn is_gone(&self, id: &str) -> bool {
        self.left.contains_key(&self.hasher.hash_one(id))
    }

    /// Remembers a place that was left, or the id of a publish that has gone: no id is a place, which has a blank.
    pub(crate) fn note_gone(&self, left: &str) {
        if self.left.len() >= LEFT {
            self.left.clear();
        }
        self.left.insert(self.hasher.hash_one(left), ());
    }

    /// Replaces the places of a publish: those of its rules before by those of its rules now, the
    /// wanted ones first. No place that is in both is missing meanwhile.
    pub(crate) fn replace<'a>(
        &self,
        before: impl Iterator<Item = &'a PublishAccess>,
        now: impl Iterator<Item = &'a PublishAccess>,
    ) {
        let mut kept: HashSet<Box<str>> = HashSet::new();
        for (place, access) in now.enumerate() {
            for key in keys(access) {
                if kept.insert(key.clone()) {
                    let claim = Claim { publish: access.publish_id().clone(), wanted: place == 0 };
                    self.claim(key, claim);
                }
            }
        }
        for access in before {
            for key in keys(access).filter(|key| !kept.contains(key)) {
                self.leave(key, access.publish_id());
            }
        }
    }

    fn claim(&self, key: Box<str>, claim: Claim) {
        let mut claims = match self.by_place.entry(key) {
            Entry::Vacant(slot) => {
                slot.insert(Claims { last: claim, others: Vec::new() });
                return;
            }
            Entry::Occupied(slot) => slot.into_ref(),
        };
        let Claims { last, others } = claims.value_mut();
        let known = others.iter_mut().chain([&mut *last]).find(|it| it.publish == claim.publish);
        match known {
            // It keeps its turn.
            Some(known) if known.wanted || !claim.wanted => known.wanted = claim.wanted,
            _ => {
                others.retain(|other| other.publish != claim.publish);
                let before = std::mem::replace(last, claim);
                if before.publish != last.publish {
                    others.push(before);
                }
            }
        }
    }

    fn leave(&self, key: Box<str>, publish: &Arc<str>) {
        // Before it is gone, so that no call finds neither.
        self.note_gone(&key);
        let Entry::Occupied(mut slot) = self.by_place.entry(key) else { return };
        let Claims { last, others } = slot.get_mut();
        others.retain(|other| other.publish != *publish);
        if last.publish == *publish {
            match others.pop() {
                Some(next) => *last = next,
                None => drop(slot.remove()),
            }
        }
    }
}

fn keys(access: &PublishAccess) -> impl Iterator<Item = Box<str>> {
    let (owner, (hosts, base_path)) = (access.rules().digest().owner, access.places());
    hosts.iter().map(move |host| key(owner, host, base_path).as_str().into())
}

/// No host has a slash, and every base path begins with one.
fn key(owner: u64, host: &str, base_path: &str) -> Key {
    let mut digits = [b' '; OWNER + 1];
    let places = (0..OWNER).rev().map(|place| (owner >> (4 * place)) as u8 & 15);
    for (letter, digit) in digits.iter_mut().zip(places) {
        *letter = if digit < 10 { b'0' + digit } else { b'a' + digit - 10 };
    }
    let mut key = Key::default();
    key.push_str(std::str::from_utf8(&digits).unwrap_or_default());
    key.push_str(host);
    key.push_str(base_path);
    key
}

/// As long as most are.
type Key = Line<120>;

#[cfg(test)]
mod tests {
    use imp_proto::config as pb;

    use super::*;

    fn access(id: &str, hosts: &[&str]) -> PublishAccess {
        let hostnames = hosts.iter().map(|host| (*host).to_owned()).collect();
        PublishAccess::from(&pb::Publish { id: id.into(), hostnames, ..Default::default() })
    }

    fn replace(places: &Places, before: &[PublishAccess], now: &[PublishAccess]) {
        places.replace(before.iter(), now.iter());
    }

    fn at(places: &Places, host: &str) -> Option<String> {
        let owner = access("any", &[]).rules().digest().owner;
        places.find(owner, host, "/").map(|publish| publish.to_string())
    }

    #[test]
    fn who_wants_a_place_has_it_before_who_had_it_and_the_latest_of_those() {
        let places = Places::default();
        let [old, new, next] = ["old", "new", "next"].map(|id| access(id, &["a"]));
        let moved = access("old", &["b"]);
        replace(&places, &[], std::slice::from_ref(&old));
        replace(&places, std::slice::from_ref(&old), &[moved.clone(), old.clone()]);
        assert_eq!((at(&places, "a"), at(&places, "b")), (Some("old".into()), Some("old".into())));
        replace(&places, &[], std::slice::from_ref(&new));
        replace(&places, &[], std::slice::from_ref(&next));
        assert_eq!(at(&places, "a").as_deref(), Some("next"));
        // Another revision at the same place takes nothing over.
        replace(&places, std::slice::from_ref(&new), std::slice::from_ref(&new));
        assert_eq!(at(&places, "a").as_deref(), Some("next"));
        replace(&places, std::slice::from_ref(&next), &[access("next", &[]), next.clone()]);
        assert_eq!(at(&places, "a").as_deref(), Some("new"), "the only one that wants it");
        replace(&places, std::slice::from_ref(&new), &[]);
        assert_eq!(at(&places, "a").as_deref(), Some("next"), "the latest that had it");
        replace(&places, std::slice::from_ref(&next), &[]);
        assert_eq!(at(&places, "a").as_deref(), Some("old"));
        replace(&places, &[moved, old], &[]);
        assert!(places.by_place.is_empty(), "nothing is left behind");
    }
}
