//! Reads subjects of the outbox from the database and passes them to [`Placement`].
//!
//! There is one source per resource type, which names its rows, its message and its place.

mod credential;
mod entitlement;
mod gateway;
mod publish;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::Hash;

use futures::{StreamExt as _, stream};
use imp_core::{AgentId, ClusterId, ProductPublishId, TenantId};
use imp_proto::config::ResourceType;
use imp_store::compile::{self as table, Read, Which};
use imp_store::outbox::{Subject, Told};
use imp_store::{Page, Result, Store, StoreError};
use imp_xds::MAX_RESOURCE_BYTES;
use thiserror::Error;
use tracing::Span;
use uuid::Uuid;

use super::message::MessageError;
use super::placement::{Key, Place, Placed, Placement};
use super::{ClusterResources, Watcher, skip};
use credential::Credentials;
use entitlement::Entitlements;
use gateway::Gateways;
use publish::Publishes;

/// Rows per query.
const PAGE: usize = 256;

/// Queries at a time while everything is read: on two cores one reads while another one compiles.
const LOADERS: usize = 2;

/// How a resource type is read, rendered and placed.
trait Source: 'static {
    /// The resource type that it produces.
    const TYPE: ResourceType;
    /// The table whose ids it reads.
    const TABLE: &'static str;
    /// The outbox subject that announces changes of its rows.
    const SUBJECT: fn(Self::Id) -> Subject;
    /// The id of a row.
    type Id: Copy + Eq + Hash + fmt::Display + Into<Uuid> + From<Uuid> + Send + Sync + 'static;
    type Row: Send + 'static;

    fn rows(
        store: &Store,
        which: Which<'_, Self::Id>,
    ) -> impl Future<Output = Result<Vec<Read<Self::Id, Self::Row>>>> + Send;

    /// The resource and its place; `None` if the row exists but must not be served.
    fn place(row: &Self::Row) -> std::result::Result<Option<Placed>, Unplaceable>;

    /// The places of rows that exist but cannot be read or rendered; `None` if nothing of the row
    /// is to be served.
    fn places(
        store: &Store,
        ids: &[Self::Id],
    ) -> impl Future<Output = Result<Vec<(Self::Id, Option<Place>)>>> + Send;

    /// Passes the current row (`None` if it is gone) to others that are interested.
    fn told(_reader: &mut Reader<'_>, _id: Self::Id, _row: Option<&Self::Row>) {}

    /// Called with the resource of a row before it is placed.
    fn placed(_reader: &mut Reader<'_>, _row: &Self::Row, _placed: &Placed, _why: Option<&Told>) {}
}

/// A row that cannot be sent to any agent.
#[derive(Debug, Error)]
enum Unplaceable {
    #[error(transparent)]
    Message(#[from] MessageError),
    #[error("{0} bytes; no agent takes more than {MAX_RESOURCE_BYTES} as one resource")]
    TooLarge(usize),
}

pub(super) struct Reader<'a> {
    pub(super) store: &'a Store,
    pub(super) cluster_resources: &'a ClusterResources,
    pub(super) watcher: &'a dyn Watcher,
    pub(super) placement: &'a mut Placement,
    pub(super) causes: &'a HashMap<Subject, Told>,
    /// The expensive publishes among the rows that were read.
    pub(super) dear: Vec<(ProductPublishId, TenantId)>,
}

/// Ids of rows, grouped by the resource type that they produce.
#[derive(Default)]
struct Batch {
    clusters: Vec<ClusterId>,
    agents: Vec<AgentId>,
    resources: Vec<Key>,
}

impl Batch {
    fn of(subjects: &[Subject]) -> Self {
        let mut batch = Self::default();
        let mut resource = |of, id| batch.resources.push(Key { of, id });
        for &subject in subjects {
            match subject {
                Subject::Cluster(id) => batch.clusters.push(id),
                Subject::Agent(id) => batch.agents.push(id),
                Subject::Gateway(id) => resource(ResourceType::Gateway, id.into()),
                Subject::ProductPublish(id) => resource(ResourceType::Publish, id.into()),
                Subject::Subscription(id) => resource(ResourceType::Entitlement, id.into()),
                Subject::Credential(id) => resource(ResourceType::Credential, id.into()),
                // A version of the terms never changes, and moving a subscription to a new one is a
                // subject of its own.
                Subject::Plan(_) => {}
            }
        }
        batch
    }

    fn ids(&self, of: ResourceType) -> Vec<Uuid> {
        self.resources.iter().filter(|key| key.of == of).map(|key| key.id).collect()
    }
}

/// Which rows of a type to read.
#[derive(Clone, Copy)]
enum What<'a> {
    /// All rows, page by page.
    All,
    /// The rows with these ids, whether or not they still exist.
    Ids(&'a [Uuid]),
}

impl Reader<'_> {
    /// Reads every row.
    pub(super) async fn everything(&mut self) -> Result<()> {
        // Clusters first: resources are placed only in known clusters.
        let mut after = None;
        loop {
            let page = Page { after, limit: PAGE as i64 };
            let rows = table::clusters(self.store, Which::Page(page)).await?;
            rows.iter().for_each(|row| self.placement.know(row.id));
            after = next_page(&rows);
            if after.is_none() {
                break;
            }
        }
        for &of in ResourceType::ALL {
            self.read(of, What::All).await?;
        }
        Ok(())
    }

    /// Reads these subjects again, whatever happened to them.
    pub(super) async fn changed(&mut self, subjects: &[Subject]) -> Result<()> {
        let batch = Batch::of(subjects);
        for ids in batch.agents.chunks(PAGE) {
            self.agents(ids).await?;
        }
        for ids in batch.clusters.chunks(PAGE) {
            self.clusters(ids).await?;
        }
        for &of in ResourceType::ALL {
            self.read(of, What::Ids(&batch.ids(of))).await?;
        }
        Ok(())
    }

    /// Reads rows with the source of their type.
    async fn read(&mut self, of: ResourceType, what: What<'_>) -> Result<()> {
        match of {
            ResourceType::Gateway => self.read_from::<Gateways>(what).await,
            ResourceType::Publish => self.read_from::<Publishes>(what).await,
            ResourceType::Entitlement => self.read_from::<Entitlements>(what).await,
            ResourceType::Credential => self.read_from::<Credentials>(what).await,
        }
    }

    async fn read_from<S: Source>(&mut self, what: What<'_>) -> Result<()> {
        match what {
            What::Ids(ids) => {
                let ids: Vec<S::Id> = ids.iter().copied().map(S::Id::from).collect();
                for ids in ids.chunks(PAGE) {
                    self.portion::<S>(Which::Ids(ids)).await?;
                }
            }
            What::All => self.read_all::<S>().await?,
        }
        Ok(())
    }

    async fn read_all<S: Source>(&mut self) -> Result<()> {
        let ranges = table::ranges(self.store, S::TABLE, PAGE as i64).await?;
        let store = self.store.clone();
        let read = |range| {
            let store = store.clone();
            // A task, so that it compiles on another thread.
            let read = async move { compiled::<S>(&store, Which::Range(range)).await };
            let read = tokio::spawn(read);
            async move { (range, read.await) }
        };
        let mut portions = stream::iter(ranges).map(read).buffered(LOADERS);
        while let Some((range, read)) = portions.next().await {
            let rows = read.map_err(|ended| StoreError::Unavailable(ended.to_string()))??;
            self.put::<S>(Which::Range(range), rows).await?;
        }
        Ok(())
    }

    async fn portion<S: Source>(&mut self, which: Which<'_, S::Id>) -> Result<()> {
        let rows = compiled::<S>(self.store, which).await?;
        self.put::<S>(which, rows).await
    }

    /// Places rows once their commits are durable; they were compiled while the disk confirmed them.
    async fn put<S: Source>(
        &mut self,
        which: Which<'_, S::Id>,
        rows: Vec<Read<S::Id, Compiled<S>>>,
    ) -> Result<()> {
        self.store.settled().await?;
        let mut dark = Vec::new();
        let unreadable = each(S::TYPE.name(), which, rows, |id, compiled| {
            let why = self.causes.get(&(S::SUBJECT)(id));
            let span = span::<S>(id, why);
            let _inside = span.as_ref().map(Span::enter);
            let (row, now) = compiled.map_or((None, Ok(None)), |(row, now)| (Some(row), now));
            S::told(self, id, row.as_ref());
            match now {
                Ok(now) => {
                    if let (Some(row), Some(now)) = (&row, &now) {
                        S::placed(self, row, now, why);
                    }
                    let now = now.map(|now| now.caused_by(why));
                    self.placement.set(Key::new(S::TYPE, id), now);
                }
                Err(error) => {
                    skip(S::TYPE.name(), id, &error);
                    dark.push(id);
                }
            }
        });
        dark.extend(unreadable);
        self.retain::<S>(&dark).await
    }

    /// Gives rows that exist but cannot be read or rendered a place, so that agents keep what they
    /// have of them.
    async fn retain<S: Source>(&mut self, ids: &[S::Id]) -> Result<()> {
        for ids in ids.chunks(PAGE) {
            for (id, place) in S::places(self.store, ids).await? {
                let key = Key::new(S::TYPE, id);
                match place {
                    Some(place) => self.placement.retain(key, place),
                    None => self.placement.set(key, None),
                }
            }
        }
        Ok(())
    }

    async fn agents(&mut self, ids: &[AgentId]) -> Result<()> {
        let rows = table::agents(self.store, Which::Ids(ids)).await?;
        self.store.settled().await?;
        each("agent", Which::Ids(ids), rows, |id, standing| self.watcher.agent(id, standing));
        Ok(())
    }

    async fn clusters(&mut self, ids: &[ClusterId]) -> Result<()> {
        let rows = table::clusters(self.store, Which::Ids(ids)).await?;
        self.store.settled().await?;
        each("cluster", Which::Ids(ids), rows, |id, there| match there {
            Some(()) => self.placement.know(id),
            None => {
                self.placement.forget(id);
                self.cluster_resources.remove(id);
            }
        });
        Ok(())
    }
}

