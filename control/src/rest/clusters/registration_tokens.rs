//! `/v1/clusters/{id}/registration-tokens`: each admits one agent, once, within 15 minutes.

use imp_core::cluster::{Cluster, RegistrationToken, RegistrationTokenSpec};
use imp_core::role::{Action, Kind};
use imp_store::Record as _;
use imp_store::registration_token::RegistrationTokenFilter;
use serde_json::{Value, json};

use crate::flows::Created;
use crate::flows::registration_token::{self as flow, NOUN};
use crate::problem::Problem;
use crate::rest::call::Call;
use crate::rest::crud::locate;
use crate::rest::param::PAGE;
use crate::rest::reply::Reply;
use crate::rest::routes::{Op, Routes};

/// How many are read at once for a list.
const PORTION: i64 = 64;
const PATH: &str = "/v1/clusters/{id}/registration-tokens";

async fn create(call: Call) -> Result<Reply, Problem> {
    let spec: RegistrationTokenSpec = call.json()?.into_spec()?;
    let (scope, cluster_id) = locate::<Cluster>(&call).await?;
    let Created { entity: token, secret } =
        flow::create(&call.operation, scope, cluster_id, spec).await?;
    let mut view = serde_json::to_value(&token).map_err(Problem::internal)?;
    if let (Some(fields), Some(secret)) = (view.as_object_mut(), secret) {
        fields.insert("token".to_owned(), Value::String(secret));
    }
    let path = format!("/v1/clusters/{cluster_id}/registration-tokens/{}", token.id);
    Reply::created(&view, token.meta.version, path)
}

async fn list(call: Call) -> Result<Reply, Problem> {
    let (scope, cluster) = locate::<Cluster>(&call).await?;
    let page = call.query.clone().page(&format!("registration-tokens {cluster}"))?;
    let of_it = RegistrationTokenFilter { cluster_id: Some(cluster) };
    let mut sheet = page.sheet();
    while let Some(portion) = sheet.to_fetch(PORTION) {
        let items = RegistrationToken::list(&call.state.store, &scope, &of_it, portion).await?;
        sheet.add(portion, items.iter().map(|token| (token.id.into(), token)))?;
    }
    Ok(sheet.reply())
}

async fn get(call: Call) -> Result<Reply, Problem> {
    let token = find(&call).await?;
    Reply::object(&token, token.meta.version)
}

async fn delete(call: Call) -> Result<Reply, Problem> {
    let RegistrationToken { id, meta, .. } = find(&call).await?;
    call.precondition(&meta)?;
    flow::delete(&call.operation, id).await?;
    Ok(Reply::none())
}

/// The token that the path names, if it belongs to the cluster that the path names.
async fn find(call: &Call) -> Result<RegistrationToken, Problem> {
    let (scope, cluster) = locate::<Cluster>(call).await?;
    let id = call.path_id("token_id", NOUN)?;
    let token = RegistrationToken::get(&call.state.store, &scope, id).await?;
    token.filter(|token| token.cluster_id == cluster).ok_or_else(|| Problem::not_found(NOUN))
}

pub fn mount(routes: &mut Routes) {
    let kind = Kind::RegistrationToken;
    let view = routes.document.schema::<RegistrationToken>();
    let page = routes.document.list("RegistrationToken", &view);
    let body = routes.document.schema::<RegistrationTokenSpec>();
    let secret = json!({
        "type": "object", "required": ["token"],
        "properties": { "token": { "type": "string", "description": "Shown this once" } },
    });
    let made = json!({ "allOf": [view, secret] });
    let made = routes.document.named("RegistrationTokenWithSecret", made);
    let member = format!("{PATH}/{{token_id}}");
    let op = Op::post("registration_tokens.create", PATH, "Create: registration token");
    routes.add(op.needs(kind, Action::Write).takes(body).gives(201, made), create);
    let op = Op::get("registration_tokens.list", PATH, "List: registration tokens of a cluster");
    routes.add(op.needs(kind, Action::Read).query(&PAGE).gives(200, page), list);
    let op = Op::get("registration_tokens.get", &*member, "Get: registration token");
    routes.add(op.needs(kind, Action::Read).gives(200, view), get);
    let op = Op::delete("registration_tokens.delete", &*member, "Delete: registration token");
    routes.add(op.needs(kind, Action::Write), delete);
}
