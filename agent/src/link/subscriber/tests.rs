use imp_enforce::{Call, Engine, Presented, PublishKey};
use imp_proto::config as pb;
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;

use super::*;

const KEY: &str = "imp_key";

/// The name of the only resource of a type.
fn name(of: ResourceType) -> &'static str {
    match of {
        ResourceType::Gateway => "g",
        ResourceType::Publish => "p",
        ResourceType::Entitlement => "e",
        ResourceType::Credential => "c",
    }
}

/// The only resource of a type; with all of them, a call with [`KEY`] is allowed.
fn only(of: ResourceType) -> Resource {
    let id = name(of).to_owned();
    let wire = match of {
        ResourceType::Gateway => {
            let protocol = pb::listener::Protocol::Http.into();
            let listener =
                pb::Listener { name: "http".into(), port: 8080, protocol, ..Default::default() };
            pb::Gateway { id, listeners: vec![listener], ..Default::default() }.encode_to_vec()
        }
        ResourceType::Publish => {
            let publish = pb::Publish {
                id,
                gateway_id: name(ResourceType::Gateway).into(),
                product_id: "product".into(),
                environment: "prod".into(),
                auth_mode: pb::publish::AuthMode::ApiKey.into(),
                hostnames: vec!["a.example.com".into()],
                base_path: "/".into(),
                revision: 1,
                ..Default::default()
            };
            publish.encode_to_vec()
        }
        ResourceType::Entitlement => {
            let entitlement = pb::Entitlement {
                id,
                product_id: "product".into(),
                environment: "prod".into(),
                state: pb::entitlement::State::Active.into(),
                ..Default::default()
            };
            entitlement.encode_to_vec()
        }
        ResourceType::Credential => {
            let credential = pb::Credential {
                id,
                subscription_id: name(ResourceType::Entitlement).into(),
                key_sha256: Sha256::digest(KEY).to_vec().into(),
                state: pb::credential::State::Active.into(),
                ..Default::default()
            };
            credential.encode_to_vec()
        }
    };
    Resource::new(name(of), imp_proto::content_version(&wire), wire.into())
}

/// An agent on a state directory, assembled as in `app.rs`.
struct Life {
    engine: Engine,
    fleet: Fleet,
    lkg: Lkg,
    held_resources: HeldResources,
    cancel: CancellationToken,
}

impl Life {
    fn begin(directory: &std::path::Path) -> Self {
        let (lkg, mut loaded) = Lkg::open(directory).unwrap();
        let (engine, cancel) = (Engine::new(), CancellationToken::new());
        let fleet = Fleet::with(engine.clone(), lkg.clone(), cancel.clone());
        let complete = HeldResources::was_complete(&loaded);
        let whole = fleet.restore_access(&mut loaded);
        let restored = fleet.restore(whole, &mut loaded);
        let held_resources = HeldResources::new(fleet.clone(), lkg.clone(), restored, complete);
        Self { engine, fleet, lkg, held_resources, cancel }
    }

    fn tell(&self, of: ResourceType, upserts: Vec<Resource>, removals: Vec<String>) {
        let type_url = TypeUrl::from(of.type_url());
        let update = Update { type_url, upserts, removals, more: false };
        assert_eq!(self.held_resources.apply(update).0, []);
    }

    /// Whether the resource takes effect.
    fn acts(&self, of: ResourceType) -> bool {
        let call = Call {
            publish: PublishKey::Id(name(ResourceType::Publish)),
            route_id: "r",
            access: "",
            gateway_id: None,
            credential: Presented::Key(KEY),
            client: None,
            now: imp_process::clock::now(),
        };
        match of {
            ResourceType::Gateway => self.fleet.size().gateways == 1,
            ResourceType::Publish => self.fleet.size().publishes == 1,
            ResourceType::Entitlement | ResourceType::Credential => {
                self.engine.decide(&call).is_ok()
            }
        }
    }

    async fn end(self) {
        self.lkg.flush().await;
        self.lkg.close();
        self.cancel.cancel();
    }
}

#[tokio::test]
async fn every_type_is_parsed_held_kept_restored_and_removed() {
    let types = || ResourceType::ALL.iter().copied();
    for gone in types() {
        let directory = tempfile::tempdir().unwrap();
        let first = Life::begin(directory.path());
        types().for_each(|of| first.tell(of, vec![only(of)], vec![]));
        assert!(types().all(|of| first.acts(of)) && first.held_resources.is_complete());
        first.end().await;

        let second = Life::begin(directory.path());
        for of in types() {
            assert!(second.acts(of), "{of:?} after a restart");
            let held: Vec<_> = second.held_resources.lock().versions[&of].iter().collect();
            let version = only(of).version().to_string();
            assert_eq!(held, [(name(of).to_owned(), version)], "{of:?}");
        }
        second.tell(gone, vec![], vec![name(gone).to_owned()]);
        assert!(!second.acts(gone), "{gone:?} is removed");
        second.end().await;

        let third = Life::begin(directory.path());
        for of in types() {
            assert_eq!(third.held_resources.lock().count(of), usize::from(of != gone), "{of:?}");
        }
        assert!(!third.acts(gone), "{gone:?} stays removed");
        third.end().await;
    }
}

#[tokio::test]
async fn a_resource_set_that_comes_in_parts_is_not_served_before_the_last_one() {
    let directory = tempfile::tempdir().unwrap();
    let (lkg, _) = Lkg::open(directory.path()).unwrap();
    let cancel = CancellationToken::new();
    let fleet = Fleet::empty(lkg.clone(), cancel.clone());
    let held_resources = HeldResources::new(fleet.clone(), lkg.clone(), Vec::new(), false);
    let tell = |kind: ResourceType, more| {
        let type_url = TypeUrl::from(kind.type_url());
        held_resources.apply(Update { type_url, upserts: Vec::new(), removals: Vec::new(), more });
    };
    for kind in ResourceType::ALL.iter().copied() {
        tell(kind, kind == ResourceType::Publish);
    }
    assert!(!held_resources.is_complete() && !fleet.is_open(), "more publishes are to come");
    tell(ResourceType::Publish, true);
    assert!(!fleet.is_open());
    tell(ResourceType::Publish, false);
    assert!(held_resources.is_complete() && fleet.is_open());
    cancel.cancel();
    lkg.close();
}