/// A row with its resource and place.
type Compiled<S> = (<S as Source>::Row, std::result::Result<Option<Placed>, Unplaceable>);

/// Reads rows and compiles each.
async fn compiled<S: Source>(
    store: &Store,
    which: Which<'_, S::Id>,
) -> Result<Vec<Read<S::Id, Compiled<S>>>> {
    let compile = |row: S::Row| {
        let placed = S::place(&row);
        (row, placed)
    };
    let rows = S::rows(store, which).await?;
    Ok(rows.into_iter().map(|row| row.map(compile)).collect())
}

/// A span within the trace of what changed the row. A first load has none.
fn span<S: Source>(id: S::Id, why: Option<&Told>) -> Option<Span> {
    let cause = &why?.cause;
    let (of, request_id) = (S::TYPE.name(), &cause.request_id);
    let span = tracing::info_span!("compile", resource = of, %id, request_id);
    imp_process::traces::follow(&span, &cause.traceparent);
    Some(span)
}

/// The place of a row whose place cannot be read either: anywhere.
fn place_of<Id, T>(
    row: Read<Id, T>,
    place: impl FnOnce(T) -> Option<Place>,
) -> (Id, Option<Place>) {
    (row.id, row.content.map_or(Some(Place::Anywhere), place))
}

/// The cursor for the next page, or `None` on the last one.
fn next_page<Id: Copy + Into<Uuid>, T>(rows: &[Read<Id, T>]) -> Option<Uuid> {
    rows.last().filter(|_| rows.len() == PAGE).map(|row| row.id.into())
}

