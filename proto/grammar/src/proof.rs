//! Proof that a caller has the private key that its token is bound to: DPoP (RFC 9449) with Ed25519.
//!
//! The agent signs each call, so a stolen token is useless without the key. Both sides are here, so
//! that they cannot differ: [`PrivateKey::prove`] and [`check`]. The caller passes the time.
//!
//! `htu` is only the path of the method: a control plane behind a load balancer does not know the
//! name by which it was called. The verifier must remember proofs to prevent replay.

use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use ring::digest::{SHA256, digest};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use serde::{Deserialize, Serialize};

/// The header with the proof.
pub const HEADER: &str = "dpop";
/// The header of an answer with the verifier's time in Unix milliseconds, for a caller whose clock
/// is wrong.
pub const CLOCK_HEADER: &str = "imp-now-ms";
/// The scheme of `authorization` for a token that is bound to a key.
pub const SCHEME: &str = "DPoP";
/// The largest accepted difference of the two clocks.
pub const TOLERANCE_MS: i64 = 60_000;

/// The largest accepted proof.
const MAX_BYTES: usize = 2048;
/// The largest text that a caller chooses.
const MAX_TEXT: usize = 64;
/// The length of a private key's seed.
pub const SEED_BYTES: usize = 32;

const TYPE: &str = "dpop+jwt";
const ALGORITHM: &str = "EdDSA";
/// The method of every gRPC call.
const METHOD: &str = "POST";

/// The call that a proof is for.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// The path of the gRPC method.
    pub path: &'a str,
    /// The token of the call; `None` for registration, which issues the first.
    pub token: Option<&'a str>,
}

/// The content of a valid proof.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// Thumbprint of the public key (RFC 7638).
    pub thumbprint: String,
    /// Unique among the proofs of this key.
    pub id: String,
    /// Identifies the caller's process: another process with the same key has another one.
    pub instance: String,
}

/// Why a proof is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Not a proof.
    Malformed,
    /// Not signed by the key in it.
    Signature,
    /// For another call.
    Call,
    /// For another token.
    Token,
    /// Too old, or from the future.
    Time,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "not a proof of possession (RFC 9449, Ed25519)",
            Self::Signature => "the proof of possession is not signed by its key",
            Self::Call => "the proof of possession is of another call",
            Self::Token => "the proof of possession is of another token",
            Self::Time => "the proof of possession is too old or from the future; set the clock",
        })
    }
}

impl std::error::Error for Fault {}

/// An agent's key pair.
pub struct PrivateKey {
    pair: Ed25519KeyPair,
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey({})", self.thumbprint())
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    typ: String,
    alg: String,
    jwk: Jwk,
}

/// The public key; a private one in it (`d`) is an unknown field.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Jwk {
    crv: String,
    kty: String,
    x: String,
}

#[derive(Serialize, Deserialize)]
struct Claims {
    jti: String,
    htm: String,
    htu: String,
    iat: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ath: Option<String>,
    #[serde(default)]
    instance: String,
}

impl PrivateKey {
    /// The key of [`SEED_BYTES`] random bytes; `None` for another length.
    pub fn from_seed(seed: &[u8]) -> Option<Self> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).ok()?;
        Some(Self { pair })
    }

    /// Thumbprint of its public key (RFC 7638).
    pub fn thumbprint(&self) -> String {
        thumbprint(&self.jwk())
    }

    /// Signs the proof for one call. `instance` names this process, `id` this proof.
    pub fn prove(&self, call: &Call<'_>, instance: &str, id: &str, now_ms: i64) -> String {
        let head = Head { typ: TYPE.to_owned(), alg: ALGORITHM.to_owned(), jwk: self.jwk() };
        let claims = Claims {
            jti: id.to_owned(),
            htm: METHOD.to_owned(),
            htu: call.path.to_owned(),
            iat: now_ms.div_euclid(1_000),
            ath: call.token.map(hash),
            instance: instance.to_owned(),
        };
        let signed = format!("{}.{}", part(&head), part(&claims));
        let signature = self.pair.sign(signed.as_bytes());
        format!("{signed}.{}", BASE64.encode(signature.as_ref()))
    }

    fn jwk(&self) -> Jwk {
        Jwk {
            crv: "Ed25519".to_owned(),
            kty: "OKP".to_owned(),
            x: BASE64.encode(self.pair.public_key().as_ref()),
        }
    }
}

