//! Authorisation: walks the OpenAPI document, so that a new endpoint cannot be forgotten.

use std::fmt::Write as _;

use chrono::TimeDelta;
use imp_core::role::{Action, Kind, Role, allows};
use reqwest::Method;
use serde_json::{Value, json};

use crate::control_plane::{Caller, ControlPlane, Shop};

/// An operation of the document.
pub struct Operation {
    pub id: String,
    pub method: Method,
    pub path: String,
    pub needs: Option<(Kind, Action)>,
}

pub fn operations() -> Vec<Operation> {
    let document = imp_control::rest::document();
    let mut found = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let permission = &operation["x-imp-permission"];
            let kind = Kind::ALL.into_iter().find(|kind| permission["kind"] == format!("{kind:?}"));
            let action = Action::ALL
                .into_iter()
                .find(|action| permission["action"] == format!("{action:?}"));
            found.push(Operation {
                id: operation["operationId"].as_str().unwrap().to_owned(),
                method: method.to_uppercase().parse().unwrap(),
                path: path.clone(),
                needs: kind.zip(action),
            });
        }
    }
    assert!(found.len() > 80, "only {} operations", found.len());
    found
}

impl Operation {
    /// The path with these values for `{id}` and the following parameters.
    pub fn at(&self, id: &str) -> String {
        let other = uuid::Uuid::now_v7().to_string();
        self.path.replace("{id}", id).replace("{token_id}", &other).replace("{agent_id}", &other)
    }

    /// A body that is not refused before the object is read.
    pub fn body(&self) -> Option<Value> {
        match self.id.split('.').next_back().unwrap() {
            "reject" | "suspend" if self.id.starts_with("subscriptions") => {
                Some(json!({ "reason": "test" }))
            }
            "rollback" => Some(json!({ "revision": 1 })),
            "create" | "replace" | "update" => Some(json!({})),
            _ => None,
        }
    }

    pub async fn call(&self, caller: &Caller, id: &str) -> crate::control_plane::Answer {
        caller.send(self.method.clone(), &self.at(id), self.body().as_ref()).await
    }
}

fn role_name(role: Role) -> String {
    serde_json::to_value(role).unwrap().as_str().unwrap().to_owned()
}

#[tokio::test]
async fn every_endpoint_refuses_a_caller_without_a_valid_token() {
    let plane = ControlPlane::start().await;
    let id = uuid::Uuid::now_v7().to_string();
    let well_formed = imp_core::secret::Secret::new(imp_core::secret::SecretKind::ApiToken);
    for operation in operations() {
        for token in [None, Some("nonsense"), Some(well_formed.reveal())] {
            let answer = operation.call(&plane.admin.with(token), &id).await;
            answer.refused(401, "unauthenticated", "");
            assert!(answer.header("www-authenticate").starts_with("Bearer"), "{}", operation.id);
        }
    }
}

#[tokio::test]
async fn every_endpoint_refuses_exactly_the_roles_that_the_table_leaves_out() {
    let plane = ControlPlane::start().await;
    let shop = Shop::open(&plane, "acme").await;
    let id = uuid::Uuid::now_v7().to_string();
    for role in Role::ALL {
        let tenant = (!role.is_operator()).then(|| shop.id("tenants"));
        let customer = role.is_customer().then(|| shop.id("customers"));
        let caller = plane.token(tenant, customer, &[&role_name(role)]).await;
        for operation in operations() {
            let allowed = operation.needs.is_none_or(|(kind, action)| allows(role, kind, action));
            let answer = operation.call(&caller, &id).await;
            let seen = answer.status != 403;
            assert_eq!(seen, allowed, "{role:?} {}: {:#}", operation.id, answer.body);
            if !allowed {
                answer.refused(403, "forbidden", "");
            }
        }
    }
}

#[test]
fn who_may_call_what() {
    let mut table = String::new();
    for operation in operations() {
        let may =
            |role: &Role| operation.needs.is_none_or(|(kind, action)| allows(*role, kind, action));
        let roles: Vec<String> = Role::ALL.into_iter().filter(may).map(role_name).collect();
        writeln!(table, "{}: {}", operation.id, roles.join(", ")).unwrap();
    }
    insta::assert_snapshot!(table);
}

#[tokio::test]
async fn a_token_ends_when_it_expires_and_when_it_is_revoked() {
    let plane = ControlPlane::start().await;
    let end = plane.now.get() + TimeDelta::hours(1);
    let body = json!({ "name": "short", "roles": ["sre-operator"], "expires_at": end });
    let made = plane.admin.make("api-tokens", body).await;
    let caller = plane.admin.with(made["token"].as_str());
    assert_eq!(caller.get("/v1/me").await.ok()["roles"], json!(["sre-operator"]));
    plane.now.advance(TimeDelta::hours(1));
    caller.get("/v1/me").await.refused(401, "unauthenticated", "");

    let body = json!({ "name": "long", "roles": ["sre-operator"] });
    let made = plane.admin.make("api-tokens", body).await;
    let caller = plane.admin.with(made["token"].as_str());
    caller.get("/v1/me").await.ok();
    let path = format!("/v1/api-tokens/{}", made["id"].as_str().unwrap());
    assert_eq!(plane.admin.delete(&path).await.status, 204);
    caller.get("/v1/me").await.refused(401, "unauthenticated", "");
    assert!(plane.admin.get(&path).await.ok()["revoked_at"].is_string());
}

#[tokio::test]
async fn an_org_admin_cannot_make_an_operator() {
    let plane = ControlPlane::start().await;
    let shop = Shop::open(&plane, "acme").await;
    let before = plane.everything().await;
    for role in ["system-admin", "sre-operator"] {
        let body = json!({ "name": "up", "roles": [role] });
        shop.provider.post("/v1/api-tokens", body).await.refused(403, "forbidden", "/roles");
    }
    let path = shop.path("api-tokens");
    let up = shop.provider.patch(&path, json!({ "roles": ["system-admin"] })).await;
    up.refused(422, "immutable_field", "/roles");
    assert_eq!(plane.everything().await, before);
}

#[tokio::test]
async fn what_needs_no_token_answers_without_one() {
    let plane = ControlPlane::start().await;
    let nobody = plane.nobody();
    for path in ["/healthz", "/readyz", "/openapi.json", "/docs/"] {
        assert_eq!(nobody.get(path).await.status, 200, "{path}");
    }
}