/// Passes on each row, and each requested id that does not exist. Returns the ids that cannot be
/// read.
fn each<Id, T>(
    what: &'static str,
    which: Which<'_, Id>,
    rows: Vec<Read<Id, T>>,
    mut tell: impl FnMut(Id, Option<T>),
) -> Vec<Id>
where
    Id: Copy + Eq + Hash + fmt::Display,
{
    let mut unreadable = Vec::new();
    let mut missing: HashSet<Id> = match which {
        Which::Ids(ids) => ids.iter().copied().collect(),
        Which::Page(_) | Which::Range(_) => HashSet::new(),
    };
    for Read { id, content } in rows {
        missing.remove(&id);
        match content {
            Ok(content) => tell(id, Some(content)),
            Err(error) => {
                skip(what, id, &error);
                unreadable.push(id);
            }
        }
    }
    for id in missing {
        tell(id, None);
    }
    unreadable
}

#[cfg(test)]
mod tests {
    use imp_core::CredentialId;
    use imp_store::StoreError;

    use super::*;

    #[test]
    fn what_is_missing_is_gone_and_what_cannot_be_read_is_left_as_it_was() {
        let (good, broken, missing) =
            (CredentialId::new(), CredentialId::new(), CredentialId::new());
        let corrupt =
            StoreError::Corrupt { table: "credentials", id: None, why: "two bytes".to_owned() };
        let rows = vec![
            Read { id: broken, content: Err(corrupt) },
            Read { id: good, content: Ok("there") },
        ];
        let mut told = Vec::new();
        let asked = [good, broken, missing];
        let unreadable =
            each("credential", Which::Ids(&asked), rows, |id, now| told.push((id, now)));
        assert_eq!(unreadable, [broken]);
        assert_eq!(told, [(good, Some("there")), (missing, None)]);
    }
}
