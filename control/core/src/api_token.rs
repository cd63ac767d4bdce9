//! A bearer token of the REST API.

use chrono::{DateTime, Utc};
use imp_grammar::caps;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::role::Role;
use crate::{ApiTokenId, Check, CustomerId, Meta, TenantId, Violations, grammar};

/// What a caller writes of a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ApiTokenSpec {
    /// What it is for.
    #[schema(example = "ci")]
    pub name: String,
    /// At least one. Operator roles and tenant roles do not mix.
    pub roles: Vec<Role>,
    /// Needed with, and only with, customer roles.
    #[serde(default)]
    pub customer_id: Option<CustomerId>,
    /// Never, when absent.
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

/// A token; its secret was shown once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ApiToken {
    /// Its id.
    pub id: ApiTokenId,
    /// None: an operator's.
    pub tenant_id: Option<TenantId>,
    /// What was written.
    #[serde(flatten)]
    pub spec: ApiTokenSpec,
    /// To recognise it by.
    #[schema(example = "imp_pat_3kTz")]
    pub prefix: String,
    /// Set when it was revoked, for good.
    pub revoked_at: Option<DateTime<Utc>>,
    /// Times and version.
    #[serde(flatten)]
    pub meta: Meta,
}
