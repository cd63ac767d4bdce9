//! Credentials. Only hashes of API keys are known.

mod records;

use chrono::{DateTime, Utc};
use imp_proto::config as pb;
use sha2::{Digest, Sha256};

use crate::call::Presented;
use crate::id::Id;
use crate::parse::{ParseError, id, required};
pub(crate) use records::Keys;

/// Longer keys are not hashed.
const MAX_KEY: usize = 512;

type Hash = [u8; 32];

/// A credential, as the control plane sends it. There are many, so it is small.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    id: Id,
    consumer_id: Id,
    subscription_id: Id,
    /// `None` if it is revoked or in a state of a newer release.
    hash: Option<Hash>,
    expires_at_ms: Option<i64>,
}

impl Credential {
    /// Parses a message. A revoked key needs no hash.
    pub fn parse(message: &pb::Credential) -> Result<Self, ParseError> {
        let active = message.state() == pb::credential::State::Active;
        let hash = Hash::try_from(message.key_sha256.as_ref())
            .map_err(|_| ParseError::KeyHash(message.key_sha256.len()));
        Ok(Self {
            id: required("id", &message.id)?,
            consumer_id: id("consumer_id", &message.consumer_id)?,
            subscription_id: id("subscription_id", &message.subscription_id)?,
            hash: active.then_some(hash).transpose()?,
            expires_at_ms: Some(message.expires_at_ms).filter(|at| *at != 0),
        })
    }

    /// Whether it is accepted.
    pub fn is_active(&self) -> bool {
        self.hash.is_some()
    }
}

/// Whose a key is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    pub(crate) consumer_id: Id,
    pub(crate) subscription_id: Id,
}

/// The reason why a key is refused. Callers see no difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadKey {
    Missing,
    Duplicate,
    Malformed,
    Unknown,
    Expired,
}

impl Keys {
    /// Finds whose a key is. Other kinds of credentials are not supported here.
    pub(crate) fn find(
        &self,
        presented: Presented<'_>,
        now: DateTime<Utc>,
    ) -> Result<Holder, BadKey> {
        let key = match presented {
            Presented::Key("")
            | Presented::None
            | Presented::BearerToken(_)
            | Presented::Certificate(_) => return Err(BadKey::Missing),
            Presented::Several => return Err(BadKey::Duplicate),
            Presented::Key(key) => key,
        };
        if key.len() > MAX_KEY {
            return Err(BadKey::Malformed);
        }
        let hash: Hash = Sha256::digest(key.as_bytes()).into();
        let (consumer_id, subscription_id, expires_at_ms) =
            self.of_hash(&hash).ok_or(BadKey::Unknown)?;
        if expires_at_ms.is_some_and(|at| now.timestamp_millis() >= at) {
            return Err(BadKey::Expired);
        }
        Ok(Holder { consumer_id, subscription_id })
    }
}
