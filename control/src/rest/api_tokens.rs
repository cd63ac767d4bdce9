//! `/v1/api-tokens`: who may call this API. DELETE revokes.

use imp_core::api_token::{ApiToken, ApiTokenSpec};
use imp_core::customer::Customer;
use imp_core::role::{Kind, Role};
use imp_core::secret::{Secret, SecretKind};
use imp_core::{ApiTokenId, Meta};
use imp_store::api_token::{self as table, ApiTokenFilter};

use crate::flows::Write;
use crate::flows::credential::to_come;
use crate::problem::Problem;
use crate::rest::body::Json;
use crate::rest::call::Call;
use crate::rest::crud;
use crate::rest::entity::{Entity, Made, stored};
use crate::rest::query::Query;
use crate::rest::routes::Routes;
use crate::state::State;

stored!(ApiToken, api_token, ApiTokenId, ApiTokenFilter);

impl Entity for ApiToken {
    type Spec = ApiTokenSpec;
    type View = Self;

    const KIND: Kind = Kind::ApiToken;
    const PATH: &'static str = "api-tokens";
    const NOUN: &'static str = "API token";
    const IMMUTABLE: &'static [&'static str] = &["customer_id"];
    const FILTERS: &'static [&'static str] = &["tenant_id", "customer_id", "name"];
    const SECRET: Option<&'static str> = Some("token");

    fn spec(&self) -> ApiTokenSpec {
        self.spec.clone()
    }

    fn filter(query: &mut Query) -> Result<ApiTokenFilter, Problem> {
        Ok(ApiTokenFilter { name: query.take("name")?, customer_id: query.take("customer_id")? })
    }

    async fn create(call: &Call, mut body: Json) -> Result<Made<Self>, Problem> {
        let named = body.take_tenant()?;
        let mut spec: ApiTokenSpec = body.into_spec()?;
        let operator = spec.roles.iter().any(|role| role.is_operator());
        let (tenant_id, scope) = if operator {
            refuse_operator(call, named.is_some())?;
            (None, call.scope)
        } else {
            let (tenant_id, scope) = call.owner(named).await?;
            (Some(tenant_id), scope)
        };
        let mut write = Write::begin(call, scope).await?;
        if let Some(customer) = spec.customer_id {
            write.refer::<Customer>(customer, "/customer_id").await?;
        }
        spec.expires_at = to_come(&write, spec.expires_at)?;
        let secret = Secret::new(SecretKind::ApiToken);
        let prefix = secret.prefix().to_owned();
        let (id, meta) = (ApiTokenId::new(), Meta::new(write.now));
        let entity = Self { id, tenant_id, spec, prefix, revoked_at: None, meta };
        table::insert(&mut write.tx, &entity, &secret.hash()).await?;
        write.finish::<Self>("create", id).await?;
        Ok(Made { entity, secret: Some(secret.reveal().to_owned()) })
    }

    /// Whom it speaks for stays as it is: an operator's stays one, a customer's its customer's.
    async fn edit(
        write: &mut Write<'_>,
        current: Self,
        mut spec: ApiTokenSpec,
    ) -> Result<Self, Problem> {
        if current.revoked_at.is_some() {
            let detail = "a token that is revoked stays so";
            return Err(Problem::conflict("invalid_transition", detail));
        }
        let operator = |roles: &[Role]| roles.iter().any(|role| role.is_operator());
        if operator(&spec.roles) != operator(&current.spec.roles) {
            return Err(Problem::immutable("/roles"));
        }
        spec.expires_at = to_come(write, spec.expires_at)?;
        save(write, Self { spec, ..current }).await
    }

    async fn remove(write: &mut Write<'_>, current: Self) -> Result<(), Problem> {
        if current.revoked_at.is_none() {
            let revoked_at = Some(Meta::new(write.now).created_at);
            save(write, Self { revoked_at, ..current }).await?;
        }
        Ok(())
    }

    async fn views(_: &State, items: Vec<Self>) -> Result<Vec<Self>, Problem> {
        Ok(items)
    }
}

async fn save(write: &mut Write<'_>, mut token: ApiToken) -> Result<ApiToken, Problem> {
    let expected = token.meta.version;
    token.meta.touch(write.now);
    table::update(&mut write.tx, &token, expected).await?;
    Ok(token)
}

/// Only operators make operators, and those belong to no tenant.
fn refuse_operator(call: &Call, names_tenant: bool) -> Result<(), Problem> {
    if !call.principal.roles.contains(&Role::SystemAdmin) {
        return Err(Problem::forbidden("only a system-admin gives operator roles").at("/roles"));
    }
    if names_tenant {
        let why = "operators are over all tenants; leave it out";
        return Err(Problem::invalid("/tenant_id", "mixed_roles", why));
    }
    Ok(())
}

pub fn mount(routes: &mut Routes) {
    crud::mount::<ApiToken>(routes);
}
