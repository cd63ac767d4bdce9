//! What publishes with equal content share: everything but their ids, revisions and hosts. So it is
//! rendered once, however many hosts it is at.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};

use sha2::{Digest, Sha256};

use super::route::{self, Route};
use super::{Options, Rendered, cluster, methods};
use crate::ir;

/// Tells contents, and lists of them, from each other. 128 bits: nobody finds two with one hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key([u8; 16]);

impl Key {
    /// Of a publish. Tenant, product, environment and gateway are part of its content, so that
    /// nobody shares with another one.
    pub(crate) fn of(publish: &ir::Content) -> Self {
        Self(publish.hashed.get_or(|| Self::hashed(|hasher| publish.hash(hasher)).0))
    }

    /// Of a list.
    pub(crate) fn of_all<'a>(all: impl Iterator<Item = (&'a Content, u32)>) -> Self {
        Self::hashed(|hasher| all.for_each(|(content, stamp)| (content.key, stamp).hash(hasher)))
    }

    fn hashed(write: impl FnOnce(&mut Bytes)) -> Self {
        let mut bytes = Bytes(Sha256::new());
        write(&mut bytes);
        let digest: [u8; 32] = bytes.0.finalize().into();
        Self(digest.first_chunk().copied().unwrap_or_default())
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Hashes what `derive(Hash)` writes.
struct Bytes(Sha256);

impl Hasher for Bytes {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The whole digest is taken instead.
    fn finish(&self) -> u64 {
        0
    }
}

/// The rendered content of publishes.
#[derive(Debug)]
pub(crate) struct Content {
    pub(crate) key: Key,
    pub(crate) base_path: Box<str>,
    pub(crate) suspended: bool,
    /// In the order of their names.
    pub(crate) clusters: Box<[Rendered]>,
    pub(crate) routes: Box<[Route]>,
}

impl Content {
    /// Renders a publish. `intern` returns an equal cluster that is there already, or its argument.
    pub(crate) fn render(
        publish: &ir::Content,
        key: Key,
        options: &Options,
        intern: impl Fn(Rendered) -> Rendered,
    ) -> Self {
        let mut clusters = BTreeMap::new();
        let mut cluster_of = |backend: &ir::Backend| {
            let rendered = intern(cluster::render(&publish.tenant_id, backend, &options.upstreams));
            let name = rendered.name.to_string();
            clusters.insert(rendered.name.clone(), rendered);
            name
        };
        let routes = routes(publish, options.has_module(), &mut cluster_of);
        Self {
            key,
            base_path: publish.base_path.as_str().into(),
            suspended: publish.suspended,
            clusters: clusters.into_values().collect(),
            routes: routes.into(),
        }
    }

    pub(crate) fn uses(&self, cluster: &str) -> bool {
        self.clusters.binary_search_by(|own| (*own.name).cmp(cluster)).is_ok()
    }
}

/// The routes of one publish. `cluster_of` names the cluster of a backend. A suspended publish
/// forwards nothing.
fn routes(
    publish: &ir::Content,
    for_module: bool,
    cluster_of: &mut dyn FnMut(&ir::Backend) -> String,
) -> Vec<Route> {
    if publish.suspended {
        return vec![route::closed(&publish.base_path, 503, "publish_suspended", "Suspended")];
    }
    let mut renderer = route::Renderer::new(publish, for_module, cluster_of);
    let routes = publish.routes.iter().flat_map(|route| renderer.render(route));
    routes.chain(methods::wrong(publish)).collect()
}

/// Longer base paths first, then the order of the list: that of a host.
pub(crate) fn in_order<T: std::ops::Deref<Target = Content>>(members: &mut [T]) {
    members.sort_by(|a, b| {
        let deeper = depth(&b.base_path).cmp(&depth(&a.base_path));
        deeper.then_with(|| a.base_path.cmp(&b.base_path))
    });
}

fn depth(base_path: &str) -> usize {
    base_path.split('/').filter(|segment| !segment.is_empty()).count()
}
