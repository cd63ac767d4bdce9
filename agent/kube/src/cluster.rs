//! Requests to an API server.

use std::mem;
use std::time::Duration;

use futures::{Stream, StreamExt as _, stream};
use kube::Client;
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch,
    PatchParams, Preconditions,
};
use kube::runtime::utils::StreamBackoff;
use kube::runtime::watcher::{self, DefaultBackoff, Event, watcher};
use serde_json::Value;

use crate::fault::Fault;
use crate::kinds::{Kind, Scope};
use crate::object::{Key, Object};

/// Under this name the API server notes which fields are ours.
pub const FIELD_MANAGER: &str = "imp-gateway";

/// How long one request may take.
const DEADLINE: Duration = Duration::from_secs(10);
/// Objects per page of a list.
const PAGE: u32 = 500;

/// Whether fields are taken from other managers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Force {
    /// A field that somebody else set otherwise is a [`Fault::Conflict`].
    No,
    Yes,
}

/// What became of an applied object.
#[derive(Clone, Debug)]
pub struct Applied {
    /// As the API server has it now, with its defaults, status and `managedFields`.
    pub object: Value,
}

impl Applied {
    /// The generation that a condition must have observed to speak of this.
    pub fn generation(&self) -> i64 {
        self.object.pointer("/metadata/generation").and_then(Value::as_i64).unwrap_or_default()
    }
}

/// What a watch tells.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// All objects follow: what is not among them when the list ends is gone.
    ListBegins,
    Listed(Value),
    ListEnds,
    Applied(Value),
    Deleted(Value),
}

/// An API server, and who we are to it. A copy shares the connections.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
}

impl Cluster {
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// Applies an object (server-side apply): its fields are ours from then on, and fields that it
    /// had before and has no more are removed. Other managers' fields stay.
    pub async fn apply(&self, object: &Object, force: Force) -> Result<Applied, Fault> {
        let key = object.key();
        let parameters = PatchParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            force: force == Force::Yes,
            ..PatchParams::default()
        };
        let api = self.api(key.kind, key.namespace.as_deref());
        let patch = Patch::Apply(object.json());
        let applied = within(key.kind, api.patch(&key.name, &parameters, &patch)).await?;
        Ok(Applied { object: json(applied) })
    }

    /// Returns the object, or nothing if there is none.
    pub async fn get(&self, key: &Key) -> Result<Option<Value>, Fault> {
        let api = self.api(key.kind, key.namespace.as_deref());
        let found = within(key.kind, api.get_opt(&key.name)).await?;
        Ok(found.map(json))
    }

    /// Deletes the object, only if it is the one with `uid` where that is given. Returns whether
    /// there was one.
    pub async fn delete(&self, key: &Key, uid: Option<&str>) -> Result<bool, Fault> {
        let api = self.api(key.kind, key.namespace.as_deref());
        let parameters = DeleteParams {
            preconditions: uid
                .map(|uid| Preconditions { uid: Some(uid.to_owned()), resource_version: None }),
            ..DeleteParams::background()
        };
        let deleted = tokio::time::timeout(DEADLINE, api.delete(&key.name, &parameters)).await;
        match deleted.map_err(|_late| late())? {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(false),
            Err(error) => Err(Fault::of(error, key.kind.kind)),
        }
    }

    /// Lists the objects of a kind that have these labels (a selector), in one namespace or in all.
    pub async fn list(
        &self,
        kind: &'static Kind,
        namespace: Option<&str>,
        labels: &str,
    ) -> Result<Vec<Value>, Fault> {
        let api = self.api(kind, namespace);
        let mut parameters = ListParams::default().labels(labels).limit(PAGE);
        let mut found = Vec::new();
        loop {
            let page = within(kind, api.list(&parameters)).await?;
            let next = page.metadata.continue_.filter(|token| !token.is_empty());
            found.extend(page.items.into_iter().map(|item| typed(kind, item)));
            match next {
                Some(token) => parameters = parameters.continue_token(&token),
                None => return Ok(found),
            }
        }
    }

    /// Follows the objects of a kind that have these labels. Lists first, and again when the API
    /// server no longer has what it would continue from. Goes on after every fault, later each time
    /// (0.8 to 30 s, with jitter).
    pub fn watch(
        &self,
        kind: &'static Kind,
        namespace: Option<&str>,
        labels: &str,
    ) -> impl Stream<Item = Result<Change, Fault>> + Send + use<> {
        let config = watcher::Config::default().labels(labels).page_size(PAGE);
        // That a list is asked for is no answer: told at once, it would begin the delays again.
        let mut begins = false;
        let events = watcher(self.api(kind, namespace), config).filter_map(move |event| {
            std::future::ready(match event {
                Ok(Event::Init) => {
                    begins = true;
                    None
                }
                Ok(event) => Some(Ok((mem::take(&mut begins), event))),
                Err(error) => Some(Err(error)),
            })
        });
        let events = StreamBackoff::new(events, DefaultBackoff::default());
        events.flat_map(move |event| stream::iter(changes(kind, event)))
    }

    fn api(&self, kind: &Kind, namespace: Option<&str>) -> Api<DynamicObject> {
        let gvk = GroupVersionKind::gvk(kind.group, kind.version, kind.kind);
        let resource = ApiResource::from_gvk_with_plural(&gvk, kind.plural);
        match (kind.scope, namespace) {
            (Scope::Namespaced, Some(namespace)) => {
                Api::namespaced_with(self.client.clone(), namespace, &resource)
            }
            _ => Api::all_with(self.client.clone(), &resource),
        }
    }
}

/// What an event tells, after the beginning of a list where that is due.
fn changes(
    kind: &Kind,
    event: Result<(bool, Event<DynamicObject>), watcher::Error>,
) -> Vec<Result<Change, Fault>> {
    let (begins, event) = match event {
        Ok(event) => event,
        Err(error) => return vec![Err(of_watch(error, kind))],
    };
    let change = match event {
        Event::Init => Change::ListBegins,
        Event::InitApply(object) => Change::Listed(typed(kind, object)),
        Event::InitDone => Change::ListEnds,
        Event::Apply(object) => Change::Applied(typed(kind, object)),
        Event::Delete(object) => Change::Deleted(typed(kind, object)),
    };
    let begins = begins.then_some(Change::ListBegins);
    begins.into_iter().chain([change]).map(Ok).collect()
}

async fn within<T>(
    kind: &Kind,
    request: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, Fault> {
    let answer = tokio::time::timeout(DEADLINE, request).await.map_err(|_late| late())?;
    answer.map_err(|error| Fault::of(error, kind.kind))
}

fn late() -> Fault {
    Fault::Away(format!("no answer within {} s", DEADLINE.as_secs()))
}

fn of_watch(error: watcher::Error, kind: &Kind) -> Fault {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => Fault::of(error, kind.kind),
        watcher::Error::WatchError(status) => Fault::of(kube::Error::Api(status), kind.kind),
        other => Fault::Away(other.to_string()),
    }
}

/// Members of a list do not repeat their kind.
fn typed(kind: &Kind, mut object: DynamicObject) -> Value {
    object.types.get_or_insert_with(|| kube::core::TypeMeta {
        api_version: kind.api_version(),
        kind: kind.kind.to_owned(),
    });
    json(object)
}

/// A `DynamicObject` came from JSON, so that it can always be written.
fn json(object: DynamicObject) -> Value {
    serde_json::to_value(object).unwrap_or_default()
}

#[cfg(test)]
pub(crate) mod tests;
