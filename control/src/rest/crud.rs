//! Create, get, list, replace, update, delete: one implementation for every entity.

use imp_core::role::Action::{Read, Write};
use imp_core::scope::TenantScope;
use imp_grammar::caps;
use serde_json::{Value, json};
use utoipa::{PartialSchema as _, ToSchema as _};
use uuid::Uuid;

use crate::entity::operation;
use crate::flows::Created;
use crate::operation::Transaction;
use crate::problem::Problem;
use crate::rest::body::Json;
use crate::rest::call::Call;
use crate::rest::document::Document;
use crate::rest::entity::Entity;
use crate::rest::param::{PAGE, TENANT};
use crate::rest::query::Query;
use crate::rest::reply::Reply;
use crate::rest::routes::{Op, Routes};
use crate::workers::statements;

/// Mounts all five operations (six with PATCH).
pub fn mount<E: Entity>(routes: &mut Routes) {
    mount_reads::<E>(routes);
    mount_create::<E>(routes);
    mount_edits::<E>(routes);
    mount_delete::<E>(routes);
}

/// `api-services`.
fn plural<E: Entity>() -> String {
    E::TABLE.replace('_', "-")
}

/// `/v1/api-services`.
pub fn collection<E: Entity>() -> String {
    format!("/v1/{}", plural::<E>())
}

/// `/v1/api-services/{id}`.
pub fn member<E: Entity>() -> String {
    format!("{}/{{id}}", collection::<E>())
}

pub fn mount_reads<E: Entity>(routes: &mut Routes) {
    let view = routes.document.schema::<E::View>();
    let page = routes.document.list(&E::View::name(), &view);
    let list = Op::get(operation::<E>("list"), collection::<E>(), format!("List: {}s", E::NOUN));
    routes.add(
        list.needs(E::KIND, Read).query(&PAGE).query(E::FILTERS).gives(200, page),
        |call| async move { list_them::<E>(call).await },
    );
    let get = Op::get(operation::<E>("get"), member::<E>(), format!("Get: {}", E::NOUN));
    routes.add(get.needs(E::KIND, Read).query(&[TENANT]).gives(200, view), |call| async move {
        let (scope, id) = locate::<E>(&call).await?;
        let entity = E::get(&call.state.store, &scope, id).await?;
        let entity = entity.ok_or_else(|| Problem::not_found(E::NOUN))?;
        show(&call, entity).await
    });
}

pub fn mount_create<E: Entity>(routes: &mut Routes) {
    let body = new_schema::<E>(&mut routes.document);
    let answer = made_schema::<E>(&mut routes.document);
    let op = Op::post(operation::<E>("create"), collection::<E>(), format!("Create: {}", E::NOUN));
    routes.add(op.needs(E::KIND, Write).takes(body).gives(201, answer), |call| async move {
        let body = call.json()?;
        E::hint(&body)?;
        let Created { entity, secret } = E::create(&call, body).await?;
        let (version, path) =
            (entity.meta().version, format!("{}/{}", collection::<E>(), entity.id()));
        let view = written_view(&call, entity).await;
        let mut body = serde_json::to_value(view).map_err(Problem::internal)?;
        if let (Some(secret), Some(name), Some(fields)) = (secret, E::SECRET, body.as_object_mut())
        {
            fields.insert(name.to_owned(), Value::String(secret));
        }
        Reply::created(&body, version, path)
    });
}

pub fn mount_edits<E: Entity>(routes: &mut Routes) {
    let view = routes.document.schema::<E::View>();
    let spec = routes.document.schema::<E::Spec>();
    let patch = routes.document.patch::<E::Spec>();
    let op = Op::put(operation::<E>("replace"), member::<E>(), format!("Replace: {}", E::NOUN));
    let op = op.needs(E::KIND, Write).query(&[TENANT]).takes(spec).gives(200, view.clone());
    routes.add(op, |call| async move { edit::<E>(call, false).await });
    let op = Op::patch(operation::<E>("update"), member::<E>(), format!("Update: {}", E::NOUN));
    let op = op.needs(E::KIND, Write).query(&[TENANT]).takes(patch).gives(200, view);
    routes.add(op, |call| async move { edit::<E>(call, true).await });
}

