//! Many tenants may claim a domain; one holds it.

use chrono::Utc;
use imp_core::TenantId;
use imp_core::domain::{Domain, DomainStatus};
use imp_store::testing::Kind;
use imp_store::{Record as _, Store, StoreError, Writable as _, domain as table};
use rstest::rstest;

use crate::shop::{Shop, domain, store, write};

async fn hold(store: &Store, domain: &Domain) -> imp_store::Result<Domain> {
    let held = domain.clone().held_as(DomainStatus::Verified, Utc::now());
    write(store, async |tx| held.update(tx, domain.meta.version).await).await?;
    Ok(held)
}

async fn above(store: &Store, hostname: &str) -> Option<(String, TenantId)> {
    let held = write(store, async |tx| table::holder_above(tx, hostname).await).await.unwrap();
    held.map(|held| (held.name.clone(), held.tenant_id()))
}

#[rstest]
#[tokio::test]
async fn the_longest_held_domain_decides(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let (_database, store) = store(kind).await;
    let acme = Shop::open(&store, "acme").await;
    let other = Shop::open(&store, "other").await;
    let parent = domain(acme.tenant.id, "corp.org");
    let wanted_too = domain(other.tenant.id, "corp.org");
    let child = domain(other.tenant.id, "team.corp.org");
    for it in [&parent, &wanted_too, &child] {
        write(&store, async |tx| it.insert(tx).await).await.unwrap();
    }
    assert_eq!(above(&store, "a.team.corp.org").await, None, "wanting is not having");
    hold(&store, &parent).await.unwrap();
    let second = hold(&store, &wanted_too).await;
    assert!(matches!(&second, Err(error) if table::is_held_by_another(error)), "{second:?}");
    let corp = Some(("corp.org".to_owned(), acme.tenant.id));
    assert_eq!(above(&store, "corp.org").await, corp);
    assert_eq!(above(&store, "a.team.corp.org").await, corp);
    assert_eq!(above(&store, "badcorp.org").await, None);
    hold(&store, &child).await.unwrap();
    let team = Some(("team.corp.org".to_owned(), other.tenant.id));
    assert_eq!(above(&store, "a.team.corp.org").await, team);
    assert_eq!(above(&store, "a.corp.org").await, corp);

    let again = domain(acme.tenant.id, "corp.org");
    let twice = write(&store, async |tx| again.insert(tx).await).await;
    assert!(matches!(twice, Err(StoreError::Taken { field: "name" })), "{twice:?}");
}

#[rstest]
#[tokio::test]
async fn a_domain_is_in_use_while_a_host_below_it_is_claimed(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let (_database, store) = store(kind).await;
    let acme = Shop::open(&store, "acme").await;
    let other = Shop::open(&store, "other").await;
    let in_use = async |domain: Domain| {
        write(&store, async |tx| table::is_in_use(tx, &domain).await).await.unwrap()
    };
    assert!(in_use(domain(acme.tenant.id, "example.com")).await);
    assert!(in_use(domain(acme.tenant.id, "acme.example.com")).await);
    assert!(!in_use(domain(acme.tenant.id, "me.example.com")).await, "no whole label");
    assert!(!in_use(domain(acme.tenant.id, "other.example.com")).await, "another tenant's");
    assert!(in_use(domain(other.tenant.id, "other.example.com")).await);
}
