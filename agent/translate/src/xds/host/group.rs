//! Groups the publishes of a host by base path.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Bound;

use super::respelled;
use crate::xds::content::{Content, in_order};
use crate::xds::route::{self, Route};

/// Everything under one base path and not under a longer one.
pub(super) struct Group<'a> {
    pub(super) base: &'a str,
    pub(super) routes: Vec<Cow<'a, Route>>,
}

/// Longer base paths first.
pub(super) fn groups<'a>(members: &[&'a Content]) -> Vec<Group<'a>> {
    let mut members = members.to_vec();
    in_order(&mut members);
    // Each with its place in the order.
    let bases = members.iter().enumerate().map(|(place, member)| (&*member.base_path, place));
    let bases: BTreeMap<&str, usize> = bases.collect();
    let of_base = members.chunk_by(|a, b| a.base_path == b.base_path);
    let mut groups = Vec::new();
    for chunk in of_base {
        let Some(first) = chunk.first() else { continue };
        let base = &*first.base_path;
        let below = below(base, &bases);
        let closed = respelled::closed(&below).into_iter().map(Cow::Owned);
        let own = chunk.iter().flat_map(|m| &m.routes).map(Cow::Borrowed);
        let mut routes: Vec<_> = closed.chain(own).collect();
        if is_below(base, &bases) && !chunk.iter().any(|member| member.suspended) {
            routes.push(Cow::Owned(route::closed(base, 404, "no_route", "No such route")));
        }
        groups.push(Group { base, routes });
    }
    groups
}

/// The base paths under this one, in their order. It does not look at the others.
fn below<'a>(base: &str, bases: &BTreeMap<&'a str, usize>) -> Vec<&'a str> {
    let start = format!("{}/", base.trim_end_matches('/'));
    let from = (Bound::Excluded(&*start), Bound::Unbounded);
    let after = bases.range::<str, _>(from).take_while(|(it, _)| it.starts_with(&start));
    let mut below: Vec<_> = after.collect();
    below.sort_unstable_by_key(|(_, place)| **place);
    below.into_iter().map(|(it, _)| *it).collect()
}

/// Whether it lies under another one.
fn is_below(base: &str, bases: &BTreeMap<&str, usize>) -> bool {
    let mut slashes = base.match_indices('/').skip(1);
    base.len() > 1 && bases.contains_key("/")
        || slashes.any(|(end, _)| bases.contains_key(base.split_at(end).0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_under_a_base_path_is_whole_segments_of_it() {
        let all = ["/a/b/c", "/a/b", "/a/bc", "/a-b", "/a", "/ab", "/"];
        let bases: BTreeMap<_, _> = all.iter().enumerate().map(|(at, it)| (*it, at)).collect();
        assert_eq!(below("/", &bases), &all[..6]);
        assert_eq!(below("/a", &bases), ["/a/b/c", "/a/b", "/a/bc"]);
        assert_eq!(below("/a/b", &bases), ["/a/b/c"]);
        assert_eq!(below("/ab", &bases), [""; 0]);
        assert!(all[..6].iter().all(|base| is_below(base, &bases)) && !is_below("/", &bases));
        let bases = BTreeMap::from([("/a", 0), ("/a/b/c", 1), ("/ab", 2)]);
        let is_below: Vec<_> = bases.keys().filter(|base| is_below(base, &bases)).collect();
        assert_eq!(is_below, [&"/a/b/c"]);
    }
}
