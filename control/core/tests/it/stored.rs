//! Stored JSON of any release can be read, and requests are read strictly.

use std::fmt::Debug;

use imp_core::Check as _;
use imp_core::api_service::ApiServiceSpec;
use imp_core::api_service::ApiServiceStatus;
use imp_core::cluster::AgentNode;
use imp_core::credential::CredentialStatus;
use imp_core::domain::DomainStatus;
use imp_core::gateway::{GatewayClass, Listener};
use imp_core::plan::PlanSpec;
use imp_core::policy::{Policy, PolicyConfig};
use imp_core::port::PortRange;
use imp_core::product::{CatalogStatus, Visibility};
use imp_core::product_publish::{
    Environment, FrozenApiService, NodeCounts, ProductPublishSpec, Progress, PublishCondition,
    PublishError, PublishStatus,
};
use imp_core::stored;
use imp_core::subscription::SubscriptionStatus;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use utoipa::PartialSchema as _;

/// A type that is stored.
trait Shape: Serialize + DeserializeOwned + PartialEq + Debug {}
impl<T: Serialize + DeserializeOwned + PartialEq + Debug> Shape for T {}

fn documents(text: &'static str) -> Vec<&'static str> {
    let lines: Vec<_> = text.lines().collect();
    assert!(!lines.is_empty());
    lines
}

/// Every document can be read and is written unchanged.
fn unchanged<T: Shape>(text: &'static str) {
    for document in documents(text) {
        let read: T = stored::read(document).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), document);
    }
}

/// Collects pointers to all objects, except those whose only field names the variant.
fn objects(value: &Value, at: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            let variant = ["/path", "/value"].iter().any(|end| at.ends_with(end));
            if !variant {
                found.push(at.to_owned());
            }
            for (name, value) in fields {
                objects(value, &format!("{at}/{name}"), found);
            }
        }
        Value::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                objects(value, &format!("{at}/{index}"), found);
            }
        }
        _ => {}
    }
}

/// A field that a newer release added is skipped in any object, and refused in a request. `lax` is
/// the number of outer levels that no request has.
fn forward_compatible<T: Shape>(text: &'static str, lax: usize) {
    let mut seen = 0;
    for document in documents(text) {
        let read: T = stored::read(document).unwrap();
        let document: Value = serde_json::from_str(document).unwrap();
        let mut places = Vec::new();
        objects(&document, "", &mut places);
        for place in places {
            let mut newer = document.clone();
            let object = newer.pointer_mut(&place).unwrap();
            object["of_a_newer_release"] = json!({ "depth": [1] });
            let newer = newer.to_string();
            assert_eq!(stored::read::<T>(&newer).unwrap(), read, "{place:?}");
            if place.matches('/').count() >= lax {
                let refused = serde_json::from_str::<T>(&newer).unwrap_err().to_string();
                assert!(refused.contains("unknown field"), "{place:?}: {refused}");
                seen += 1;
            }
        }
    }
    assert!(seen > 0 || lax == usize::MAX);
}

/// Collects pointers to all words, and to the objects whose only field names the variant.
fn words(value: &Value, at: &str, found: &mut Vec<String>) {
    match value {
        Value::String(_) => found.push(at.to_owned()),
        Value::Object(fields) => {
            if fields.len() == 1 {
                found.push(at.to_owned());
            }
            fields.iter().for_each(|(name, value)| words(value, &format!("{at}/{name}"), found));
        }
        Value::Array(items) => {
            let items = items.iter().enumerate();
            items.for_each(|(index, value)| words(value, &format!("{at}/{index}"), found));
        }
        _ => {}
    }
}

