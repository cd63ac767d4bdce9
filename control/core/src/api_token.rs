//! A bearer token of the REST API.

use chrono::{DateTime, Utc};
use imp_grammar::caps;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::role::Role;
use crate::{ApiTokenId, Check, CustomerId, Meta, TenantId, Violations, grammar};

/// The writable fields of an API token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ApiTokenSpec {
    /// A name that says what it is for.
    #[schema(example = "ci")]
    pub name: String,
    /// At least one. Operator roles cannot be combined with tenant roles.
    pub roles: Vec<Role>,
    /// Required with, and only allowed with, customer roles.
    #[serde(default)]
    pub customer_id: Option<CustomerId>,
    /// When it expires; never when absent.
    #[serde(default)]
    pub expires_at: Option<DateTime<Utc>>,
}

impl Check for ApiTokenSpec {
    fn check(&self, v: &mut Violations) {
        v.take("name", grammar::name(&self.name));
        if self.roles.is_empty() {
            v.add("roles", "required", "at least one role");
        }
        v.at_most("roles", self.roles.len(), &caps::ROLES_PER_TOKEN);
        let operators = self.roles.iter().filter(|role| role.is_operator()).count();
        let customers = self.roles.iter().filter(|role| role.is_customer()).count();
        let alike = |count: usize| count == 0 || count == self.roles.len();
        if !alike(operators) || !alike(customers) {
            v.add(
                "roles",
                "mixed_roles",
                "operator, provider and customer roles need tokens of their own",
            );
        }
        if (customers > 0) != self.customer_id.is_some() {
            v.add(
                "customer_id",
                "invalid_customer",
                "customer roles, and only they, name their customer",
            );
        }
    }
}

/// An API token; its secret is shown only at creation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ApiToken {
    /// The token's unique id.
    pub id: ApiTokenId,
    /// The tenant that it acts in; absent for an operator's token.
    pub tenant_id: Option<TenantId>,
    #[serde(flatten)]
    pub spec: ApiTokenSpec,
    /// The start of the secret, to recognise the token.
    #[schema(example = "imp_pat_3kTz")]
    pub prefix: String,
    /// When it was revoked, permanently.
    pub revoked_at: Option<DateTime<Utc>>,
    #[serde(flatten)]
    pub meta: Meta,
}
