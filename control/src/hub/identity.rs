//! Agent identities: JWTs signed by the control plane and bound to a key that only the agent has.

use std::io;
use std::path::Path;

use chrono::{DateTime, TimeDelta, Utc};
use imp_core::{AgentId, ClusterId};
use imp_process::file::FileFault;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::hs256;
use crate::private_file;

/// How long a JWT is valid; agents renew it after two thirds of that.
const LIFETIME: TimeDelta = TimeDelta::hours(1);

/// How long it can be renewed after that: an agent that was off for a few days need not register
/// again.
const RENEWABLE: TimeDelta = TimeDelta::days(30);

/// The only algorithm accepted, whatever a token's header says. The signer is also the verifier, so
/// it is symmetric.
const ALGORITHM: Algorithm = Algorithm::HS256;
const ISSUER: &str = "imp-control";
const AUDIENCE: &str = "imp-agents";
const KEY_BYTES: usize = 32;

/// What the key file must contain, for error messages.
const KEY_FILE: &str = "64 hexadecimal digits (the secret that agents' tokens are signed with)";

/// Signs and verifies JWTs.
pub struct AgentKey {
    signing: EncodingKey,
    verifying: DecodingKey,
    validation: Validation,
}

/// The claims of a JWT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    pub agent: AgentId,
    pub cluster: ClusterId,
    /// Thumbprint of the key that it is bound to (RFC 7638).
    pub key: String,
    /// Of two identities of one agent, the one with the higher number is newer.
    pub generation: i64,
    pub expires_at: DateTime<Utc>,
}

/// A fresh JWT.
pub struct Issued {
    pub jwt: String,
    pub expires_at: DateTime<Utc>,
}

/// The reason why a JWT is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    #[error("this is not an agent's token of this control plane")]
    NotOurs,
    #[error("the agent's token has expired; renew it")]
    Expired,
    #[error("the agent's token expired more than 30 days ago; register the agent again")]
    TooOld,
}

#[derive(Serialize, Deserialize)]
struct Payload {
    iss: String,
    aud: String,
    sub: AgentId,
    cluster: ClusterId,
    cnf: Confirmation,
    generation: i64,
    iat: i64,
    exp: i64,
}

/// The confirmation claim of RFC 7800, used as in RFC 9449.
#[derive(Serialize, Deserialize)]
struct Confirmation {
    jkt: String,
}

impl AgentKey {
    /// Reads the key from a file of 64 hexadecimal digits, which is created when missing.
    pub fn open(path: &Path) -> Result<Self, FileFault> {
        let content = Self::read_or_make(path)
            .map_err(|error| FileFault::unreadable(path, KEY_FILE, &error))?;
        let secret = hex::decode(content.trim_ascii()).ok();
        let secret = secret.filter(|secret| secret.len() >= KEY_BYTES);
        secret
            .map(|secret| Self::new(&secret))
            .ok_or_else(|| FileFault::unfit(path, KEY_FILE, &content))
    }

