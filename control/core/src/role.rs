//! Authorisation: eight roles, additive, and one table of which role may do which action on which
//! kind of object. The table is data; a test walks it cell by cell.

use crate::stored::words;

words! {
    /// The roles.
    pub enum Role {
        /// Provider: tenant settings, members, tokens.
        OrgAdmin = "org-admin",
        /// Provider: API services.
        ApiDeveloper = "api-developer",
        /// Provider: products, plans, customers, subscriptions.
        BusinessManager = "business-manager",
        /// Provider: gateway templates, publishes.
        GatewayOwner = "gateway-owner",
        /// Customer: subscriptions, apps, credentials of one customer.
        CustomerAdmin = "customer-admin",
        /// Customer: apps and credentials of one customer.
        ApiConsumer = "api-consumer",
        /// Operator: clusters, agents, over all tenants.
        SreOperator = "sre-operator",
        /// Operator: everything.
        SystemAdmin = "system-admin",
    }
}

impl Role {
    /// All roles.
    pub const ALL: [Self; 8] = [
        Self::OrgAdmin,
        Self::ApiDeveloper,
        Self::BusinessManager,
        Self::GatewayOwner,
        Self::CustomerAdmin,
        Self::ApiConsumer,
        Self::SreOperator,
        Self::SystemAdmin,
    ];

    /// Whether it is an operator's role. Operators act over all tenants; their tokens have no
    /// tenant.
    pub fn is_operator(self) -> bool {
        matches!(self, Self::SreOperator | Self::SystemAdmin)
    }

    /// Whether it is a customer's role. Such roles act for one customer, which their tokens have.
    pub fn is_customer(self) -> bool {
        matches!(self, Self::CustomerAdmin | Self::ApiConsumer)
    }
}

/// The actions that roles permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Get and list.
    Read,
    /// Create, change, delete, and the actions of a life cycle.
    Write,
    /// Approve or reject, suspend or resume, or delete what others requested.
    Decide,
    /// Permanently revoke what others own, such as a leaked key.
    Revoke,
}

impl Action {
    /// All actions.
    pub const ALL: [Self; 4] = [Self::Read, Self::Write, Self::Decide, Self::Revoke];
}

/// The kinds of objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Tenants.
    Tenant,
    /// Tokens of the REST API.
    ApiToken,
    /// API services.
    ApiService,
    /// Gateway templates.
    Gateway,
    /// Domains.
    Domain,
    /// Products.
    Product,
    /// Plans.
    Plan,
    /// Clusters.
    Cluster,
    /// Agents of a cluster: the operator's machines, Envoys and addresses.
    Agent,
    /// Registration tokens of a cluster.
    RegistrationToken,
    /// Publishes.
    ProductPublish,
    /// Customers.
    Customer,
    /// Subscriptions.
    Subscription,
    /// Apps of a customer.
    ClientApp,
    /// Consumers.
    Consumer,
    /// Credentials.
    Credential,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 16] = [
        Self::Tenant,
        Self::ApiToken,
        Self::ApiService,
        Self::Gateway,
        Self::Domain,
        Self::Product,
        Self::Plan,
        Self::Cluster,
        Self::Agent,
        Self::RegistrationToken,
        Self::ProductPublish,
        Self::Customer,
        Self::Subscription,
        Self::ClientApp,
        Self::Consumer,
        Self::Credential,
    ];
}

/// Whether a role may do an action on a kind of object. Which *objects* of that kind is decided by
/// the scope ([`crate::scope`]).
pub fn allows(role: Role, kind: Kind, action: Action) -> bool {
    role == Role::SystemAdmin
        || TABLE.iter().any(|(k, a, roles)| *k == kind && *a == action && roles.contains(&role))
}

/// Whether any of these roles allows it.
pub fn any_allows(roles: &[Role], kind: Kind, action: Action) -> bool {
    roles.iter().any(|&role| allows(role, kind, action))
}

use Action::{Decide, Read, Revoke, Write};
use Role::{
    ApiConsumer, ApiDeveloper, BusinessManager, CustomerAdmin, GatewayOwner, OrgAdmin, SreOperator,
};

/// system-admin may do everything and is not listed.
const TABLE: &[(Kind, Action, &[Role])] = &[
    (Kind::Tenant, Read, &[OrgAdmin, ApiDeveloper, BusinessManager, GatewayOwner, SreOperator]),
    (Kind::ApiToken, Read, &[OrgAdmin]),
    (Kind::ApiToken, Write, &[OrgAdmin]),
    (Kind::ApiService, Read, &[OrgAdmin, ApiDeveloper, BusinessManager, GatewayOwner]),
    (Kind::ApiService, Write, &[ApiDeveloper]),
    (Kind::Gateway, Read, &[OrgAdmin, ApiDeveloper, BusinessManager, GatewayOwner]),
    (Kind::Gateway, Write, &[GatewayOwner]),
    (Kind::Domain, Read, &[OrgAdmin, ApiDeveloper, BusinessManager, GatewayOwner, SreOperator]),
    (Kind::Domain, Write, &[OrgAdmin, GatewayOwner, SreOperator]),
    (Kind::Domain, Decide, &[SreOperator]),
    (
        Kind::Product,
        Read,
        &[OrgAdmin, ApiDeveloper, BusinessManager, GatewayOwner, CustomerAdmin, ApiConsumer],
    ),
    (Kind::Product, Write, &[BusinessManager]),
    (
        Kind::Plan,
        Read,
        &[OrgAdmin, ApiDeveloper, BusinessManager, GatewayOwner, CustomerAdmin, ApiConsumer],
    ),
    (Kind::Plan, Write, &[BusinessManager]),
    (Kind::Cluster, Read, &[OrgAdmin, GatewayOwner, SreOperator]),
    (Kind::Cluster, Write, &[SreOperator]),
    (Kind::Agent, Read, &[SreOperator]),
    (Kind::Agent, Write, &[SreOperator]),
    (Kind::RegistrationToken, Read, &[SreOperator]),
    (Kind::RegistrationToken, Write, &[SreOperator]),
    (
        Kind::ProductPublish,
        Read,
        &[OrgAdmin, ApiDeveloper, BusinessManager, GatewayOwner, SreOperator],
    ),
    (Kind::ProductPublish, Write, &[GatewayOwner]),
    (Kind::Customer, Read, &[OrgAdmin, BusinessManager, CustomerAdmin, ApiConsumer]),
    (Kind::Customer, Write, &[OrgAdmin, BusinessManager]),
    (Kind::Subscription, Read, &[OrgAdmin, BusinessManager, CustomerAdmin, ApiConsumer]),
    (Kind::Subscription, Write, &[BusinessManager, CustomerAdmin]),
    (Kind::Subscription, Decide, &[BusinessManager]),
    (Kind::ClientApp, Read, &[OrgAdmin, BusinessManager, CustomerAdmin, ApiConsumer]),
    (Kind::ClientApp, Write, &[CustomerAdmin, ApiConsumer]),
    (Kind::Consumer, Read, &[OrgAdmin, BusinessManager, CustomerAdmin, ApiConsumer]),
    (Kind::Consumer, Write, &[CustomerAdmin, ApiConsumer]),
    (Kind::Credential, Read, &[OrgAdmin, BusinessManager, CustomerAdmin, ApiConsumer]),
    (Kind::Credential, Write, &[CustomerAdmin, ApiConsumer]),
    (Kind::Credential, Revoke, &[OrgAdmin, BusinessManager, CustomerAdmin, ApiConsumer]),
];
