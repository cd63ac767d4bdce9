//! What the module is tested with. Elsewhere the agent decides about calls.

/// A release of Envoy, and the machines that it was tested on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tested {
    /// The first two numbers of its version.
    pub envoy: &'static str,
    /// As in `std::env::consts::ARCH`.
    pub architectures: &'static [&'static str],
}

/// The tested Envoys.
pub const MATRIX: &[Tested] = &[Tested { envoy: "1.40", architectures: &["x86_64"] }];

impl Tested {
    /// Whether a version is of this release.
    pub fn is(&self, version: &str) -> bool {
        let behind = version.strip_prefix(self.envoy);
        behind.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }
}

/// Whether the module was tested with this version of Envoy on such a machine.
pub fn is_tested(version: &str, architecture: &str) -> bool {
    let mut of = MATRIX.iter().filter(|tested| tested.is(version));
    of.any(|tested| tested.architectures.contains(&architecture))
}

/// The matrix on one line.
pub fn described() -> String {
    let one = |tested: &Tested| format!("{} ({})", tested.envoy, tested.architectures.join(", "));
    MATRIX.iter().map(one).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_matrix_has_whole_versions() {
        for (version, tested) in
            [("1.40.0", true), ("1.40", true), ("1.4.0", false), ("1.400.1", false), ("", false)]
        {
            assert_eq!(is_tested(version, "x86_64"), tested, "{version}");
        }
        assert!(!is_tested("1.40.0", "s390x"));
        assert!(described().contains("1.40 (x86_64"), "{}", described());
    }
}
