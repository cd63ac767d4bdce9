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

/// Checks the frame, and hands out what is inside as DER: the API reads that, and Envoy does.
pub fn authorities(text: &str) -> Result<Vec<Vec<u8>>, PemFault> {
    let mut found = Vec::new();
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
        let der = der.ok().filter(|der| der.first() == Some(&SEQUENCE));
        found.push(der.ok_or(PemFault::Block)?);
        rest = behind.trim_start();
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_and_nothing_else() {
        let one = format!("{BEGIN}\nMAMC\nAQE=\n{END}\n");
        let der = vec![0x30, 3, 2, 1, 1];
        assert_eq!(authorities(&one), Ok(vec![der.clone()]));
        assert_eq!(authorities(&format!("{one}{one}")), Ok(vec![der.clone(), der.clone()]));
        let key = one.replace("CERTIFICATE", "PRIVATE KEY");
        for bad in ["", "x", &key, &format!("{one}{key}"), &one.replace("MAMC", "!"), BEGIN] {
            assert_eq!(authorities(bad), Err(PemFault::Block), "{bad}");
        }
        let most = caps::CA_BYTES.size() - one.len();
        assert_eq!(authorities(&format!("{one}{}", " ".repeat(most))), Ok(vec![der]));
        assert_eq!(authorities(&format!("{one}{}", " ".repeat(most + 1))), Err(PemFault::Length));
    }
}
