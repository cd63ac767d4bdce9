//! The Envoys that the module runs in: `make test-module-matrix` runs its tests in each, `make test-module-arm`
//! in the one for aarch64.

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Envoy {
    /// Its version, without the number of the patch.
    pub version: &'static str,
    /// The release that is tested.
    pub tested: &'static str,
    /// The version of its ABI. It says only what its log warns of: what counts is that it has the
    /// functions.
    pub abi: &'static str,
    /// Whether it has early header mutations by modules, so that `host` can write the scope's key.
    pub has_hosts: bool,
    /// Whether the module counts bytes there.
    pub counts_bytes: bool,
    /// The machines that it was tested on, as in `std::env::consts::ARCH`.
    pub architectures: &'static [&'static str],
}

/// The oldest first. Every other Envoy is refused, or not chosen: older ones lack functions, and the
/// library is not loaded.
pub const MATRIX: [Envoy; 3] = [
    Envoy {
        version: "1.38",
        tested: "1.38.3",
        abi: "v0.1.0",
        has_hosts: false,
        counts_bytes: false,
        architectures: &["x86_64"],
    },
    Envoy {
        version: "1.39",
        tested: "1.39.3",
        abi: "v0.1.0",
        has_hosts: false,
        counts_bytes: true,
        architectures: &["x86_64"],
    },
    Envoy {
        version: "1.40",
        tested: "1.40.0",
        abi: "v0.2.0",
        has_hosts: true,
        counts_bytes: true,
        architectures: &["x86_64", "aarch64"],
    },
];

/// The versions in which all of the module is there: those that the agent's listeners are for.
pub const TESTED: [&str; 1] = ["1.40"];

/// The row of an Envoy, by its version with or without the number of the patch.
pub fn envoy(version: &str) -> Option<&'static Envoy> {
    MATRIX.iter().find(|envoy| {
        let rest = version.strip_prefix(envoy.version);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    })
}

/// Whether an agent may choose the module for this version of Envoy on such a machine.
pub fn is_tested(version: &str, architecture: &str) -> bool {
    let suits = |envoy: &Envoy| {
        TESTED.contains(&envoy.version) && envoy.architectures.contains(&architecture)
    };
    envoy(version).is_some_and(suits)
}

/// The Envoys that an agent chooses the module for, on one line.
pub fn described() -> String {
    let chosen = MATRIX.iter().filter(|envoy| TESTED.contains(&envoy.version));
    let one = |envoy: &Envoy| format!("{} ({})", envoy.version, envoy.architectures.join(", "));
    chosen.map(one).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_has_its_own_row() {
        let found = |version| envoy(version).map(|envoy| envoy.tested);
        assert_eq!(found("1.40.7"), Some("1.40.0"));
        assert_eq!((found("1.38"), found("1.38.3")), (Some("1.38.3"), Some("1.38.3")));
        for other in ["1.4.0", "1.400.1", "1.37.0", "1.41.0", ""] {
            assert_eq!(found(other), None, "{other}");
        }
        let whole: Vec<_> = MATRIX.iter().filter(|it| it.has_hosts).map(|it| it.version).collect();
        assert_eq!(whole, TESTED);
    }

    #[test]
    fn the_module_is_chosen_where_all_of_it_was_tested() {
        let cases =
            [("1.40.0", true), ("1.40", true), ("1.39.3", false), ("1.4.0", false), ("", false)];
        for (version, tested) in cases {
            assert_eq!(is_tested(version, "x86_64"), tested, "{version}");
        }
        assert!(!is_tested("1.40.0", "s390x"));
        assert!(is_tested("1.40.0", "aarch64"));
        assert_eq!(described(), "1.40 (x86_64, aarch64)");
    }
}
