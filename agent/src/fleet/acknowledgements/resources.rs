//! The resources that publishes need. Those of a listener, the door and clusters are many
//! publishes' needs, so they are held once.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::Key;

/// A version of a resource that must be acknowledged.
#[derive(Debug)]
pub(super) struct Need {
    pub(super) key: Key,
    pub(super) version: Arc<str>,
}

/// The needed resources, with the publishes that need each.
#[derive(Debug, Default)]
pub(super) struct Resources {
    by_type: HashMap<&'static str, HashMap<Arc<str>, Needed>>,
}

#[derive(Debug)]
struct Needed {
    /// In the version that was asked for last; few are needed in two.
    need: Arc<Need>,
    users: Users,
}

/// The publishes that need a resource: one, for most scopes.
#[derive(Debug)]
enum Users {
    One(Arc<str>),
    Several(BTreeSet<Arc<str>>),
}

impl Resources {
    /// A need of a publish, shared with others. The texts are those of the rendered resource.
    pub(super) fn need(
        &mut self,
        publish: &Arc<str>,
        (type_url, name, version): (&'static str, Arc<str>, Arc<str>),
    ) -> Arc<Need> {
        let of_type = self.by_type.entry(type_url).or_default();
        let Some(known) = of_type.get_mut(&name) else {
            let need = Arc::new(Need { key: (type_url, name.clone()), version });
            let users = Users::One(publish.clone());
            of_type.insert(name, Needed { need: need.clone(), users });
            return need;
        };
        known.users.add(publish);
        if known.need.version != version {
            let key = known.need.key.clone();
            known.need = Arc::new(Need { key, version });
        }
        known.need.clone()
    }

    /// The publish no longer needs it.
    pub(super) fn leave(&mut self, (type_url, name): &Key, publish: &Arc<str>) {
        let Some(of_type) = self.by_type.get_mut(type_url) else { return };
        if of_type.get_mut(name).is_some_and(|needed| needed.users.remove(publish)) {
            of_type.remove(name);
        }
    }

    /// The version that was asked for last.
    pub(super) fn version(&self, key: &Key) -> Option<&Arc<str>> {
        self.get(key).map(|needed| &needed.need.version)
    }

    pub(super) fn users_of(&self, key: &Key) -> impl Iterator<Item = &Arc<str>> {
        self.get(key).into_iter().flat_map(|needed| needed.users.iter())
    }

    fn get(&self, (type_url, name): &Key) -> Option<&Needed> {
        self.by_type.get(type_url)?.get(name)
    }
}

impl Users {
    fn add(&mut self, publish: &Arc<str>) {
        match self {
            Self::One(one) if one == publish => {}
            Self::One(one) => {
                let both = BTreeSet::from([one.clone(), publish.clone()]);
                *self = Self::Several(both);
            }
            Self::Several(all) => drop(all.insert(publish.clone())),
        }
    }

    /// Returns whether nobody is left.
    fn remove(&mut self, publish: &Arc<str>) -> bool {
        match self {
            Self::One(one) => one == publish,
            Self::Several(all) => {
                all.remove(publish);
                all.is_empty()
            }
        }
    }

    fn iter(&self) -> impl Iterator<Item = &Arc<str>> {
        let (one, several) = match self {
            Self::One(one) => (Some(one), None),
            Self::Several(all) => (None, Some(all.iter())),
        };
        one.into_iter().chain(several.into_iter().flatten())
    }
}
