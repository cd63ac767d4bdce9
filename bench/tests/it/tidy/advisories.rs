//! Known vulnerabilities of crates, listed by hand: `cargo deny check` needs a database that not
//! every machine can reach. Versions as in the RustSec database of 2026-08-21; jsonwebtoken's is
//! not in it.

/// Crate, the first fixed version, and the fault of earlier ones.
const MINIMUM: &[(&str, &str, &str)] = &[
    ("aws-lc-sys", "0.39.0", "faults of the C library"),
    ("bytes", "1.11.1", "unsound"),
    ("crossbeam-channel", "0.5.15", "RUSTSEC-2025-0024: double free on drop"),
    ("h2", "0.4.16", "RUSTSEC-2026-0258: empty DATA frames without end"),
    ("hickory-proto", "0.26.1", "several; RUSTSEC-2026-0118 has no mended version at all"),
    ("idna", "1.0.0", "RUSTSEC-2024-0421: two spellings of one name"),
    ("jsonwebtoken", "10.3.0", "CVE-2026-25537: an exp of the wrong type counts as absent"),
    ("lz4_flex", "0.11.6", "tells memory of others"),
    ("protobuf", "3.7.2", "RUSTSEC-2024-0437: recursion without end"),
    ("rustls", "0.23.18", "RUSTSEC-2024-0399: panic while a connection is accepted"),
    ("rustls-webpki", "0.103.13", "certificates that it should refuse"),
    ("sqlx", "0.8.1", "RUSTSEC-2024-0363: lengths of the protocol overflow"),
    ("tar", "0.4.45", "writes outside of its folder"),
    ("time", "0.3.47", "a date that is parsed overflows the stack"),
    ("tokio", "1.44.2", "RUSTSEC-2025-0023: unsound broadcast channel"),
    ("tonic", "0.12.3", "RUSTSEC-2024-0376: an error of accept ends the server"),
    ("tracing-subscriber", "0.3.20", "RUSTSEC-2025-0055: escape sequences reach the terminal"),
];

/// No version of these is acceptable.
const NEVER: &[(&str, &str)] = &[
    ("rsa", "RUSTSEC-2023-0071 (Marvin): a timing leak that nobody has mended"),
    ("serde_yml", "unsound and abandoned"),
];

/// The entries of a Cargo.lock that are not allowed.
pub(super) fn faults(lock: &str) -> Vec<String> {
    let mut faults = Vec::new();
    for package in lock.split("[[package]]").skip(1) {
        let field = |name: &str| {
            let line = package.lines().find_map(|line| line.strip_prefix(name))?;
            Some(line.trim_start_matches(" = ").trim_matches('"'))
        };
        let (Some(name), Some(version)) = (field("name"), field("version")) else { continue };
        let old = MINIMUM.iter().filter(|(of, least, _)| *of == name && older(version, least));
        faults.extend(old.map(|(_, least, why)| format!("{name} {version} < {least}: {why}")));
        let never = NEVER.iter().filter(|(of, _)| *of == name);
        faults.extend(never.map(|(_, why)| format!("{name} {version}: {why}")));
    }
    faults
}

/// A pre-release is older than its release, as Cargo has it.
fn older(version: &str, least: &str) -> bool {
    let parts = |text: &str| {
        let (plain, rest) = text.split_once(['-', '+']).unwrap_or((text, ""));
        let pre = text.contains('-') && !rest.is_empty();
        let numbers: Vec<u64> = plain.split('.').map(|part| part.parse().unwrap_or(0)).collect();
        (numbers, !pre)
    };
    parts(version) < parts(least)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, version: &str) -> String {
        format!("[[package]]\nname = \"{name}\"\nversion = \"{version}\"\nsource = \"x\"\n\n")
    }

    #[test]
    fn a_known_fault_is_found_and_a_mended_one_is_not() {
        let good = [("h2", "0.4.16"), ("h2", "0.10.0"), ("h2", "1.0.0"), ("serde", "0.0.1")];
        let good: String = good.iter().map(|(name, version)| package(name, version)).collect();
        assert_eq!(faults(&good), Vec::<String>::new());
        for (name, version) in [("h2", "0.4.15"), ("h2", "0.4.16-alpha.1"), ("rsa", "9.9.9")] {
            assert_eq!(faults(&package(name, version)).len(), 1, "{name} {version}");
        }
    }

    #[test]
    fn the_list_is_sorted_and_names_each_crate_once() {
        assert!(MINIMUM.is_sorted_by(|a, b| a.0 < b.0));
    }
}
