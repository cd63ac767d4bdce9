//! The first start: somebody must be let in. And `imp-control admin-token`: somebody must be let in
//! again.

use imp_store::Record as _;
use std::path::Path;

use chrono::{DateTime, Utc};
use imp_core::api_token::{ApiToken, ApiTokenSpec};
use imp_core::role::Role;
use imp_core::scope::TenantScope;
use imp_core::secret::{Secret, SecretKind};
use imp_core::{ApiTokenId, Meta};
use imp_store::api_token::{self, ApiTokenFilter};
use imp_store::audit::{self, Actor};
use imp_store::{Page, Store, StoreError, Tx};

use crate::app::StartError;
use crate::config::Config;
use crate::private_file;

/// A system-admin's token when the database has no token at all; else None. It is in no log.
///
/// Of several that start together one makes it. It is in its file before it is in the database: one
/// that is in the database and nowhere else would lock everybody out.
pub async fn first_token(
    store: &Store,
    config: &Config,
    now: DateTime<Utc>,
) -> Result<Option<String>, StartError> {
    let mut tx = api_token::alone(store).await.map_err(database)?;
    let page = Page { after: None, limit: 1 };
    let any = ApiTokenFilter::default();
    let there = ApiToken::list_in(&mut tx, &TenantScope::platform(), &any, page).await;
    if !there.map_err(database)?.is_empty() {
        tx.rollback().await.map_err(database)?;
        return Ok(None);
    }
    make(tx, "bootstrap", config.bootstrap_token_file.as_deref(), now).await.map(Some)
}

/// Makes another system-admin token when all are lost. It needs the database, not a token.
pub async fn another_token(
    store: &Store,
    file: Option<&Path>,
    now: DateTime<Utc>,
) -> Result<String, StartError> {
    let tx = store.begin().await.map_err(database)?;
    make(tx, "admin-token", file, now).await
}

async fn make(
    mut tx: Tx,
    name: &str,
    file: Option<&Path>,
    now: DateTime<Utc>,
) -> Result<String, StartError> {
    let secret = Secret::new(SecretKind::ApiToken);
    let token = ApiToken {
        id: ApiTokenId::new(),
        tenant_id: None,
        spec: ApiTokenSpec {
            name: name.to_owned(),
            roles: vec![Role::SystemAdmin],
            customer_id: None,
            expires_at: None,
        },
        prefix: secret.prefix().to_owned(),
        revoked_at: None,
        meta: Meta::new(now),
    };
    api_token::insert(&mut tx, &token, &secret.hash()).await.map_err(database)?;
    let entry = audit::Entry {
        at: now,
        actor: Actor::Bootstrap,
        tenant_id: None,
        operation: "api_tokens.bootstrap".to_owned(),
        object_id: token.id.into(),
        detail: name.to_owned(),
        request_id: String::new(),
    };
    audit::append(&mut tx, &entry).await.map_err(database)?;
    if let Some(path) = file {
        private_file::replace(path, secret.reveal())
            .map_err(|why| StartError::TokenFile { path: path.display().to_string(), why })?;
    }
    tx.commit().await.map_err(database)?;
    Ok(secret.reveal().to_owned())
}

fn database(why: StoreError) -> StartError {
    StartError::Database { url: "(while making a token)".to_owned(), why: why.to_string() }
}