    fn read_or_make(path: &Path) -> io::Result<Vec<u8>> {
        match private_file::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let secret: [u8; KEY_BYTES] = imp_process::random::random();
                private_file::make(path, &hex::encode(secret))?;
                private_file::read(path)
            }
            read => read,
        }
    }

    fn new(secret: &[u8]) -> Self {
        hs256::install();
        let mut validation = Validation::new(ALGORITHM);
        validation.set_issuer(&[ISSUER]);
        validation.set_audience(&[AUDIENCE]);
        validation.set_required_spec_claims(&["iss", "aud", "sub", "exp"]);
        // Expiry is checked below, by our own clock, to tell "expired" from "not ours".
        validation.validate_exp = false;
        Self {
            signing: EncodingKey::from_secret(secret),
            verifying: DecodingKey::from_secret(secret),
            validation,
        }
    }

    /// Issues a JWT to an authenticated agent.
    pub fn issue(
        &self,
        agent: AgentId,
        cluster: ClusterId,
        key: &str,
        generation: i64,
        now: DateTime<Utc>,
    ) -> Result<Issued, jsonwebtoken::errors::Error> {
        let expires_at = now + LIFETIME;
        let payload = Payload {
            iss: ISSUER.to_owned(),
            aud: AUDIENCE.to_owned(),
            sub: agent,
            cluster,
            cnf: Confirmation { jkt: key.to_owned() },
            generation,
            iat: now.timestamp(),
            exp: expires_at.timestamp(),
        };
        let jwt = jsonwebtoken::encode(&Header::new(ALGORITHM), &payload, &self.signing)?;
        Ok(Issued { jwt, expires_at })
    }

    /// Returns the agent if the JWT is valid now.
    pub fn verify(&self, jwt: &str, now: DateTime<Utc>) -> Result<Claims, Refusal> {
        self.read(jwt).and_then(|claims| match now < claims.expires_at {
            true => Ok(claims),
            false => Err(Refusal::Expired),
        })
    }

    /// Returns the agent if the JWT may be renewed.
    pub fn verify_for_renewal(&self, jwt: &str, now: DateTime<Utc>) -> Result<Claims, Refusal> {
        self.read(jwt).and_then(|claims| match now < claims.expires_at + RENEWABLE {
            true => Ok(claims),
            false => Err(Refusal::TooOld),
        })
    }

    fn read(&self, jwt: &str) -> Result<Claims, Refusal> {
        let read = jsonwebtoken::decode::<Payload>(jwt, &self.verifying, &self.validation);
        let payload = read.map_err(|_| Refusal::NotOurs)?.claims;
        let Payload { sub, cluster, cnf, generation, exp, .. } = payload;
        let expires_at = DateTime::from_timestamp(exp, 0).ok_or(Refusal::NotOurs)?;
        Ok(Claims { agent: sub, cluster, key: cnf.jkt, generation, expires_at })
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::prelude::BASE64_URL_SAFE_NO_PAD;

    use super::*;

    fn key() -> AgentKey {
        AgentKey::new(&[7; KEY_BYTES])
    }

    fn issued(now: DateTime<Utc>) -> (AgentId, ClusterId, String) {
        let (agent, cluster) = (AgentId::new(), ClusterId::new());
        (agent, cluster, key().issue(agent, cluster, "thumb", 1, now).unwrap().jwt)
    }

    #[test]
    fn a_token_is_good_for_an_hour_and_renewable_for_thirty_days_more() {
        let now = imp_process::clock::now();
        let (agent, cluster, jwt) = issued(now);
        let claims = key().verify(&jwt, now).unwrap();
        assert_eq!((claims.agent, claims.cluster), (agent, cluster));
        assert_eq!((&*claims.key, claims.generation), ("thumb", 1));
        let after = |minutes| now + TimeDelta::minutes(minutes);
        assert!(key().verify(&jwt, after(59)).is_ok());
        assert_eq!(key().verify(&jwt, after(60)), Err(Refusal::Expired));
        assert!(key().verify_for_renewal(&jwt, after(60 * 24 * 30)).is_ok());
        assert_eq!(key().verify_for_renewal(&jwt, after(60 * 24 * 31)), Err(Refusal::TooOld));
    }

    #[test]
    fn nobody_else_can_make_or_change_one() {
        let now = imp_process::clock::now();
        let (_, _, jwt) = issued(now);
        assert_eq!(AgentKey::new(&[8; KEY_BYTES]).verify(&jwt, now), Err(Refusal::NotOurs));
        let parts: Vec<&str> = jwt.split('.').collect();
        let none = BASE64_URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"JWT"}"#);
        let other = BASE64_URL_SAFE_NO_PAD.encode(r#"{"alg":"HS512","typ":"JWT"}"#);
        for forged in [
            format!("{none}.{}.", parts[1]),
            format!("{none}.{}.{}", parts[1], parts[2]),
            format!("{other}.{}.{}", parts[1], parts[2]),
            format!("{}.{}.{}", parts[0], issued(now).2.split('.').nth(1).unwrap(), parts[2]),
            "imp_pat_000000000000000000000000000000000000".to_owned(),
            String::new(),
        ] {
            assert_eq!(key().verify(&forged, now), Err(Refusal::NotOurs), "{forged}");
        }
    }

    #[test]
    fn a_token_of_another_kind_under_the_same_key_proves_nothing() {
        let now = imp_process::clock::now();
        let payload = |iss: &str, aud: &str| Payload {
            iss: iss.to_owned(),
            aud: aud.to_owned(),
            sub: AgentId::new(),
            cluster: ClusterId::new(),
            cnf: Confirmation { jkt: "thumb".to_owned() },
            generation: 1,
            iat: now.timestamp(),
            exp: now.timestamp() + 60,
        };
        for (payload, good) in [
            (payload(ISSUER, AUDIENCE), true),
            (payload("someone", AUDIENCE), false),
            (payload(ISSUER, "someone"), false),
        ] {
            let header = Header::new(ALGORITHM);
            let jwt = jsonwebtoken::encode(&header, &payload, &key().signing).unwrap();
            assert_eq!(key().verify(&jwt, now).is_ok(), good);
        }
    }

    #[test]
    fn the_key_file_is_made_once_and_private() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent-key");
        let now = imp_process::clock::now();
        let key = AgentKey::open(&path).unwrap();
        let jwt = key.issue(AgentId::new(), ClusterId::new(), "thumb", 1, now);
        assert!(AgentKey::open(&path).unwrap().verify(&jwt.unwrap().jwt, now).is_ok());
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        let open = std::fs::Permissions::from_mode(0o644);
        std::fs::set_permissions(&path, open).unwrap();
        assert!(AgentKey::open(&path).is_ok());
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::write(&path, "too short").unwrap();
        assert!(AgentKey::open(&path).is_err());
    }
}
