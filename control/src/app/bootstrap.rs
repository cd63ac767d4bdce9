//! The first start, which creates an admin token, and `imp-control admin-token`, which creates
//! another one.

use std::path::Path;

use imp_core::api_token::{ApiToken, ApiTokenSpec};
use imp_core::role::Role;
use imp_core::secret::{Secret, SecretKind};
use imp_core::{ApiTokenId, Meta};
use imp_store::api_token::{self, ApiTokenFilter};
use imp_store::{Page, Record as _};

use crate::app::StartError;
use crate::config::Config;
use crate::operation::{Operation, Transaction};
use crate::private_file;
use crate::refusal::Refusal;

/// Returns a system-admin token if the database has no token at all; otherwise `None`. The token is
/// never logged.
///
/// When several replicas start together, one creates it. The file is written before the row is
/// committed: a token that exists only as a hash would lock everybody out.
pub async fn first_token(
    operation: &Operation,
    config: &Config,
) -> Result<Option<String>, StartError> {
    let mut tx = begin(operation).await?;
    let scope = tx.scope;
    let there = async {
        api_token::lock_out_others(&mut tx).await?;
        let page = Page { after: None, limit: 1 };
        let found = ApiToken::list_in(&mut tx, &scope, &ApiTokenFilter::default(), page).await?;
        Ok(!found.is_empty())
    };
    if there.await.map_err(database)? {
        tx.rollback().await.map_err(database)?;
        return Ok(None);
    }
    make(tx, "bootstrap", config.bootstrap_token_file.as_deref()).await.map(Some)
}

/// Creates another system-admin token when all are lost. Needs access to the database instead of a
/// token.
pub async fn another_token(
    operation: &Operation,
    file: Option<&Path>,
) -> Result<String, StartError> {
    make(begin(operation).await?, "admin-token", file).await
}

async fn begin(operation: &Operation) -> Result<Transaction<'_>, StartError> {
    Transaction::begin(operation, operation.scope).await.map_err(database)
}

async fn make(
    mut tx: Transaction<'_>,
    name: &str,
    file: Option<&Path>,
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
        meta: Meta::new(tx.now),
    };
    let written = api_token::insert(&mut tx, &token, &secret.hash()).await;
    written.map_err(|why| database(why.into()))?;
    if let Some(path) = file {
        private_file::replace(path, secret.reveal())
            .map_err(|why| StartError::TokenFile { path: path.display().to_string(), why })?;
    }
    let finished = tx.finish_with("api_tokens.bootstrap", token.id.into(), name.to_owned());
    finished.await.map_err(database)?;
    Ok(secret.reveal().to_owned())
}

fn database(why: Refusal) -> StartError {
    StartError::Database { url: "(while making a token)".to_owned(), why: why.to_string() }
}