pub fn mount_delete<E: Entity>(routes: &mut Routes) {
    let op = Op::delete(operation::<E>("delete"), member::<E>(), format!("Delete: {}", E::NOUN));
    routes.add(op.needs(E::KIND, E::DELETING).query(&[TENANT]), |call| async move {
        let (mut tx, current) = open::<E>(&call).await?;
        let id = current.id();
        E::remove(&mut tx, current).await?;
        tx.finish::<E>("delete", id).await?;
        Ok(Reply::none())
    });
}

/// Reads the object that the path names, by id or by unique name.
pub async fn locate<E: Entity>(call: &Call) -> Result<(TenantScope, E::Id), Problem> {
    let mut query = call.query.clone();
    let scope = call.within(query.take_tenant()?)?;
    let text = call.path("id");
    if let Ok(id) = text.parse::<Uuid>() {
        return Ok((scope, id.into()));
    }
    let missing = || Problem::not_found(E::NOUN);
    let filter = E::named(&scope, text).ok_or_else(missing)?;
    let page = imp_store::Page { after: None, limit: 2 };
    let found = E::list(&call.state.store, &scope, &filter, page).await?;
    match found.as_slice() {
        [one] => Ok((scope, one.id())),
        _ => Err(missing()),
    }
}

/// Opens a transaction, reads the object in it and checks `If-Match`.
pub async fn open<E: Entity>(call: &Call) -> Result<(Transaction<'_>, E), Problem> {
    let (scope, id) = locate::<E>(call).await?;
    let mut tx = Transaction::begin(&call.operation, scope).await?;
    let current = tx.get::<E>(id).await?;
    call.precondition(current.meta())?;
    Ok((tx, current))
}

/// The view of one object.
async fn one_view<E: Entity>(call: &Call, entity: E) -> Result<E::View, Problem> {
    let views = E::views(&call.state, vec![entity]).await?;
    views.into_iter().next().ok_or_else(|| Problem::internal("no view"))
}

/// The view of one object after its change was committed. An error now must not fail the request,
/// so whatever cannot be read is left out.
async fn written_view<E: Entity>(call: &Call, entity: E) -> E::View {
    match one_view(call, entity.clone()).await {
        Ok(view) => view,
        Err(problem) => {
            let (id, cause) = (entity.id(), problem.cause.unwrap_or(problem.detail));
            tracing::warn!(kind = E::TABLE, %id, cause, "the view of a change is incomplete");
            entity.into()
        }
    }
}

/// Answers a committed change.
pub async fn show_written<E: Entity>(call: &Call, entity: E) -> Result<Reply, Problem> {
    let version = entity.meta().version;
    Reply::object(&written_view(call, entity).await, version)
}

/// Answers with an object.
pub async fn show<E: Entity>(call: &Call, entity: E) -> Result<Reply, Problem> {
    let version = entity.meta().version;
    Reply::object(&one_view(call, entity).await?, version)
}

/// Answers a write that had nothing to change, and so waited for no commit.
pub async fn show_unchanged<E: Entity>(call: &Call, entity: E) -> Result<Reply, Problem> {
    call.state.store.settled().await?;
    show(call, entity).await
}

async fn list_them<E: Entity>(call: Call) -> Result<Reply, Problem> {
    let mut query: Query = call.query.clone();
    // The token is bound to the caller's scope: another tenant's token is refused.
    let page = query.page(&format!("{} {:?}", plural::<E>(), call.operation.scope))?;
    let scope = call.within(query.take_tenant()?)?;
    let filter = E::filter(&mut query)?;
    let mut sheet = page.sheet();
    // In portions, because the objects' sizes are known only after reading.
    while let Some(portion) = sheet.to_fetch(E::PORTION) {
        let items = E::list(&call.state.store, &scope, &filter, portion).await?;
        let ids: Vec<Uuid> = items.iter().map(|item| item.id().into()).collect();
        let views = E::views(&call.state, items).await?;
        sheet.add(portion, ids.into_iter().zip(&views))?;
    }
    Ok(sheet.reply())
}

