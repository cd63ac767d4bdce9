//! The whole table of roles and permissions.

use imp_core::role::{Action, Kind, Role, allows};
use imp_core::scope::{Forbidden, Principal};
use imp_core::{ApiTokenId, CustomerId, TenantId};

fn cells() -> impl Iterator<Item = (Kind, Action)> {
    Kind::ALL.into_iter().flat_map(|kind| Action::ALL.map(move |action| (kind, action)))
}

#[test]
fn a_system_admin_may_do_everything() {
    assert!(cells().all(|(kind, action)| allows(Role::SystemAdmin, kind, action)));
}

#[test]
fn customers_never_write_what_belongs_to_the_provider() {
    let providers = [
        Kind::Tenant,
        Kind::ApiToken,
        Kind::ApiService,
        Kind::Gateway,
        Kind::Product,
        Kind::Plan,
        Kind::Cluster,
        Kind::RegistrationToken,
        Kind::ProductPublish,
        Kind::Customer,
    ];
    for role in Role::ALL.into_iter().filter(|role| role.is_customer()) {
        for kind in providers {
            assert!(!allows(role, kind, Action::Write), "{role:?} {kind:?}");
        }
        assert!(
            cells().all(|(kind, _)| !allows(role, kind, Action::Decide)),
            "{role:?} decides nothing"
        );
    }
}

#[test]
fn a_leaked_key_is_revoked_by_its_customer_or_its_provider_and_by_nobody_else() {
    let may = |role: &Role| allows(*role, Kind::Credential, Action::Revoke);
    let who: Vec<Role> = Role::ALL.into_iter().filter(may).collect();
    use Role::{ApiConsumer, BusinessManager, CustomerAdmin, OrgAdmin, SystemAdmin};
    assert_eq!(who, [OrgAdmin, BusinessManager, CustomerAdmin, ApiConsumer, SystemAdmin]);
    let elsewhere =
        cells().filter(|(kind, action)| *action == Action::Revoke && *kind != Kind::Credential);
    for (kind, action) in elsewhere {
        assert!(
            Role::ALL.into_iter().all(|role| role == SystemAdmin || !allows(role, kind, action))
        );
    }
}

#[test]
fn only_operators_touch_clusters() {
    for role in Role::ALL.into_iter().filter(|role| !role.is_operator()) {
        assert!(!allows(role, Kind::Cluster, Action::Write), "{role:?}");
        assert!(!allows(role, Kind::RegistrationToken, Action::Read), "{role:?}");
    }
}

#[test]
fn whoever_may_write_may_read() {
    for role in Role::ALL {
        for kind in Kind::ALL.into_iter().filter(|&kind| allows(role, kind, Action::Write)) {
            assert!(allows(role, kind, Action::Read), "{role:?} {kind:?}");
        }
    }
}

#[test]
fn a_scope_is_no_wider_than_its_token() {
    let tenant = TenantId::new();
    let principal = Principal {
        token_id: ApiTokenId::new(),
        tenant_id: Some(tenant),
        customer_id: Some(CustomerId::new()),
        roles: vec![Role::CustomerAdmin],
    };
    assert_eq!(principal.authorise(Kind::Gateway, Action::Read), Err(Forbidden));
    let scope = principal.authorise(Kind::Subscription, Action::Read).unwrap();
    assert_eq!(scope.tenant(), Some(tenant));
    assert_eq!(scope.customer(), principal.customer_id);
    assert!(scope.holds(tenant) && !scope.holds(TenantId::new()));
    assert_eq!(scope.within(TenantId::new()), None, "a filter cannot widen it");
}