/// Verifies a proof. Returns the thumbprint of the key that the caller has proven to have.
pub fn check(proof: &str, call: &Call<'_>, now_ms: i64) -> Result<Proof, Fault> {
    if proof.len() > MAX_BYTES {
        return Err(Fault::Malformed);
    }
    let (signed, signature) = proof.rsplit_once('.').ok_or(Fault::Malformed)?;
    let (head, claims) = signed.split_once('.').ok_or(Fault::Malformed)?;
    let (head, claims): (Head, Claims) = (read(head)?, read(claims)?);
    let Head { typ, alg, jwk } = head;
    if (&*typ, &*alg, &*jwk.kty, &*jwk.crv) != (TYPE, ALGORITHM, "OKP", "Ed25519") {
        return Err(Fault::Malformed);
    }
    let key = bytes(&jwk.x)?;
    let key = UnparsedPublicKey::new(&ED25519, key);
    key.verify(signed.as_bytes(), &bytes(signature)?).map_err(|_| Fault::Signature)?;
    let chosen = [&claims.jti, &claims.instance];
    if claims.jti.is_empty() || chosen.iter().any(|text| text.len() > MAX_TEXT) {
        return Err(Fault::Malformed);
    }
    if claims.htm != METHOD || claims.htu != call.path {
        return Err(Fault::Call);
    }
    if claims.ath != call.token.map(hash) {
        return Err(Fault::Token);
    }
    let age = now_ms.saturating_sub(claims.iat.saturating_mul(1_000));
    if !(-TOLERANCE_MS..=TOLERANCE_MS).contains(&age) {
        return Err(Fault::Time);
    }
    Ok(Proof { thumbprint: thumbprint(&jwk), id: claims.jti, instance: claims.instance })
}

