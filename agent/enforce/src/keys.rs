//! Credentials. API keys are known by their hashes only.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use imp_proto::config as pb;
use sha2::{Digest, Sha256};

use crate::call::Presented;
use crate::parse::{ParseError, id, required};

/// Longer ones are not hashed.
const MAX_KEY: usize = 512;

type Hash = [u8; 32];

/// A credential, as the control plane says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    id: Arc<str>,
    consumer_id: Arc<str>,
    subscription_id: Arc<str>,
    /// None: it stands for nobody, because it was revoked or is in a state that is newer than this engine.
    hash: Option<Hash>,
    expires_at_ms: Option<i64>,
}

impl Credential {
    /// Reads a message. A revoked key needs no hash.
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

    /// Whether it stands for somebody.
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

/// Why a key stands for nobody. Callers see no difference.
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
    /// Where a credential's key is; its lock makes writers of one credential take turns.
    by_id: DashMap<String, Hash>,
}

impl Keys {
    /// A revoked key is gone at once, like one that is not a key at all.
    pub(crate) fn put(&self, credential: Credential) {
        let Some(hash) = credential.hash else { return self.remove(&credential.id) };
        let id = credential.id.clone();
        let mut slot = self.by_id.entry(id.to_string()).or_insert(hash);
        if *slot != hash {
            self.forget(&slot, &id);
            *slot = hash;
        }
        self.by_hash.insert(hash, Arc::new(credential));
    }

    pub(crate) fn remove(&self, id: &str) {
        if let Entry::Occupied(slot) = self.by_id.entry(id.to_owned()) {
            self.forget(slot.get(), id);
            slot.remove();
        }
    }

    fn forget(&self, hash: &Hash, id: &str) {
        self.by_hash.remove_if(hash, |_, credential| *credential.id == *id);
    }

    /// The credential of a key. Another kind of credential is none here.
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
