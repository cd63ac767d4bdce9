//! Which filter decides about the calls of each Envoy. Pure: time and processes are told.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::time::{Duration, Instant};

use imp_module::matrix;
use imp_xds::StreamId;

use super::process::Process;

/// An Envoy that ends so often within [`WITHIN`] with the module gets ext_authz.
const DEATHS: usize = 2;
const WITHIN: Duration = Duration::from_secs(60);

/// For how long; twice as long each further time, up to [`LONGEST`]. Then it gets the module again.
const STAY: Duration = Duration::from_secs(600);
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// Above this number, those that are not connected are forgotten.
const NODES: usize = 10_000;

/// What decides about the calls of an Envoy, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The module inside it; otherwise it asks the agent.
    pub is_module: bool,
    pub why: Why,
}

/// The reason of a choice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// Tested, verified, and nothing speaks against it.
    Tested,
    /// The operator wants ext_authz.
    Told,
    /// There is no module that could be used.
    NoModule(String),
    /// The verified file is not what it was.
    Altered,
    /// The Envoy is not on this machine, so that it cannot reach the module's files.
    Elsewhere,
    /// The module was not tested with this Envoy.
    Untested(String),
    /// Envoy did not take it.
    Refused(String),
    /// Envoy ended again and again with it.
    Crashed,
}

impl Why {
    /// The label of metrics.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Tested => "tested",
            Self::Told => "told",
            Self::NoModule(_) => "no_module",
            Self::Altered => "altered",
            Self::Elsewhere => "elsewhere",
            Self::Untested(_) => "untested",
            Self::Refused(_) => "refused",
            Self::Crashed => "crashed",
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tested => write!(out, "it is of the tested versions"),
            Self::Told => write!(out, "the operator chose ext_authz"),
            Self::NoModule(why) => write!(out, "there is no module: {why}"),
            Self::Altered => write!(out, "the module's file was changed since it was verified"),
            Self::Elsewhere => {
                write!(out, "it came over TCP, so that it may be on another machine")
            }
            Self::Untested(version) => {
                let tested = matrix::described();
                write!(out, "the module was tested with Envoy {tested}, and this is {version}")
            }
            Self::Refused(words) => write!(out, "Envoy refused the module: {words}"),
            Self::Crashed => write!(out, "Envoy ended twice within a minute with the module"),
        }
    }
}

/// An Envoy that wants to be served.
#[derive(Clone, Copy, Debug)]
pub(super) struct Coming<'a> {
    pub(super) id: &'a str,
    pub(super) version: &'a str,
    /// If it can be seen from here.
    pub(super) process: Option<Process>,
    /// Whether it came over the socket of this machine.
    pub(super) is_local: bool,
}

/// All choices.
#[derive(Debug)]
pub(super) struct Choices {
    /// Whether the operator wants ext_authz.
    pub(super) asks: bool,
    /// Why there is no module.
    pub(super) missing: Option<String>,
    nodes: HashMap<String, Node>,
    streams: BTreeMap<StreamId, Stream>,
}

/// What is known of an Envoy over its connections.
#[derive(Debug)]
struct Node {
    choice: Choice,
    is_local: bool,
    process: Option<Process>,
    /// When it was found that its process had ended with the module; the last ones.
    deaths: Vec<Instant>,
    aside: Option<Aside>,
    stays: u32,
}

/// It gets ext_authz for now.
#[derive(Clone, Debug)]
struct Aside {
    until: Instant,
    why: Why,
}

#[derive(Debug)]
struct Stream {
    node: String,
    version: String,
    is_module: bool,
}

impl Choices {
    pub(super) fn new(asks: bool, missing: Option<String>) -> Self {
        Self { asks, missing, nodes: HashMap::new(), streams: BTreeMap::new() }
    }

