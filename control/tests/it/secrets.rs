//! Secrets are shown once and stored nowhere.

use serde_json::json;

use crate::control_plane::{ControlPlane, KINDS, Shop};

#[tokio::test]
async fn a_secret_is_in_no_answer_but_the_first_and_in_no_file() {
    let plane = ControlPlane::start().await;
    let shop = Shop::open(&plane, "acme").await;
    let tokens = format!("{}/registration-tokens", shop.path("clusters"));
    let registration = plane.admin.post(&tokens, json!({})).await.ok();
    let secrets = [
        plane.admin.token.clone().unwrap(),
        shop.provider.token.clone().unwrap(),
        shop.objects["credentials"]["api_key"].as_str().unwrap().to_owned(),
        shop.objects["api-tokens"]["token"].as_str().unwrap().to_owned(),
        registration["token"].as_str().unwrap().to_owned(),
    ];
    let mut answers = plane.admin.get(&tokens).await.body.to_string();
    for kind in KINDS {
        answers += &plane.admin.get(&format!("/v1/{kind}")).await.body.to_string();
        answers += &plane.admin.get(&shop.path(kind)).await.body.to_string();
    }
    let mut stored = Vec::new();
    for file in std::fs::read_dir(plane.dir.path()).unwrap() {
        let path = file.unwrap().path();
        if path.is_file() {
            stored.extend(std::fs::read(path).unwrap());
        }
    }
    let holds =
        |bytes: &[u8], text: &str| bytes.windows(text.len()).any(|at| at == text.as_bytes());
    assert!(holds(&stored, "payment-service"), "the database is not where this test looks");
    assert!(answers.contains(&secrets[0][..12]), "prefixes are shown");
    for secret in &secrets {
        // All but the prefix, so that a part is found, too.
        assert!(!answers.contains(&secret[12..40]), "in an answer: {}", &secret[..12]);
        assert!(!holds(&stored, &secret[12..40]), "in a file: {}", &secret[..12]);
    }
}