/// The members that RFC 7638 requires, in their order.
fn thumbprint(Jwk { crv, kty, x }: &Jwk) -> String {
    hash(&format!(r#"{{"crv":"{crv}","kty":"{kty}","x":"{x}"}}"#))
}

fn hash(text: &str) -> String {
    BASE64.encode(digest(&SHA256, text.as_bytes()).as_ref())
}

fn part(value: &impl Serialize) -> String {
    // Structs of texts and numbers can always be serialised.
    BASE64.encode(serde_json::to_vec(value).unwrap_or_default())
}

fn read<T: for<'a> Deserialize<'a>>(part: &str) -> Result<T, Fault> {
    serde_json::from_slice(&bytes(part)?).map_err(|_| Fault::Malformed)
}

fn bytes(text: &str) -> Result<Vec<u8>, Fault> {
    BASE64.decode(text).map_err(|_| Fault::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = "/imp.agent.v1.AgentService/Report";
    const CALL: Call<'_> = Call { path: PATH, token: Some("token") };
    const NOW: i64 = 1_800_000_000_000;

    fn key(seed: u8) -> PrivateKey {
        PrivateKey::from_seed(&[seed; SEED_BYTES]).unwrap()
    }

    fn signed(key: &PrivateKey, head: &str, claims: &str) -> String {
        let signed = format!("{}.{}", BASE64.encode(head), BASE64.encode(claims));
        let signature = key.pair.sign(signed.as_bytes());
        format!("{signed}.{}", BASE64.encode(signature.as_ref()))
    }

    #[test]
    fn a_proof_is_good_for_its_call_its_token_and_its_minute() {
        let proof = key(1).prove(&CALL, "process", "one", NOW);
        let found = check(&proof, &CALL, NOW).unwrap();
        assert_eq!((&*found.id, &*found.instance), ("one", "process"));
        assert_eq!(found.thumbprint, key(1).thumbprint());
        assert_ne!(found.thumbprint, key(2).thumbprint());
        for (call, fault) in [
            (Call { path: "/imp.agent.v1.AgentService/Renew", ..CALL }, Fault::Call),
            (Call { token: Some("another"), ..CALL }, Fault::Token),
            (Call { token: None, ..CALL }, Fault::Token),
        ] {
            assert_eq!(check(&proof, &call, NOW), Err(fault));
        }
        for off in [-TOLERANCE_MS - 1_000, TOLERANCE_MS + 1_000, i64::MAX - NOW, i64::MIN / 2] {
            assert_eq!(check(&proof, &CALL, NOW + off), Err(Fault::Time));
        }
        assert!(check(&proof, &CALL, NOW + TOLERANCE_MS).is_ok());
        assert!(check(&proof, &CALL, NOW - TOLERANCE_MS).is_ok());
    }

    #[test]
    fn a_thumbprint_is_that_of_the_rfc() {
        // RFC 8037, appendix A.3.
        let x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo".to_owned();
        let jwk = Jwk { crv: "Ed25519".to_owned(), kty: "OKP".to_owned(), x };
        assert_eq!(thumbprint(&jwk), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    }

    #[test]
    fn nobody_signs_for_a_key_that_he_does_not_have() {
        let proof = key(1).prove(&CALL, "", "one", NOW);
        let parts: Vec<&str> = proof.split('.').collect();
        let other = key(2).prove(&CALL, "", "one", NOW);
        let theirs: Vec<&str> = other.split('.').collect();
        for forged in [
            format!("{}.{}.{}", parts[0], parts[1], theirs[2]),
            format!("{}.{}.{}", theirs[0], parts[1], parts[2]),
            format!("{}.{}.{}", parts[0], BASE64.encode("{}"), parts[2]),
            format!("{}.{}.", parts[0], parts[1]),
        ] {
            let found = check(&forged, &CALL, NOW);
            assert!(matches!(found, Err(Fault::Signature | Fault::Malformed)), "{found:?}");
        }
    }

    #[test]
    fn what_is_no_proof_is_malformed_whoever_signed_it() {
        let x = BASE64.encode(key(1).pair.public_key().as_ref());
        let head = |rest: &str| {
            format!(
                r#"{{"typ":"dpop+jwt","alg":"EdDSA","jwk":{{"kty":"OKP","crv":"Ed25519","x":"{x}"{rest}}}}}"#
            )
        };
        let claims = format!(
            r#"{{"jti":"1","htm":"POST","htu":"{PATH}","iat":1800000000,"ath":"{}"}}"#,
            hash("token")
        );
        assert!(check(&signed(&key(1), &head(""), &claims), &CALL, NOW).is_ok());
        for (head, claims) in [
            (head(r#","d":"the private key""#), claims.clone()),
            (head("").replace("dpop+jwt", "JWT"), claims.clone()),
            (head("").replace("EdDSA", "none"), claims.clone()),
            (head("").replace("EdDSA", "HS256"), claims.clone()),
            (head("").replace("Ed25519", "P-256"), claims.clone()),
            (head(""), claims.replace(r#""jti":"1""#, r#""jti":"""#)),
            (head(""), claims.replace(r#""jti":"1""#, &format!(r#""jti":"{}""#, "x".repeat(65)))),
            (head(""), "[]".to_owned()),
        ] {
            let found = check(&signed(&key(1), &head, &claims), &CALL, NOW);
            assert_eq!(found, Err(Fault::Malformed), "{head} {claims}");
        }
        for text in ["", ".", "..", "a.b.c", "\u{1f600}.\u{1f600}.\u{1f600}"] {
            assert_eq!(check(text, &CALL, NOW), Err(Fault::Malformed), "{text}");
        }
        assert_eq!(check(&"a.b.c".repeat(1_000), &CALL, NOW), Err(Fault::Malformed));
        assert!(PrivateKey::from_seed(&[1; 31]).is_none());
    }
}