    /// Chooses for an Envoy that comes. `is_intact`: the file is what was verified.
    pub(super) fn choose(
        &mut self,
        coming: Coming<'_>,
        is_intact: bool,
        lives: impl Fn(Process) -> bool,
        now: Instant,
    ) -> Choice {
        let Coming { id, version, process, is_local } = coming;
        if self.nodes.len() >= NODES {
            let connected = |id: &String| self.streams.values().any(|stream| stream.node == *id);
            self.nodes.retain(|id, _| connected(id));
        }
        if let Some(node) = self.nodes.get_mut(id) {
            let before = node.process.filter(|before| Some(*before) != process);
            if node.choice.is_module && before.is_some_and(|before| !lives(before)) {
                node.died(now);
            }
        }
        let mut choice = self.now((id, is_local), version, now);
        if choice.is_module && !is_intact {
            choice = Choice { is_module: false, why: Why::Altered };
        }
        let fresh = || Node {
            choice: choice.clone(),
            is_local,
            process: None,
            deaths: Vec::new(),
            aside: None,
            stays: 0,
        };
        let node = self.nodes.entry(id.to_owned()).or_insert_with(fresh);
        node.is_local = is_local;
        node.process = process.or(node.process);
        node.choice = choice.clone();
        choice
    }

    /// What such an Envoy should have now.
    fn now(&self, (id, is_local): (&str, bool), version: &str, now: Instant) -> Choice {
        let no = |why| Choice { is_module: false, why };
        if self.asks {
            return no(Why::Told);
        }
        if let Some(why) = &self.missing {
            return no(Why::NoModule(why.clone()));
        }
        if !is_local {
            return no(Why::Elsewhere);
        }
        if !matrix::is_tested(version, std::env::consts::ARCH) {
            return no(Why::Untested(version.to_owned()));
        }
        let aside = self.nodes.get(id).and_then(|node| node.aside.as_ref());
        match aside.filter(|aside| now < aside.until) {
            Some(aside) => no(aside.why.clone()),
            None => Choice { is_module: true, why: Why::Tested },
        }
    }

    /// It did not take the module.
    pub(super) fn refused(&mut self, stream: StreamId, words: &str, now: Instant) {
        let node = self.streams.get(&stream).and_then(|stream| self.nodes.get_mut(&stream.node));
        if let Some(node) = node {
            node.put_aside(Why::Refused(words.to_owned()), now);
        }
    }

    /// It has come, with what was chosen for it.
    /// Returns whether that is the module.
    pub(super) fn opened(&mut self, stream: StreamId, id: &str, version: &str) -> bool {
        let is_module = self.nodes.get(id).is_some_and(|node| node.choice.is_module);
        let of = Stream { node: id.to_owned(), version: version.to_owned(), is_module };
        self.streams.insert(stream, of);
        is_module
    }

    pub(super) fn closed(&mut self, stream: StreamId) {
        self.streams.remove(&stream);
    }

    /// Takes the streams whose Envoys should have the other filter: they must come again.
    pub(super) fn take_wrong(&mut self, now: Instant) -> Vec<StreamId> {
        let right = |stream: &Stream| {
            let is_local = self.nodes.get(&stream.node).is_none_or(|node| node.is_local);
            self.now((&stream.node, is_local), &stream.version, now).is_module
        };
        let wrong = self.streams.iter().filter(|(_, it)| right(it) != it.is_module);
        let wrong: Vec<_> = wrong.map(|(stream, _)| *stream).collect();
        wrong.iter().for_each(|stream| self.closed(*stream));
        wrong
    }

    /// The last choice for an Envoy.
    pub(super) fn of(&self, id: &str) -> Option<&Choice> {
        self.nodes.get(id).map(|node| &node.choice)
    }

    /// How many connected Envoys have the module, and how many ask.
    pub(super) fn counts(&self) -> (usize, usize) {
        let inside = self.streams.values().filter(|stream| stream.is_module).count();
        (inside, self.streams.len() - inside)
    }
}

impl Node {
    fn died(&mut self, now: Instant) {
        self.deaths.retain(|death| now.saturating_duration_since(*death) < WITHIN);
        self.deaths.push(now);
        if self.deaths.len() >= DEATHS {
            self.deaths.clear();
            self.put_aside(Why::Crashed, now);
        }
    }

    fn put_aside(&mut self, why: Why, now: Instant) {
        let stay = STAY.saturating_mul(1 << self.stays.min(16)).min(LONGEST);
        self.stays += 1;
        self.aside = Some(Aside { until: now + stay, why });
    }
}

#[cfg(test)]
mod tests;
