//! The first start: somebody must be let in.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use chrono::{DateTime, Utc};
use imp_core::api_token::{ApiToken, ApiTokenSpec};
use imp_core::role::Role;
use imp_core::scope::TenantScope;
use imp_core::secret::{Secret, SecretKind};
use imp_core::{ApiTokenId, Meta};
use imp_store::api_token::{self, ApiTokenFilter};
use imp_store::audit::{self, Actor};
use imp_store::{Page, Store, StoreError};

use crate::app::StartError;
use crate::config::Config;

/// A system-admin's token when the database has no token at all; else None. It is in no log.
pub async fn first_token(
    store: &Store,
    config: &Config,
    now: DateTime<Utc>,
) -> Result<Option<String>, StartError> {
    let secret = make(store, now).await.map_err(|why| StartError::Database {
        url: "(while making the first token)".to_owned(),
        why: why.to_string(),
    })?;
    let Some(secret) = secret else { return Ok(None) };
    if let Some(path) = &config.bootstrap_token_file {
        write_private(path, secret.reveal())
            .map_err(|why| StartError::TokenFile { path: path.display().to_string(), why })?;
    }
    Ok(Some(secret.reveal().to_owned()))
}

async fn make(store: &Store, now: DateTime<Utc>) -> Result<Option<Secret>, StoreError> {
    let page = Page { after: None, limit: 1 };
    let any = ApiTokenFilter::default();
    if !api_token::list(store, &TenantScope::platform(), &any, page).await?.is_empty() {
        return Ok(None);
    }
    let secret = Secret::new(SecretKind::ApiToken);
    let token = ApiToken {
        id: ApiTokenId::new(),
        tenant_id: None,
        spec: ApiTokenSpec {
            name: "bootstrap".to_owned(),
            roles: vec![Role::SystemAdmin],
            customer_id: None,
            expires_at: None,
        },
        prefix: secret.prefix().to_owned(),
        revoked_at: None,
        meta: Meta::new(now),
    };
    let mut tx = store.begin().await?;
    api_token::insert(&mut tx, &token, &secret.hash()).await?;
    let entry = audit::Entry {
        at: now,
        actor: Actor::Platform,
        tenant_id: None,
        operation: "api_tokens.bootstrap".to_owned(),
        object_id: token.id.into(),
        detail: String::new(),
    };
    audit::append(&mut tx, &entry).await?;
    tx.commit().await?;
    Ok(Some(secret))
}

/// Readable by its owner only, from the first byte on.
fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path)?;
    writeln!(file, "{text}")
}
