//! Resources of about 700 bytes, and the mark in them.

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::core::v3::Locality;
use envoy_types::pb::envoy::config::endpoint::v3::{ClusterLoadAssignment, LocalityLbEndpoints};
use envoy_types::pb::google::protobuf::Duration;
use prost::Message as _;

/// The kind of resources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Clusters, subscribed by wildcard.
    Cds,
    /// Endpoints, subscribed by name.
    Eds,
}

impl Kind {
    /// Its name in the servers' arguments.
    pub fn word(self) -> &'static str {
        match self {
            Self::Cds => "cds",
            Self::Eds => "eds",
        }
    }

    /// Its type URL.
    pub fn type_url(self) -> &'static str {
        match self {
            Self::Cds => "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            Self::Eds => "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
        }
    }
}

/// The name of a resource.
pub(super) fn name(index: usize) -> String {
    format!("r-{index:06}")
}

/// The index in a name.
pub(super) fn index(name: &str) -> Option<usize> {
    name.strip_prefix("r-")?.parse().ok()
}

/// The name and bytes of a resource at this generation.
pub fn resource(kind: Kind, index: usize, generation: u64) -> (String, Vec<u8>) {
    let name = name(index);
    // The initial content is the same in every process.
    let at = if generation == 0 { 0 } else { now() };
    let mark = format!("gen={generation:012};at={at:020}");
    let padding = "x".repeat(560);
    let bytes = match kind {
        Kind::Cds => Cluster {
            name: name.clone(),
            alt_stat_name: mark + &padding,
            connect_timeout: Some(Duration { seconds: 1, nanos: 0 }),
            ..Default::default()
        }
        .encode_to_vec(),
        Kind::Eds => ClusterLoadAssignment {
            cluster_name: name.clone(),
            endpoints: vec![LocalityLbEndpoints {
                locality: Some(Locality { region: mark, zone: padding, ..Default::default() }),
                ..Default::default()
            }],
            ..Default::default()
        }
        .encode_to_vec(),
    };
    (name, bytes)
}

/// The generation, and its time.
pub(super) fn read(bytes: &[u8]) -> Option<(u64, u64)> {
    let start = bytes.windows(4).position(|window| window == b"gen=")? + 4;
    let number = |from: usize, digits: usize| {
        std::str::from_utf8(bytes.get(from..from + digits)?).ok()?.parse::<u64>().ok()
    };
    Some((number(start, 12)?, number(start + 12 + 4, 20)?))
}

/// Nanoseconds since 1970: the servers are other processes of the same machine.
pub(super) fn now() -> u64 {
    let nanos = imp_process::clock::now().timestamp_nanos_opt().unwrap_or_default();
    u64::try_from(nanos).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_as_it_was_written() {
        for kind in [Kind::Cds, Kind::Eds] {
            let before = now();
            let (name, bytes) = resource(kind, 42, 7);
            assert_eq!(resource(kind, 1, 0), resource(kind, 1, 0));
            let (generation, at) = read(&bytes).unwrap();
            assert_eq!((index(&name), generation), (Some(42), 7));
            assert!((before..=now()).contains(&at));
            assert!((600..800).contains(&bytes.len()), "{}", bytes.len());
        }
    }
}
