//! Which streams are of one Envoy. Usually that is one; an Envoy whose aggregated stream is somebody else's has one
//! for each type, and is one target all the same.

use std::collections::{BTreeMap, HashMap};

use imp_xds::StreamId;

use super::tracker::TargetId;

#[derive(Debug, Default)]
pub(super) struct Streams {
    targets: HashMap<StreamId, TargetId>,
    nodes: HashMap<Node, TargetId>,
    open: BTreeMap<TargetId, Open>,
}

/// What an Envoy calls itself, and its gateway.
type Node = (String, Option<String>);

#[derive(Debug)]
struct Open {
    node: Node,
    streams: BTreeMap<StreamId, &'static str>,
}

impl Streams {
    /// Takes a stream of one type. Returns its target, and whether that is new.
    pub(super) fn came(
        &mut self,
        stream: StreamId,
        node: Node,
        of_type: &'static str,
    ) -> (TargetId, bool) {
        let known = self.nodes.get(&node).copied();
        // An id of a stream is given once.
        let target = *self.nodes.entry(node.clone()).or_insert(stream);
        let open =
            self.open.entry(target).or_insert_with(|| Open { node, streams: BTreeMap::new() });
        open.streams.insert(stream, of_type);
        self.targets.insert(stream, target);
        (target, known.is_none())
    }

    /// The target of a stream.
    pub(super) fn target(&self, stream: StreamId) -> TargetId {
        self.targets.get(&stream).copied().unwrap_or(stream)
    }

    /// Removes a stream. Returns its target if that has none any more.
    pub(super) fn left(&mut self, stream: StreamId) -> Option<TargetId> {
        let Some(target) = self.targets.remove(&stream) else { return Some(stream) };
        let open = self.open.get_mut(&target)?;
        open.streams.remove(&stream);
        if !open.streams.is_empty() {
            return None;
        }
        let open = self.open.remove(&target)?;
        self.nodes.remove(&open.node);
        Some(target)
    }

    /// The streams on which a target has a type.
    pub(super) fn of(&self, target: TargetId, type_url: &str) -> Vec<StreamId> {
        let Some(open) = self.open.get(&target) else { return vec![target] };
        let of_type = open.streams.iter().filter(|(_, own)| **own == type_url);
        of_type.map(|(stream, _)| *stream).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_of_one_envoy_are_one_target() {
        let mut streams = Streams::default();
        let node = |id: &str| (id.to_owned(), Some("g".to_owned()));
        assert_eq!(streams.came(1, node("a"), "scope"), (1, true));
        assert_eq!(streams.came(2, node("a"), "door"), (1, false));
        assert_eq!(streams.came(3, node("b"), "scope"), (3, true));
        assert_eq!((streams.target(2), streams.target(9)), (1, 9));
        assert_eq!(streams.of(1, "door"), vec![2]);
        assert_eq!(streams.left(1), None);
        assert_eq!(streams.came(4, node("a"), "scope"), (1, false), "it came back");
        assert_eq!(streams.left(2), None);
        assert_eq!(streams.left(4), Some(1));
        assert_eq!(streams.came(5, node("a"), "scope"), (5, true));
        assert_eq!(streams.left(9), Some(9), "an aggregated stream is its own target");
    }
}
