//! A revision of a publish: what is its own, and the content that it shares with equal ones.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::xds::Rendered;
use crate::xds::content::{Content, Key, in_order};
use crate::xds::names::Place;
use crate::xds::{scope, table};

/// A revision, ready for its hosts.
#[derive(Clone, Debug)]
pub(super) struct Prepared {
    pub(super) id: Arc<str>,
    pub(super) gateway: Arc<str>,
    pub(super) revision: u64,
    pub(super) hostnames: Box<[Arc<str>]>,
    /// What its wildcards do not take. Mostly there is none.
    pub(super) kept_out: Option<Arc<[Arc<str>]>>,
    pub(super) content: Arc<Content>,
    /// Tells its bytes from those of the same content that Envoys rejected. 0 if there are none.
    pub(super) stamp: u32,
}

impl Prepared {
    /// Whether it is the same but for its stamp.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.revision == other.revision
            && self.gateway == other.gateway
            && self.hostnames == other.hostnames
            && self.kept_out == other.kept_out
            && self.content.key == other.content.key
    }

    /// Whether the host is not its own any more.
    pub(super) fn is_kept_out(&self, host: &str) -> bool {
        self.kept_out.iter().flat_map(|all| all.iter()).any(|it| **it == *host)
    }

    /// Whether Envoy gets the same for it at a host.
    pub(super) fn serves_as(&self, other: &Self) -> bool {
        self.content.key == other.content.key && self.stamp == other.stamp
    }
}

/// The publishes of a unit, in the order of their ids.
pub(super) type Members = Arc<[Arc<Prepared>]>;

/// The member of this id.
pub(super) fn member<'a>(members: &'a Members, id: &str) -> Option<&'a Arc<Prepared>> {
    let at = members.binary_search_by(|member| (*member.id).cmp(id)).ok()?;
    members.get(at)
}

/// The contents of a host, in its order.
struct Ordered<'a>(&'a Arc<Prepared>);

impl std::ops::Deref for Ordered<'_> {
    type Target = Content;

    fn deref(&self) -> &Content {
        &self.0.content
    }
}

/// What hosts with equal routes have in common.
pub(super) fn key(members: &Members) -> Key {
    let mut ordered: Vec<_> = members.iter().map(Ordered).collect();
    in_order(&mut ordered);
    Key::of_all(ordered.iter().map(|it| (&**it, it.0.stamp)))
}

fn contents(members: &Members) -> Vec<&Content> {
    members.iter().map(|member| &*member.content).collect()
}

/// The table that units with these members share.
pub(super) fn shared_table(key: &Key, members: &Members) -> (crate::xds::names::Short, Rendered) {
    table::shared(key, &contents(members))
}

/// The resource of a place with all of its routes.
pub(super) fn whole(place: &Place, name: &Arc<str>, members: &Members) -> Rendered {
    if place.host.is_some() {
        let stamp = members.iter().fold(0_u32, |sum, member| sum.wrapping_add(member.stamp));
        return scope::inline(place, name, &contents(members), stamp);
    }
    let mut hosts: BTreeMap<&str, Vec<&Content>> = BTreeMap::new();
    for member in members.iter() {
        for host in &member.hostnames {
            hosts.entry(host).or_default().push(&member.content);
        }
    }
    table::whole(place.port, &hosts.into_iter().collect::<Vec<_>>())
}
