//! A client's subscriptions of one type.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Names, or everything.
#[derive(Debug, Default)]
pub(super) struct Subscription {
    wildcard: bool,
    names: HashSet<Arc<str>>,
    /// The names that stand for a collection.
    globs: Vec<Glob>,
    /// Subscribed aliases, with the names behind them.
    links: HashMap<Arc<str>, Arc<str>>,
    /// Names behind aliases, each with the number of its aliases.
    linked: HashMap<Arc<str>, usize>,
    bytes: usize,
    started: bool,
    /// Whether any name was ever subscribed, including `*`.
    named: bool,
}

/// `xdstp://authority/type/path/*?context`: everything directly in the path, with the same context
/// (R20).
#[derive(Debug)]
pub(super) struct Glob {
    text: Arc<str>,
    /// The length up to the star.
    head: usize,
}

impl Glob {
    pub(super) fn parse(text: &Arc<str>) -> Option<Self> {
        let path = text.split('?').next().filter(|path| path.starts_with("xdstp://"))?;
        let head = path.strip_suffix('*').filter(|head| head.ends_with('/'))?;
        Some(Self { text: text.clone(), head: head.len() })
    }

    pub(super) fn text(&self) -> &Arc<str> {
        &self.text
    }

    pub(super) fn matches(&self, name: &str) -> bool {
        let (head, context) = self.text.split_at(self.head);
        let context = context.strip_prefix('*').unwrap_or(context);
        let leaf = name.strip_prefix(head).and_then(|rest| rest.strip_suffix(context));
        leaf.is_some_and(|leaf| !leaf.is_empty() && !leaf.contains(['/', '?']))
    }
}

/// The overhead of a name besides its text: its entries in sets.
const NAME_OVERHEAD: usize = 64;

/// The effect of a request.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Changed {
    /// Must be answered, whatever the client has (R13, R16).
    pub(super) asked: Vec<Arc<str>>,
    /// No longer subscribed.
    pub(super) dropped: Vec<Arc<str>>,
    /// Everything is subscribed from now on.
    pub(super) became_wildcard: bool,
    /// Everything is no longer subscribed.
    pub(super) ended_wildcard: bool,
    /// A first request without names: it is answered, whatever it means.
    pub(super) is_bare: bool,
}

impl Subscription {
    pub(super) fn wants(&self, name: &str) -> bool {
        self.wildcard
            || self.names.contains(name)
            || self.linked.contains_key(name)
            || self.globs.iter().any(|glob| glob.matches(name))
    }

    /// Uses the resource set's copy of a name instead of its own, so that clients share their
    /// names.
    pub(super) fn share(&mut self, name: &Arc<str>) {
        if self.names.contains(name) {
            self.names.replace(name.clone());
        }
    }

