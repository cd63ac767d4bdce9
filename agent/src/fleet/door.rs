//! Which filter decides about the calls of each Envoy: the module inside it, or the agent over
//! ext_authz. They differ in the slot `imp.door` and in listeners, where the module finds hosts; so Envoys are in two
//! kinds of resource sets.

mod choice;
mod process;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use imp_proto::agent as pb;
use imp_translate::Rendered;
use imp_translate::xds::EXTENSION;
use imp_xds::{AdsServer, Peer, StreamId};

use super::acknowledgements::Key;
use super::core::Core;
use super::tracker::{Outcome, Verdict};
use crate::module::Installed;
use crate::port::Caller;
pub use choice::{Choice, Why};
use choice::{Choices, Coming};
use process::Process;

/// The choices. Clones share them.
#[derive(Clone, Debug)]
pub struct Doors {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    module: Option<Installed>,
    choices: Mutex<Choices>,
}

impl Doors {
    /// The module is there.
    pub fn with(module: Installed) -> Self {
        Self::new(Some(module), Choices::new(false, None))
    }

    /// Every Envoy asks the agent, because there is no module, or nobody wants one.
    pub fn without(why: Option<String>) -> Self {
        let asks = why.is_none();
        let missing = why.unwrap_or_else(|| "--door ext-authz was chosen".to_owned());
        Self::new(None, Choices::new(asks, Some(missing)))
    }

    fn new(module: Option<Installed>, choices: Choices) -> Self {
        metrics::gauge!("imp_door_module").set(if module.is_some() { 1.0 } else { 0.0 });
        Self { shared: Arc::new(Shared { module, choices: Mutex::new(choices) }) }
    }

    /// Whether Envoys may have another filter than the rendered one.
    pub(super) fn has_module(&self) -> bool {
        self.shared.module.is_some()
    }

    /// Chooses for an Envoy that comes.
    pub(super) fn choose(&self, peer: &Peer<'_>, caller: &Caller) -> Choice {
        let (id, version) = (peer.node_id, peer.user_agent_version);
        let process = caller.process().and_then(Process::of);
        let is_intact = self.shared.module.as_ref().is_none_or(Installed::is_intact);
        let is_local = caller.is_local();
        let coming = Coming { id, version, process, is_local };
        let mut choices = self.lock();
        let before = choices.of(id).cloned();
        let choice = choices.choose(coming, is_intact, Process::lives, Instant::now());
        drop(choices);
        if before.as_ref() != Some(&choice) {
            said(id, &choice);
        }
        choice
    }

    /// An Envoy has come. Returns whether it is without the module, beside others that may have it.
    pub(super) fn opened(&self, stream: StreamId, peer: &Peer<'_>) -> bool {
        let mut choices = self.lock();
        let is_module = choices.opened(stream, peer.node_id, peer.user_agent_version);
        measure(&choices);
        self.has_module() && !is_module
    }

    pub(super) fn closed(&self, stream: StreamId) {
        let mut choices = self.lock();
        choices.closed(stream);
        measure(&choices);
    }

    /// The last choice for an Envoy.
    pub fn of(&self, id: &str) -> Option<Choice> {
        self.lock().of(id).cloned()
    }

    /// Whether every Envoy that is connected has the module, and one that comes may.
    pub fn all_have_module(&self) -> bool {
        self.has_module() && {
            let choices = self.lock();
            !choices.asks && choices.counts().1 == 0
        }
    }

    /// Whether the operator wants every Envoy to ask the agent.
    pub fn asks(&self) -> bool {
        self.lock().asks
    }

    /// Why there is no module.
    pub fn missing(&self) -> Option<String> {
        self.lock().missing.clone()
    }

    /// The module.
    pub fn module(&self) -> Option<&Installed> {
        self.shared.module.as_ref()
    }

    /// Until the agent starts again, Envoys ask the agent, or have the module where they can. Those
    /// that are connected change at once. Returns false if there is no module.
    pub fn tell(&self, asks: bool) -> bool {
        let mut choices = self.lock();
        if !asks && choices.missing.is_some() {
            return false;
        }
        choices.asks = asks;
        true
    }

