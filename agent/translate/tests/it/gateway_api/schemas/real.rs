//! The same on a real API server, which also judges the rules in CEL.
//!
//! Each release is installed beside the others, under a group of its own: an object is sent with that group's
//! `apiVersion`. `IMP_TEST_KUBE` names the folder of the stack (`deploy/kube/stack.py`).

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use imp_grammar::classes::CLASSES;
use serde_json::{Value, json};

use super::cases::rendered;
use super::{Definition, Judged, judged, published, text};

const SERVER: &str = "https://127.0.0.1:6443";
const NAMESPACE: &str = "edge";

struct Api {
    pki: PathBuf,
}

impl Api {
    fn new() -> Self {
        Self { pki: PathBuf::from(std::env::var("IMP_TEST_KUBE").unwrap()).join("pki") }
    }

    /// Asks whether an object could be applied. Returns the answer.
    fn try_on(&self, group: &str, plural: &str, object: &Value) -> Value {
        let name = text(&object["metadata"], "name");
        let path = format!("{group}/namespaces/{NAMESPACE}/{plural}/{name}");
        self.apply(&path, object, "&dryRun=All")
    }

    fn apply(&self, path: &str, object: &Value, more: &str) -> Value {
        let url = format!("{SERVER}{path}?fieldManager=schemas&force=true{more}");
        self.curl(
            &["-X", "PATCH", "-H", "content-type: application/apply-patch+yaml"],
            &url,
            Some(object),
        )
    }

    fn curl(&self, options: &[&str], url: &str, body: Option<&Value>) -> Value {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut curl = Command::new("curl");
        curl.arg("-sk").args(options).arg("--cert").arg(self.pki.join("admin.crt"));
        curl.arg("--key").arg(self.pki.join("admin.key"));
        if let Some(body) = body {
            std::fs::write(file.path(), body.to_string()).unwrap();
            curl.arg("--data-binary").arg(format!("@{}", file.path().display()));
        }
        let answer = curl.arg(url).output().unwrap().stdout;
        serde_json::from_slice(&answer).unwrap()
    }

    fn is_established(&self, path: &str) -> bool {
        let crd = self.curl(&[], &format!("{SERVER}{path}"), None);
        let conditions = crd["status"]["conditions"].as_array().into_iter().flatten();
        conditions.into_iter().any(|it| it["type"] == "Established" && it["status"] == "True")
    }
}

/// The group of a release's kinds beside those of other releases.
fn group(release: &str) -> String {
    format!("{}.schemas.invalid", release.replace([' ', '.'], "-"))
}

fn crd(release: &str, kind: &str, of: &Definition) -> Value {
    let group = group(release);
    let version = json!({
        "name": of.version, "served": true, "storage": true,
        "schema": { "openAPIV3Schema": of.schema },
    });
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": { "name": format!("{}.{group}", of.plural) },
        "spec": {
            "group": group,
            "names": { "kind": kind, "plural": of.plural, "singular": kind.to_lowercase(), "listKind": format!("{kind}List") },
            "scope": "Namespaced",
            "versions": [version],
        },
    })
}

#[ignore = "needs an API server: IMP_TEST_KUBE"]
#[tokio::test]
async fn an_api_server_takes_every_object_by_the_crds_of_every_release() {
    let (api, sets) = (Api::new(), published());
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let mut paths = Vec::new();
    for (release, kinds) in &sets {
        for (kind, of) in kinds {
            let crd = crd(release, kind, of);
            let path = format!("{definitions}/{}", text(&crd["metadata"], "name"));
            let answer = api.apply(&path, &crd, "");
            assert_eq!(answer["kind"], "CustomResourceDefinition", "{release} {kind}: {answer}");
            paths.push(path);
        }
    }
    let deadline = Instant::now() + Duration::from_secs(60);
    for path in &paths {
        while !api.is_established(path) {
            assert!(Instant::now() < deadline, "never: {path}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    let (mut taken, mut refused) = (BTreeSet::new(), 0);
    for class in CLASSES {
        for case in rendered(class) {
            let at = format!("{}: {}", class.word, case.feature);
            for Judged { release, definition, object, lacks } in judged(class, &case, &sets) {
                let own = format!("{}/{}", group(&release), definition.version);
                let mut object = object.clone();
                object["apiVersion"] = json!(own);
                let text_of_it = object.to_string();
                if taken.contains(&text_of_it) {
                    continue;
                }
                let answer = api.try_on(&format!("/apis/{own}"), &definition.plural, &object);
                if answer["kind"] == object["kind"] {
                    taken.insert(text_of_it);
                } else {
                    assert!(lacks, "{at} on {release}: {answer} {object:#}");
                    let words = answer["message"].as_str().unwrap();
                    assert!(words.contains("field not declared in schema"), "{at}: {words}");
                    refused += 1;
                }
            }
            for object in &case.objects {
                let (group, plural) = match (text(object, "apiVersion"), text(object, "kind")) {
                    ("v1", "Service") => ("/api/v1", "services"),
                    ("v1", "ConfigMap") => ("/api/v1", "configmaps"),
                    ("v1", "Secret") => ("/api/v1", "secrets"),
                    ("discovery.k8s.io/v1", _) => ("/apis/discovery.k8s.io/v1", "endpointslices"),
                    _ => continue,
                };
                // The API takes no loopback, where the inputs have their backends.
                let reachable = object.to_string().replace("\"127.0.0.", "\"10.0.0.");
                let object: Value = serde_json::from_str(&reachable).unwrap();
                if taken.insert(reachable) {
                    let answer = api.try_on(group, plural, &object);
                    assert_eq!(answer["kind"], object["kind"], "{at}: {answer} {object:#}");
                }
            }
        }
    }
    println!("{} objects taken, {refused} refused by releases that lack a feature", taken.len());
    assert!(taken.len() > 300 && refused > 0);
}