/// Wherever a request may have one of several words or shapes, an unknown one that is stored is
/// kept. Returns the number of such places.
fn keeps_words<T: Shape>(text: &'static str) -> usize {
    let mut kept = 0;
    for document in documents(text) {
        let document: Value = serde_json::from_str(document).unwrap();
        let mut places = Vec::new();
        words(&document, "", &mut places);
        for place in places {
            let mut newer = document.clone();
            let word = newer.pointer_mut(&place).unwrap();
            *word = match word.as_object().and_then(|fields| fields.values().next()) {
                Some(value) => json!({ "moon": value }),
                None => json!("moon"),
            };
            let refused = serde_json::from_str::<T>(&newer.to_string());
            let Err(refused) = refused.map_err(|error| error.to_string()) else { continue };
            if !refused.contains("unknown variant `moon`") {
                continue;
            }
            let read: T = stored::read(&newer.to_string()).unwrap();
            assert_eq!(serde_json::to_value(&read).unwrap(), newer, "{place}");
            kept += 1;
        }
    }
    kept
}

#[test]
fn a_shape_of_a_newer_release_is_kept_however_it_looks() {
    use imp_core::route::{PathMatch, ValueRule};
    for newer in [
        json!("any"),
        json!({ "glob": "/a/*" }),
        json!({ "prefix": { "path": "/a", "case": false } }),
        json!({ "case": false, "prefix": "/a" }),
    ] {
        let read: PathMatch = stored::read(&newer.to_string()).unwrap();
        assert!(matches!(read, PathMatch::Newer(_)), "{read:?}");
        assert_eq!(serde_json::to_value(&read).unwrap(), newer);
        assert!(serde_json::from_str::<PathMatch>(&newer.to_string()).is_err());
    }
    assert_eq!(
        stored::read::<PathMatch>(r#"{"prefix":"/a"}"#).unwrap(),
        PathMatch::Prefix("/a".into())
    );
    assert!(stored::read::<PathMatch>("7").is_err());
    let value: ValueRule = stored::read(r#"{"range":[1,2]}"#).unwrap();
    assert!(matches!(&value, ValueRule::Newer(newer) if newer.word() == "range"));
}

#[test]
fn a_role_of_a_newer_release_allows_nothing() {
    use imp_core::role::{Action, Kind, Role, any_allows};
    let roles: Vec<Role> = stored::read(r#"["auditor","org-admin"]"#).unwrap();
    assert_eq!(serde_json::to_value(&roles).unwrap(), json!(["auditor", "org-admin"]));
    let auditor = roles[0];
    assert!(!auditor.is_operator() && !auditor.is_customer());
    for kind in Kind::ALL {
        assert!(Action::ALL.iter().all(|&action| !any_allows(&[auditor], kind, action)));
    }
    assert!(serde_json::from_str::<Role>(r#""auditor""#).is_err());
}

#[test]
fn terms_of_a_newer_release_give_no_less_only_to_their_like() {
    let plan = |on_exceed: &str, amount: u64, scope: &str| -> PlanSpec {
        let limit = json!({ "name": "l", "amount": amount, "window": "day",
                            "on_exceed": on_exceed, "scope": scope });
        stored::read(&json!({ "name": "p", "limits": [limit] }).to_string()).unwrap()
    };
    let block = plan("block", 5, "subscription");
    let slow = plan("slow_down", 5, "subscription");
    assert!(!slow.gives_as_much_as(&block) && !block.gives_as_much_as(&slow));
    assert!(plan("slow_down", 6, "subscription").gives_as_much_as(&slow));
    assert!(!plan("slow_down", 4, "subscription").gives_as_much_as(&slow));
    assert!(!plan("block", 5, "city").gives_as_much_as(&block));
    assert_eq!(slow.newer_word(), Some(("on_exceed", "slow_down")));
}

macro_rules! corpus {
    ($($file:literal: $type:ty, $lax:expr;)*) => {
        #[test]
        fn every_shape_ever_stored_reads_and_is_written_as_it_was() {
            $(unchanged::<$type>(include_str!(concat!("../corpus/", $file, ".jsonl")));)*
        }

        #[test]
        fn a_field_of_a_newer_release_is_passed_over_when_stored_and_refused_when_sent() {
            $(forward_compatible::<$type>(include_str!(concat!("../corpus/", $file, ".jsonl")), $lax);)*
        }

        #[test]
        fn a_word_of_a_newer_release_is_kept_when_stored_and_refused_when_sent() {
            let kept = [$(
                ($file, keeps_words::<$type>(include_str!(concat!("../corpus/", $file, ".jsonl"))))
            ),*];
            let places: Vec<_> = kept.into_iter().filter(|(_, places)| *places > 0).collect();
            assert_eq!(places.iter().map(|(file, _)| *file).collect::<Vec<_>>(),
                ["frozen_api_services", "listeners", "plan_spec", "product_publish_spec"]);
        }

        #[test]
        fn every_file_of_the_corpus_is_read() {
            let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus");
            let mut files: Vec<_> = std::fs::read_dir(folder).unwrap()
                .filter_map(|it| it.unwrap().file_name().into_string().unwrap()
                    .strip_suffix(".jsonl").map(str::to_owned)).collect();
            files.sort();
            assert_eq!(files, [$($file),*]);
        }
    };
}

corpus! {
    "agent_nodes": Vec<AgentNode>, usize::MAX;
    "frozen_api_services": Vec<FrozenApiService>, 2;
    "listeners": Vec<Listener>, 0;
    "node_counts": NodeCounts, usize::MAX;
    "plan_spec": PlanSpec, 0;
    "port_ranges": Vec<PortRange>, 0;
    "product_publish_spec": ProductPublishSpec, 0;
    "publish_conditions": Vec<PublishCondition>, usize::MAX;
    "publish_error": PublishError, usize::MAX;
}

const TELEPORT: &str = r#"{"id":"01940000-0000-7000-8000-000000000007","name":"t","type":"teleport","config":{"to":["x",{"deep":1}],"id":5},"route":"r"}"#;

#[test]
fn a_policy_of_a_newer_release_is_kept_as_it_is() {
    let policy: Policy = stored::read(TELEPORT).unwrap();
    assert_eq!(policy.config.kind(), "teleport");
    assert!(matches!(policy.config, PolicyConfig::Unknown(_)));
    let written = serde_json::to_value(&policy).unwrap();
    assert_eq!(written, serde_json::from_str::<Value>(TELEPORT).unwrap());
    // In any order in which the database returns the fields.
    let reordered = r#"{"config":{"to":["x",{"deep":1}],"id":5},"id":"01940000-0000-7000-8000-000000000007","name":"t","route":"r","type":"teleport"}"#;
    assert_eq!(stored::read::<Policy>(reordered).unwrap(), policy);
    // Other policies beside it are read as before, and a request may not contain it.
    let list = format!(
        r#"{{"name":"s","policies":[{TELEPORT},{{"name":"l","type":"rate_limit","config":{{"requests":5,"per":"minute","burst":1}}}}]}}"#
    );
    let spec: ApiServiceSpec = stored::read(&list).unwrap();
    assert!(matches!(spec.policies[1].config, PolicyConfig::RateLimit(_)));
    assert!(serde_json::from_str::<ApiServiceSpec>(&list).is_err());
    let faults = spec.checked().unwrap_err();
    let fault = faults.iter().find(|it| it.code == "unknown_policy_type").unwrap();
    assert!(fault.pointer.starts_with("/policies/0/"), "{}", fault.pointer);
}

#[test]
fn a_request_with_an_unknown_type_of_policy_is_refused() {
    for text in [TELEPORT, r#"{"type":"teleport","name":"t","config":null}"#] {
        let refused = serde_json::from_str::<Policy>(text).unwrap_err().to_string();
        assert!(refused.contains("unknown variant `teleport`, expected one of"), "{refused}");
    }
}

#[test]
fn a_state_of_a_newer_release_is_kept_and_leads_nowhere() {
    let status: PublishStatus = stored::read_word("degraded").unwrap();
    assert_eq!(
        (status.as_str(), serde_json::to_value(status).unwrap()),
        ("degraded", json!("degraded"))
    );
    assert_eq!(stored::read_word::<PublishStatus>("degraded").unwrap(), status);
    assert_ne!(stored::read_word::<PublishStatus>("drifted").unwrap(), status);
    assert_eq!(stored::read_word::<PublishStatus>("active").unwrap(), PublishStatus::Active);
    for step in [status.redeploy(), status.suspend(), status.resume(), status.undeploy()] {
        assert_eq!(step.unwrap_err().from, "degraded");
    }
    for progress in [Progress::Acked, Progress::Deploying, Progress::Refused] {
        assert_eq!(status.report(progress), status);
    }
    let living: SubscriptionStatus = stored::read_word("past_due").unwrap();
    assert!(living.is_living(), "as the unique index has it");
    assert!(living.cancel().is_err() && living.approve().is_err());
    let key: CredentialStatus = stored::read_word("quarantined").unwrap();
    assert_eq!(key.revoke().ok(), Some(CredentialStatus::Revoked), "it may be open elsewhere");
    let service: ApiServiceStatus = stored::read_word("blocked").unwrap();
    assert!(service.publish().is_err() && service.retire().is_err());
    let product: CatalogStatus = stored::read_word("hidden").unwrap();
    assert!(product.activate("product").is_err() && product.close("product").is_err());
    // Callers and the API's document have only the known states.
    assert!(serde_json::from_str::<PublishStatus>(r#""degraded""#).is_err());
    assert!(serde_json::from_str::<PublishStatus>(r#"{"newer":"degraded"}"#).is_err());
    let schema = serde_json::to_value(CatalogStatus::schema()).unwrap();
    assert_eq!(schema["enum"], json!(["draft", "active", "deprecated", "closed"]));
    assert_eq!(schema["type"], "string");
    let about = "The life cycle of products and plans: draft -> active -> deprecated -> closed.";
    assert_eq!(schema["description"], about);
    for nothing in ["", &"x".repeat(65)] {
        assert!(stored::read_word::<PublishStatus>(nothing).is_err());
    }
}

/// Alone in its column or inside stored JSON, it is kept, and a request cannot use it.
#[test]
fn a_word_of_a_newer_release_is_kept_wherever_it_stands() {
    let at = |field: &str, word: &str| {
        let mut spec: Value = serde_json::from_str(
            include_str!("../corpus/product_publish_spec.jsonl").lines().next().unwrap(),
        )
        .unwrap();
        spec[field] = json!(word);
        spec.to_string()
    };
    for (field, known) in [("environment", "prod"), ("auth_mode", "api_key"), ("delivery", "auto")]
    {
        let newer = at(field, "moon");
        let read: ProductPublishSpec = stored::read(&newer).unwrap();
        let of = [
            ("environment", read.environment.newer_word()),
            ("auth_mode", read.auth_mode.newer_word()),
            ("delivery", read.delivery.newer_word()),
        ];
        for (other, word) in of {
            assert_eq!(word, (other == field).then_some("moon"), "{field}: {other}");
        }
        assert_eq!(serde_json::to_value(&read).unwrap()[field], "moon", "{field}");
        let refused = serde_json::from_str::<ProductPublishSpec>(&newer).unwrap_err().to_string();
        assert!(refused.contains("unknown variant `moon`, expected one of"), "{refused}");
        assert!(serde_json::from_str::<ProductPublishSpec>(&at(field, known)).is_ok(), "{field}");
    }
    assert_eq!(stored::read_word::<Environment>("moon").unwrap().as_str(), "moon");
    assert_eq!(stored::read_word::<DomainStatus>("lapsed").unwrap().newer_word(), Some("lapsed"));
    assert_eq!(
        stored::read_word::<GatewayClass>("envoy-gateway").unwrap(),
        GatewayClass::EnvoyGateway
    );
    assert!(!stored::read_word::<GatewayClass>("istio").unwrap().has_driver());
    assert_ne!(stored::read_word::<Visibility>("partners").unwrap(), Visibility::Public);
    assert_eq!(serde_json::from_str::<Visibility>(r#""public""#).unwrap(), Visibility::Public);
}

#[test]
fn what_cannot_be_read_says_where_it_stands() {
    let error = stored::read::<PlanSpec>("{\n\"name\": 1}").unwrap_err();
    assert_eq!(error.line(), 2);
    assert!(stored::read::<PlanSpec>("{").is_err());
    assert!(stored::read::<ProductPublishSpec>("{}").is_err(), "what is missing is missing");
}
