//! Who may do what, over the whole table.

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
