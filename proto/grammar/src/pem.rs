//! Certificates of authorities as PEM.

use base64::Engine as _;
use thiserror::Error;

use crate::caps;

/// Why a text does not contain certificates.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PemFault {
    /// Too much of it.
    #[error("{}", caps::CA_BYTES.words())]
    Length,
    /// Something other than certificates.
    #[error("one or more blocks of '-----BEGIN CERTIFICATE-----', and nothing else")]
    Block,
}

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";
/// A DER SEQUENCE, which every certificate is.
const SEQUENCE: u8 = 0x30;

/// Checks the framing; Envoy parses the content.
pub fn authorities(text: &str) -> Result<(), PemFault> {
    if !caps::CA_BYTES.admits(text.len()) {
        return Err(PemFault::Length);
    }
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(PemFault::Block);
    }
    while !rest.is_empty() {
        let inside = rest.strip_prefix(BEGIN).ok_or(PemFault::Block)?;
        let (block, behind) = inside.split_once(END).ok_or(PemFault::Block)?;
        let plain: String = block.chars().filter(|c| !c.is_ascii_whitespace()).collect();
        let der = base64::engine::general_purpose::STANDARD.decode(plain);
        if der.ok().and_then(|der| der.first().copied()) != Some(SEQUENCE) {
            return Err(PemFault::Block);
        }
        rest = behind.trim_start();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_and_nothing_else() {
        let one = format!("{BEGIN}\nMAMC\nAQE=\n{END}\n");
        assert_eq!(authorities(&one), Ok(()));
        assert_eq!(authorities(&format!("{one}{one}")), Ok(()));
        let key = one.replace("CERTIFICATE", "PRIVATE KEY");
        for bad in ["", "x", &key, &format!("{one}{key}"), &one.replace("MAMC", "!"), BEGIN] {
            assert_eq!(authorities(bad), Err(PemFault::Block), "{bad}");
        }
        let most = caps::CA_BYTES.size() - one.len();
        assert_eq!(authorities(&format!("{one}{}", " ".repeat(most))), Ok(()));
        assert_eq!(authorities(&format!("{one}{}", " ".repeat(most + 1))), Err(PemFault::Length));
    }
}
