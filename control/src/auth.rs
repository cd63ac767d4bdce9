//! Authenticates bearer tokens.

use chrono::{DateTime, Utc};
use http::{HeaderMap, header};
use imp_core::api_token::ApiToken;
use imp_core::scope::Principal;
use imp_core::secret::{SecretHash, SecretKind, is_well_formed};
use imp_store::api_token;

use crate::problem::Problem;
use crate::state::State;

/// One indexed read per request, so that a revoked token is refused by the next request.
pub async fn authenticate(state: &State, headers: &HeaderMap) -> Result<Principal, Problem> {
    let secret = bearer(headers).ok_or_else(Problem::unauthenticated)?;
    if !is_well_formed(SecretKind::ApiToken, secret) {
        return Err(Problem::unauthenticated());
    }
    // The look-up is by SHA-256, so its timing reveals nothing about the secret.
    let token = api_token::by_hash(&state.store, &SecretHash::of(secret)).await?;
    match token {
        Some(token) if is_valid(&token, state.clock.now()) => Ok(principal(token)),
        _ => Err(Problem::unauthenticated()),
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (value, another) = (values.next()?, values.next());
    let (scheme, secret) = value.to_str().ok()?.split_once(' ')?;
    (another.is_none() && scheme.eq_ignore_ascii_case("bearer")).then_some(secret.trim())
}

fn is_valid(token: &ApiToken, now: DateTime<Utc>) -> bool {
    token.revoked_at.is_none() && token.spec.expires_at.is_none_or(|end| now < end)
}

fn principal(token: ApiToken) -> Principal {
    Principal {
        token_id: token.id,
        tenant_id: token.tenant_id,
        customer_id: token.spec.customer_id,
        roles: token.spec.roles,
    }
}