    fn lock(&self) -> MutexGuard<'_, Choices> {
        self.shared.choices.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn said(id: &str, choice: &Choice) {
    let why = &choice.why;
    match (choice.is_module, why) {
        (true, _) => tracing::info!(%id, %why, "the module decides about its calls"),
        (false, Why::Told | Why::NoModule(_) | Why::Elsewhere) => {
            tracing::info!(%id, %why, "it asks the agent about its calls");
        }
        (false, _) => {
            tracing::error!(%id, %why, "AN ENVOY CANNOT HAVE THE MODULE: it asks the agent about its calls");
            metrics::counter!("imp_door_fallbacks_total", "reason" => why.word()).increment(1);
        }
    }
}

fn measure(choices: &Choices) {
    let (inside, asking) = choices.counts();
    metrics::gauge!("imp_door_envoys", "door" => "module").set(inside as f64);
    metrics::gauge!("imp_door_envoys", "door" => "ext_authz").set(asking as f64);
}

impl Core {
    /// An Envoy came that cannot have what is rendered: makes the resource sets of those.
    pub(super) fn separate(&mut self) {
        if self.gateway_resources.separate(self.assembly.plain()) {
            self.mark_proven();
        }
    }

    /// The version that publishes need, if an Envoy without the module has what it gets in its place.
    pub(super) fn stands_for(&self, stream: StreamId, key: &Key, version: &Arc<str>) -> Arc<str> {
        let rendered = self.assembly.with_plain(key.0, &key.1);
        let rendered = rendered.filter(|_| self.plain.contains(&stream));
        let is_plain = |it: &&Rendered| it.plain.as_ref().is_some_and(|it| it.version == *version);
        rendered.filter(is_plain).map_or_else(|| version.clone(), |it| it.version.clone())
    }

    /// An Envoy without the module serves no wildcard, whatever else it has.
    pub(super) fn without_wildcards(&self, outcome: &mut Outcome) {
        if !self.plain.contains(&outcome.target) || matches!(outcome.verdict, Verdict::Refused(_)) {
            return;
        }
        let id = self.tracker.target(outcome.target).map(|target| target.id.as_str());
        if let Some((id, host)) = id.zip(self.assembly.wildcard_of(&outcome.publish)) {
            outcome.verdict = Verdict::Refused(Box::new(no_module(id, host)));
        }
    }

    /// An Envoy refused a filter or a listener. Returns whether that was for the module, which it is
    /// not sent again.
    pub(super) fn door_refused(
        &mut self,
        stream: StreamId,
        key: &Key,
        version: &str,
        words: &str,
    ) -> bool {
        let rendered = self.assembly.with_plain(key.0, &key.1);
        let has_module = rendered.is_some_and(|rendered| *rendered.version == *version);
        let is_for_it = has_module && (key.0 == EXTENSION || names_the_module(words));
        if is_for_it {
            self.doors.lock().refused(stream, words, Instant::now());
        }
        is_for_it
    }

    /// Envoys that should have the other filter must come again; their calls go on meanwhile.
    pub(super) fn change_doors(&self, ads: &AdsServer) {
        let wrong = self.doors.lock().take_wrong(Instant::now());
        wrong.into_iter().for_each(|stream| ads.hang_up(stream, "its filter is being changed"));
    }
}

/// Whether Envoy refuses a listener for what it has of the module, and not for its port.
fn names_the_module(words: &str) -> bool {
    let words = words.to_ascii_lowercase();
    words.contains("dynamic module") || words.contains("early_header_mutation")
}

fn no_module(envoy: &str, host: &str) -> pb::PublishError {
    pb::PublishError {
        code: "no_module".to_owned(),
        resource: host.to_owned(),
        envoy_message: String::new(),
        hint: format!(
            "Envoy {envoy} answers 404 for host {host}: it has not got the module, which finds \
             wildcards. The agent's /status says why (door_reason)."
        ),
    }
}
