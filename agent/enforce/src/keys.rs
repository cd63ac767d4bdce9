//! Credentials. Only hashes of API keys are known.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use imp_proto::config as pb;
use sha2::{Digest, Sha256};

use crate::call::Presented;
use crate::parse::{ParseError, id, required};

/// Longer keys are not hashed.
const MAX_KEY: usize = 512;

type Hash = [u8; 32];

/// A credential, as the control plane sends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    id: Arc<str>,
    consumer_id: Arc<str>,
    subscription_id: Arc<str>,
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

    pub(crate) fn consumer_id(&self) -> &Arc<str> {
        &self.consumer_id
    }

    pub(crate) fn subscription_id(&self) -> &str {
        &self.subscription_id
    }
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

#[derive(Debug, Default)]
pub(crate) struct Keys {
    by_hash: DashMap<Hash, Arc<Credential>>,
    /// The key of a credential by its id; the entry's lock serialises writers of one credential.
    by_id: DashMap<Arc<str>, Hash>,
}

impl Keys {
    /// Removes a revoked key at once, so that it looks like an unknown one.
    pub(crate) fn put(&self, credential: Credential) {
        let Some(hash) = credential.hash else { return self.remove(&credential.id) };
        let id = credential.id.clone();
        let mut slot = self.by_id.entry(id.clone()).or_insert(hash);
        if *slot != hash {
            self.forget(&slot, &id);
            *slot = hash;
        }
        self.by_hash.insert(hash, Arc::new(credential));
    }

    pub(crate) fn remove(&self, id: &str) {
        if let Entry::Occupied(slot) = self.by_id.entry(id.into()) {
            self.forget(slot.get(), id);
            slot.remove();
        }
    }

    fn forget(&self, hash: &Hash, id: &str) {
        self.by_hash.remove_if(hash, |_, credential| *credential.id == *id);
    }

    /// Finds the credential of a key. Other kinds of credentials are not supported here.
    pub(crate) fn find(
        &self,
        presented: Presented<'_>,
        now: DateTime<Utc>,
    ) -> Result<Arc<Credential>, BadKey> {
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
        let found = self.by_hash.get(&hash).map(|found| found.clone()).ok_or(BadKey::Unknown)?;
        if found.expires_at_ms.is_some_and(|at| now.timestamp_millis() >= at) {
            return Err(BadKey::Expired);
        }
        Ok(found)
    }
}
