//! API keys: known by their hashes only.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use imp_proto::config as pb;
use sha2::{Digest, Sha256};

/// Longer ones are not hashed.
const MAX_KEY: usize = 512;

type Hash = [u8; 32];

/// What a key stands for.
#[derive(Debug)]
pub(crate) struct Credential {
    id: String,
    pub(crate) consumer_id: Arc<str>,
    pub(crate) subscription_id: Arc<str>,
    expires_at_ms: i64,
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
    pub(crate) fn put(&self, wire: &pb::Credential) {
        let active = wire.state() == pb::credential::State::Active;
        let Some(hash) = Hash::try_from(wire.key_sha256.as_ref()).ok().filter(|_| active) else {
            return self.remove(&wire.id);
        };
        let credential = Arc::new(Credential {
            id: wire.id.clone(),
            consumer_id: wire.consumer_id.as_str().into(),
            subscription_id: wire.subscription_id.as_str().into(),
            expires_at_ms: wire.expires_at_ms,
        });
        let mut slot = self.by_id.entry(wire.id.clone()).or_insert(hash);
        if *slot != hash {
            self.forget(&slot, &wire.id);
            *slot = hash;
        }
        self.by_hash.insert(hash, credential);
    }

    pub(crate) fn remove(&self, id: &str) {
        if let Entry::Occupied(slot) = self.by_id.entry(id.to_owned()) {
            self.forget(slot.get(), id);
            slot.remove();
        }
    }

    fn forget(&self, hash: &Hash, id: &str) {
        self.by_hash.remove_if(hash, |_, credential| credential.id == id);
    }

    pub(crate) fn find(
        &self,
        presented: Option<&str>,
        duplicate: bool,
        now: DateTime<Utc>,
    ) -> Result<Arc<Credential>, BadKey> {
        if duplicate {
            return Err(BadKey::Duplicate);
        }
        let key = presented.filter(|key| !key.is_empty()).ok_or(BadKey::Missing)?;
        if key.len() > MAX_KEY {
            return Err(BadKey::Malformed);
        }
        let hash: Hash = Sha256::digest(key.as_bytes()).into();
        let found = self.by_hash.get(&hash).map(|found| found.clone()).ok_or(BadKey::Unknown)?;
        if found.expires_at_ms != 0 && now.timestamp_millis() >= found.expires_at_ms {
            return Err(BadKey::Expired);
        }
        Ok(found)
    }
}
