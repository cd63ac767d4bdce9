//! The ports of a cluster that gateways may listen on.

use std::num::NonZeroU16;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::check::{Check, Fault, Violations};

/// Ports from `first` to `last`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PortRange {
    /// At least 1.
    #[schema(value_type = u16, minimum = 1, example = 8000)]
    pub first: NonZeroU16,
    /// At least `first`.
    #[schema(value_type = u16, minimum = 1, example = 8999)]
    pub last: NonZeroU16,
}

impl Check for PortRange {
    fn check(&self, v: &mut Violations) {
        if self.last < self.first {
            v.add("last", "out_of_range", "not below first");
        }
    }
}

impl PortRange {
    /// Whether the range contains the port.
    pub fn holds(self, port: u16) -> bool {
        (self.first.get()..=self.last.get()).contains(&port)
    }

    /// Parses `18000` or `15000-15010`.
    fn parse(text: &str) -> Option<Self> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let range = Self { first: first.trim().parse().ok()?, last: last.trim().parse().ok()? };
        (range.first <= range.last).then_some(range)
    }
}

/// HTTP, HTTPS, and unprivileged ports.
pub fn usual_ranges() -> Vec<PortRange> {
    let range = |first, last| {
        Some(PortRange { first: NonZeroU16::new(first)?, last: NonZeroU16::new(last)? })
    };
    [range(80, 80), range(443, 443), range(1024, u16::MAX)].into_iter().flatten().collect()
}

/// The platform's own ports, which no gateway of any cluster may listen on.
#[derive(Clone, Debug, Default)]
pub struct ReservedPorts(Vec<PortRange>);

impl ReservedPorts {
    /// Parses ports and ranges.
    pub fn parse<'a>(entries: impl IntoIterator<Item = &'a str>) -> Result<Self, Fault> {
        let entries = entries.into_iter().map(str::trim).filter(|entry| !entry.is_empty());
        let range = |entry: &str| {
            let why = || Fault::new("invalid_port", format!("'{entry}' is no port and no range"));
            PortRange::parse(entry).ok_or_else(why)
        };
        entries.map(range).collect::<Result<_, _>>().map(Self)
    }

    /// Whether the port is reserved.
    pub fn hold(&self, port: u16) -> bool {
        self.0.iter().any(|range| range.holds(port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn privileged_ports_other_than_http_and_https_are_not_usual() {
        let usual = |port| usual_ranges().iter().any(|range| range.holds(port));
        for (port, expected) in
            [(22, false), (79, false), (80, true), (443, true), (1023, false), (1024, true)]
        {
            assert_eq!(usual(port), expected, "{port}");
        }
        assert!(usual(u16::MAX));
    }

    #[test]
    fn reserved_ports_are_ports_and_ranges() {
        let reserved = ReservedPorts::parse(["18000", "15000 - 15010", ""]).unwrap();
        for (port, expected) in
            [(18000, true), (18001, false), (15000, true), (15010, true), (15011, false)]
        {
            assert_eq!(reserved.hold(port), expected, "{port}");
        }
        for bad in ["x", "0", "70000", "2-1", "1-2-3"] {
            assert!(ReservedPorts::parse([bad]).is_err(), "{bad}");
        }
    }
}
