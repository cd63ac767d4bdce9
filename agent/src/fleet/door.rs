//! Which filter decides about calls: the module, as long as every Envoy of this agent can have it.
//! Otherwise all of them get ext_authz until the agent starts again, because they share resources.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use imp_translate::xds::{EXTENSION, LISTENER};
use imp_translate::{Door, Options};

use super::core::Core;
use crate::module::is_tested;

/// Whether the module decides. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Decider {
    is_module: Arc<AtomicBool>,
}

impl Decider {
    pub(super) fn of(options: &Options) -> Self {
        let is_module = options.door != Door::ExtAuthz;
        metrics::gauge!("imp_door_module").set(if is_module { 1.0 } else { 0.0 });
        Self { is_module: Arc::new(AtomicBool::new(is_module)) }
    }

    /// Whether an Envoy of this version can be served.
    pub(super) fn suits(&self, version: &str) -> bool {
        !self.is_module() || is_tested(version)
    }

    pub(super) fn is_module(&self) -> bool {
        self.is_module.load(Ordering::Acquire)
    }
}

/// Whether Envoy refuses a listener for what it has of the module.
fn names_the_module(words: &str) -> bool {
    let words = words.to_ascii_lowercase();
    words.contains("dynamic module") || words.contains("early_header_mutation")
}

impl Core {
    /// An Envoy of another version than the module was tested with wants to be served.
    pub(super) fn untested(&mut self, id: &str, version: &str) {
        self.fall_back(&format!("{id} is Envoy {version}"));
    }

    /// An Envoy refused an extension, or a listener, in which the module is, too.
    pub(super) fn door_refused(&mut self, type_url: &str, version: &str, words: &str) {
        let is_door = type_url == EXTENSION && self.assembly.door_version() == version;
        if is_door || type_url == LISTENER && names_the_module(words) {
            self.fall_back(words);
        }
    }

    /// The agent decides from now on.
    fn fall_back(&mut self, why: &str) {
        if !self.decider.is_module() {
            return;
        }
        tracing::error!(
            why,
            "THE MODULE CANNOT DECIDE: all Envoys of this agent ask it about each call, until it starts again"
        );
        let delta = self.assembly.set_ext_authz();
        self.stage(delta);
        // Its publishes need another version of the filter.
        let all: Vec<_> = self.revisions.keys().cloned().collect();
        all.iter().for_each(|id| self.note_stale(id));
        // First, so that no Envoy that may come now gets the module.
        self.commit();
        self.decider.is_module.store(false, Ordering::Release);
        metrics::gauge!("imp_door_module").set(0.0);
    }
}