async fn edit<E: Entity>(call: Call, merge: bool) -> Result<Reply, Problem> {
    let sent = call.json()?;
    E::hint(&sent)?;
    let (mut tx, current) = open::<E>(&call).await?;
    let before = serde_json::to_value(&current).map_err(Problem::internal)?;
    let spec = serde_json::to_value(current.spec()).map_err(Problem::internal)?;
    let wanted = wanted::<E>(sent, &before, spec, merge)?;
    let spec = wanted.into_spec_keeping(|spec| E::keep(spec, &current))?;
    if spec == current.spec() {
        // The view may read more; a request uses one connection at a time.
        drop(tx);
        return show_unchanged(&call, current).await;
    }
    let id = current.id();
    let edit = async move {
        let next = E::edit(&mut tx, current, spec).await?;
        tx.finish::<E>("update", id).await?;
        Ok::<_, Problem>(next)
    };
    show_written(&call, statements(&call.state.store, edit).await?).await
}

/// The whole new spec as JSON. Read-only and immutable fields may be sent back as they were read,
/// but must not differ.
fn wanted<E: Entity>(
    sent: Json,
    before: &Value,
    spec: Value,
    merge: bool,
) -> Result<Json, Problem> {
    let bytes = sent.bytes();
    let mut sent = sent.0;
    if !merge {
        for name in E::REPORTED {
            sent.remove(*name);
        }
    }
    let writable = writable::<E>();
    for (name, value) in before.as_object().into_iter().flatten() {
        if !writable.contains(name) && sent.remove(name).is_some_and(|other| other != *value) {
            return Err(Problem::immutable(&format!("/{name}")));
        }
    }
    for name in E::IMMUTABLE {
        let now = spec.get(name).unwrap_or(&Value::Null);
        if sent.get(*name).is_some_and(|other| other != now) {
            return Err(Problem::immutable(&format!("/{name}")));
        }
        // A PUT may leave them out.
        sent.entry((*name).to_owned()).or_insert_with(|| now.clone());
    }
    if !merge {
        return Ok(Json::new(sent, bytes));
    }
    let mut whole = spec;
    json_patch::merge(&mut whole, &Value::Object(sent));
    match whole {
        Value::Object(fields) => Ok(Json::new(fields, caps::BODY_BYTES.size())),
        _ => Err(Problem::internal("a spec is an object")),
    }
}

/// The fields that callers write, as the spec's schema names them.
fn writable<E: Entity>() -> Vec<String> {
    let schema = serde_json::to_value(E::Spec::schema()).unwrap_or_default();
    let fields = schema.get("properties").and_then(Value::as_object);
    fields.into_iter().flat_map(|fields| fields.keys().cloned()).collect()
}

/// The schema for creation: the spec and the fields that only `create` takes.
fn new_schema<E: Entity>(document: &mut Document) -> Value {
    let spec = document.schema::<E::Spec>();
    let properties: serde_json::Map<String, Value> =
        E::EXTRAS.iter().map(|extra| (extra.name.to_owned(), (extra.schema)())).collect();
    let required: Vec<&str> = E::EXTRAS.iter().filter(|e| e.required).map(|e| e.name).collect();
    let extras = json!({
        "type": "object", "properties": properties, "required": required,
        "additionalProperties": false,
    });
    let name = format!("New{}", E::Spec::name().replace("Spec", ""));
    document.named(&name, json!({ "allOf": [spec, extras] }))
}

/// The schema of a created object: the view and the secret, shown only once.
fn made_schema<E: Entity>(document: &mut Document) -> Value {
    let view = document.schema::<E::View>();
    let Some(field) = E::SECRET else { return view };
    let secret = json!({
        "type": "object", "required": [field],
        "properties": { field: { "type": "string", "description": "Shown this once" } },
    });
    document.named(&format!("{}WithSecret", E::View::name()), json!({ "allOf": [view, secret] }))
}