    /// Whether this name itself was subscribed.
    pub(super) fn has(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// Records that a subscribed name is an alias (R18).
    pub(super) fn link(&mut self, alias: &Arc<str>, name: &Arc<str>) {
        if self.links.get(alias) != Some(name) {
            self.unlink(alias);
            self.links.insert(alias.clone(), name.clone());
            *self.linked.entry(name.clone()).or_default() += 1;
        }
    }

    /// Removes the alias of a name that is no longer subscribed.
    fn unlink(&mut self, alias: &str) {
        self.globs.retain(|glob| &*glob.text != alias);
        let Some(name) = self.links.remove(alias) else { return };
        if let Some(aliases) = self.linked.get_mut(&name) {
            *aliases -= 1;
            if *aliases == 0 {
                self.linked.remove(&name);
            }
        }
    }

    pub(super) fn is_wildcard(&self) -> bool {
        self.wildcard
    }

    /// Whether more than [`Self::list`] may be subscribed.
    pub(super) fn is_open_ended(&self) -> bool {
        self.wildcard || !self.globs.is_empty()
    }

    pub(super) fn names(&self) -> usize {
        self.names.len()
    }

    /// Whether there was a request.
    pub(super) fn started(&self) -> bool {
        self.started
    }

    /// The approximate memory of the names.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Subscribes before it unsubscribes, so that `*` in both subscribes to nothing (R11).
    pub(super) fn update(
        &mut self,
        subscribe: &[String],
        unsubscribe: &[String],
        legacy: bool,
    ) -> Changed {
        let mut changed = Changed::default();
        let first = !std::mem::replace(&mut self.started, true);
        let was_wildcard = self.wildcard;
        changed.is_bare = first && subscribe.is_empty();
        if changed.is_bare && legacy {
            self.wildcard = true; // R10
        }
        for name in subscribe {
            self.subscribe(name, &mut changed);
        }
        for name in unsubscribe {
            self.unsubscribe(name, &mut changed);
        }
        changed.became_wildcard = self.wildcard && !was_wildcard;
        changed.ended_wildcard = !self.wildcard && was_wildcard;
        changed
    }

    /// Replaces the whole list, for the state-of-the-world protocol: only new names are requested
    /// (R52). Without names it means everything until a name was in it once (R10, R53).
    pub(super) fn replace(&mut self, names: &[String], legacy: bool) -> Changed {
        let mut changed = Changed::default();
        self.started = true;
        let was_wildcard = self.wildcard;
        let listed: HashSet<&str> = names.iter().map(String::as_str).collect();
        let implicit = names.is_empty() && legacy && !self.named;
        self.wildcard = implicit || listed.contains("*");
        for name in &listed {
            if !self.names.contains(*name) {
                self.subscribe(name, &mut changed);
            }
        }
        let dropped = self.names.iter().filter(|name| !listed.contains(&***name));
        changed.dropped = dropped.cloned().collect();
        for name in &changed.dropped {
            self.names.remove(name);
            self.unlink(name);
            self.bytes = self.bytes.saturating_sub(name.len() + NAME_OVERHEAD);
        }
        changed.became_wildcard = self.wildcard && !was_wildcard;
        changed.ended_wildcard = !self.wildcard && was_wildcard;
        changed
    }

    /// The names, without `*`, and those behind aliases.
    pub(super) fn list(&self) -> impl Iterator<Item = &Arc<str>> {
        let linked = self.linked.keys().filter(|name| !self.names.contains(*name));
        self.names.iter().chain(linked)
    }

    fn subscribe(&mut self, name: &str, changed: &mut Changed) {
        self.named = true;
        if name == "*" {
            self.wildcard = true;
            return;
        }
        let name: Arc<str> = name.into();
        if self.names.insert(name.clone()) {
            self.globs.extend(Glob::parse(&name));
            self.bytes += name.len() + NAME_OVERHEAD;
        }
        changed.asked.push(name);
    }

    fn unsubscribe(&mut self, name: &str, changed: &mut Changed) {
        if name == "*" {
            self.wildcard = false;
            return;
        }
        let Some(name) = self.names.take(name) else { return }; // R15: phantom
        self.unlink(&name);
        self.bytes = self.bytes.saturating_sub(name.len() + NAME_OVERHEAD);
        changed.asked.retain(|asked| *asked != name);
        if self.wildcard {
            changed.asked.push(name); // R16: still wanted by the wildcard
        } else {
            changed.dropped.push(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn r10_only_a_first_request_without_names_means_everything() {
        let mut subscription = Subscription::default();
        assert!(subscription.update(&[], &[], true).became_wildcard);
        let mut named = Subscription::default();
        named.update(&names(&["a"]), &[], true);
        assert!(!named.update(&[], &names(&["a"]), true).became_wildcard);
        assert!(!named.wants("b"));
    }

    #[test]
    fn r10_a_name_keeps_the_implicit_wildcard_until_it_is_unsubscribed() {
        let mut subscription = Subscription::default();
        subscription.update(&[], &[], true);
        subscription.update(&names(&["a"]), &[], true);
        assert!(subscription.wants("b"));
        assert!(subscription.update(&[], &names(&["*"]), true).ended_wildcard);
        assert!(subscription.wants("a") && !subscription.wants("b"));
    }

    #[test]
    fn r11_star_in_both_lists_subscribes_to_nothing() {
        let mut subscription = Subscription::default();
        let changed = subscription.update(&names(&["*"]), &names(&["*"]), true);
        assert_eq!(changed, Changed::default());
        assert!(!subscription.wants("a"));
    }

    #[test]
    fn r20_a_glob_holds_what_lies_directly_in_its_path_and_context() {
        let glob = Glob::parse(&"xdstp://auth/t/a/*?k=v".into()).expect("a glob");
        assert!(glob.matches("xdstp://auth/t/a/one?k=v"));
        for other in ["xdstp://auth/t/a/one", "xdstp://auth/t/a/b/one?k=v", "xdstp://auth/t/a/?k=v"]
        {
            assert!(!glob.matches(other), "{other}");
        }
        for name in ["*", "a/*", "xdstp://auth/t/a", "xdstp://auth/t/a*", "xdstp://auth/t/a?k=/*"] {
            assert!(Glob::parse(&name.into()).is_none(), "{name}");
        }
    }

    #[test]
    fn r12_types_without_legacy_wildcard_need_a_star() {
        let mut subscription = Subscription::default();
        assert!(!subscription.update(&[], &[], false).became_wildcard);
        assert!(subscription.update(&names(&["*"]), &[], false).became_wildcard);
    }

    #[test]
    fn r15_r16_unsubscribing_is_answered_only_while_the_wildcard_wants_the_name() {
        let mut subscription = Subscription::default();
        subscription.update(&names(&["a"]), &[], true);
        assert_eq!(subscription.update(&[], &names(&["a", "phantom"]), true).dropped, ["a".into()]);
        subscription.update(&names(&["*", "b"]), &[], true);
        assert_eq!(subscription.update(&[], &names(&["b"]), true).asked, ["b".into()]);
    }
}
