//! Groups the publishes of a host by base path.

use std::borrow::Cow;

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
    let bases: Vec<&str> = members.iter().map(|m| &*m.base_path).collect();
    let of_base = members.chunk_by(|a, b| a.base_path == b.base_path);
    let mut groups = Vec::new();
    for chunk in of_base {
        let Some(first) = chunk.first() else { continue };
        let base = &*first.base_path;
        let mut below: Vec<_> = bases.iter().copied().filter(|it| holds(base, it)).collect();
        below.dedup();
        let closed = respelled::closed(&below).into_iter().map(Cow::Owned);
        let own = chunk.iter().flat_map(|m| &m.routes).map(Cow::Borrowed);
        let mut routes: Vec<_> = closed.chain(own).collect();
        let above = bases.iter().any(|other| holds(other, base));
        if above && !chunk.iter().any(|member| member.suspended) {
            routes.push(Cow::Owned(route::closed(base, 404, "no_route", "No such route")));
        }
        groups.push(Group { base, routes });
    }
    groups
}

/// Whether `inner` lies under `outer` and differs from it.
fn holds(outer: &str, inner: &str) -> bool {
    let outer = outer.trim_end_matches('/');
    inner.strip_prefix(outer).is_some_and(|rest| rest.len() > 1 && rest.starts_with('/'))
}
