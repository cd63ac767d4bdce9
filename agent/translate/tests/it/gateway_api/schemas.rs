//! What is rendered for each class is what the CRDs say that the class's controllers come with.
//!
//! `published.json` is written by `deploy/kube/schemas.py`.

mod cases;
mod real;
mod structural;

use std::collections::BTreeMap;

use imp_grammar::classes::{self, CLASSES, Class};
use serde::Deserialize;
use serde_json::Value;

use cases::{Rendered, rendered};

/// Published CRDs: by the name of a release, then by kind.
type Sets = BTreeMap<String, BTreeMap<String, Definition>>;

/// A kind of a release.
#[derive(Deserialize)]
struct Definition {
    group: String,
    version: String,
    plural: String,
    schema: Value,
}

fn published() -> Sets {
    let mut file: Value = serde_json::from_str(include_str!("schemas/published.json")).unwrap();
    let definitions: Vec<_> = file["definitions"].as_array().unwrap().clone();
    resolve(&mut file["sets"], &definitions);
    serde_json::from_value(file["sets"].take()).unwrap()
}

/// What occurs more than once is written once.
fn resolve(tree: &mut Value, definitions: &[Value]) {
    if let Some(place) = tree.get("$").and_then(Value::as_u64) {
        *tree = definitions[usize::try_from(place).unwrap()].clone();
    }
    match tree {
        Value::Object(fields) => fields.values_mut().for_each(|it| resolve(it, definitions)),
        Value::Array(items) => items.iter_mut().for_each(|it| resolve(it, definitions)),
        _ => {}
    }
}

/// The releases of Gateway API that a class's controllers come with.
fn releases(class: &Class) -> &'static [&'static str] {
    match class.word {
        // It brings the experimental channel; of the standard one it needs nothing that is not there.
        "envoy-gateway" => &["1.6.1"],
        "nginx" | "kong" | "traefik" | "apisix" => &["1.2.1", "1.3.0", "1.4.1", "1.5.1", "1.6.1"],
        other => panic!("which releases does {other} come with?"),
    }
}

/// What a release does not have: the documented exceptions, by feature.
fn lacks(feature: &str, release: &str, channel: &str) -> bool {
    let at_most = |most: &str| release < most;
    match feature {
        "cors" => at_most("1.3") || (channel == "standard" && at_most("1.5")),
        "upstream_tls" => at_most("1.4"),
        _ => false,
    }
}

/// An object and the release that judges it.
struct Judged<'a> {
    release: String,
    definition: &'a Definition,
    object: &'a Value,
    /// Whether the release lacks the feature.
    lacks: bool,
}

/// Each object that is of no core kind, by each release.
fn judged<'a>(class: &Class, case: &'a Rendered, sets: &'a Sets) -> Vec<Judged<'a>> {
    let mut all = Vec::new();
    let channels = ["standard", "experimental"];
    for (release, channel) in
        releases(class).iter().flat_map(|it| channels.map(|channel| (it, channel)))
    {
        let name = format!("gateway-api {release} {channel}");
        let lacks = lacks(case.feature, release, channel);
        for object in &case.objects {
            let (kind, version) = (text(object, "kind"), text(object, "apiVersion"));
            let release = match version.split_once('/').map_or("", |(group, _)| group) {
                "gateway.networking.k8s.io" => name.clone(),
                "gateway.envoyproxy.io" => "envoy-gateway 1.9.1".to_owned(),
                _ => continue,
            };
            let is_same = |it: &&Definition| format!("{}/{}", it.group, it.version) == version;
            match sets[&release].get(kind).filter(is_same) {
                Some(definition) => all.push(Judged { release, definition, object, lacks }),
                None => assert!(lacks, "{release} has no {kind} of {version}"),
            }
        }
    }
    all
}

fn text<'a>(object: &'a Value, name: &str) -> &'a str {
    object[name].as_str().unwrap()
}

#[test]
fn every_object_of_every_class_is_what_the_crds_of_its_releases_say() {
    let sets = published();
    for class in CLASSES {
        let mut judgements = 0;
        for case in rendered(class) {
            // What a release lacks shows at one object of the case at least.
            let mut lacking: BTreeMap<String, bool> = BTreeMap::new();
            for Judged { release, definition, object, lacks } in judged(class, &case, &sets) {
                let faults = structural::faults(&definition.schema, object);
                if lacks {
                    *lacking.entry(release).or_default() |= !faults.is_empty();
                } else {
                    let at = format!("{}: {} on {release}", class.word, case.feature);
                    assert!(faults.is_empty(), "{at}: {faults:#?} {object:#}");
                }
                judgements += 1;
            }
            let known = lacking.iter().filter(|(_, seen)| !**seen);
            let known: Vec<_> = known.filter(|_| case.feature == "cors").collect();
            assert!(
                known.is_empty(),
                "{}: it has {} after all: {known:?}",
                class.word,
                case.feature
            );
        }
        assert!(judgements > 10, "{}: {judgements}", class.word);
    }
}

#[test]
fn every_feature_of_a_class_without_policies_has_a_case() {
    for class in CLASSES.into_iter().filter(|class| !class.has_policies) {
        let shown: Vec<_> = rendered(class).iter().map(|case| case.feature).collect();
        for feature in class.can {
            assert!(shown.contains(&feature.word), "{}: {}", class.word, feature.word);
        }
        for feature in classes::FEATURES.iter().filter(|it| !class.can(**it)) {
            assert!(!shown.contains(&feature.word), "{}: {}", class.word, feature.word);
        }
    }
}
