//! Reads subjects from the database and tells the reach.

use std::collections::HashSet;
use std::hash::Hash;

use imp_core::{
    AgentId, ClusterId, CredentialId, GatewayId, ProductPublishId, SubscriptionId, TenantId,
};
use imp_store::compile::{self as table, DesiredPublish, Read, Which};
use imp_store::outbox::Subject;
use imp_store::{Page, Result, Store};
use imp_xds::MAX_RESOURCE_BYTES;
use thiserror::Error;
use uuid::Uuid;

use super::backlog::DEAR;
use super::reach::{Entitled, Keyed, Placed, Reach};
use super::{Watcher, Worlds, message, skip};

/// Rows per query.
const PAGE: usize = 256;

pub(super) struct Facts<'a> {
    pub(super) store: &'a Store,
    pub(super) worlds: &'a Worlds,
    pub(super) watcher: &'a dyn Watcher,
    pub(super) reach: &'a mut Reach,
    /// Publishes among what was read that are dear.
    pub(super) dear: Vec<(ProductPublishId, TenantId)>,
}

/// Subjects by kind.
#[derive(Default)]
struct Batch {
    clusters: Vec<ClusterId>,
    agents: Vec<AgentId>,
    gateways: Vec<GatewayId>,
    publishes: Vec<ProductPublishId>,
    subscriptions: Vec<SubscriptionId>,
    credentials: Vec<CredentialId>,
}

impl Batch {
    fn of(subjects: &[Subject]) -> Self {
        let mut batch = Self::default();
        for &subject in subjects {
            match subject {
                Subject::Cluster(id) => batch.clusters.push(id),
                Subject::Agent(id) => batch.agents.push(id),
                Subject::Gateway(id) => batch.gateways.push(id),
                Subject::ProductPublish(id) => batch.publishes.push(id),
                Subject::Subscription(id) => batch.subscriptions.push(id),
                Subject::Credential(id) => batch.credentials.push(id),
                // A version of the terms never changes, and a subscription that is moved to a new
                // one is a subject of its own.
                Subject::Plan(_) => {}
            }
        }
        batch
    }
}

/// All rows of a kind, page by page.
macro_rules! all {
    ($facts:ident, $method:ident) => {{
        let mut after = None;
        loop {
            let page = Page { after, limit: PAGE as i64 };
            after = $facts.$method(Which::Page(page)).await?;
            if after.is_none() {
                break;
            }
        }
    }};
}

impl Facts<'_> {
    /// Every row; which clusters there are.
    pub(super) async fn everything(&mut self) -> Result<Vec<ClusterId>> {
        let mut clusters = Vec::new();
        let mut after = None;
        loop {
            let page = Page { after, limit: PAGE as i64 };
            let rows = table::clusters(self.store, Which::Page(page)).await?;
            clusters.extend(rows.iter().map(|row| row.id));
            after = next_page(&rows);
            if after.is_none() {
                break;
            }
        }
        all!(self, gateways);
        all!(self, publishes);
        all!(self, subscriptions);
        all!(self, credentials);
        Ok(clusters)
    }

    /// These subjects, whatever happened to them.
    pub(super) async fn changed(&mut self, subjects: &[Subject]) -> Result<()> {
        let batch = Batch::of(subjects);
        for ids in batch.agents.chunks(PAGE) {
            self.agents(ids).await?;
        }
        for ids in batch.clusters.chunks(PAGE) {
            self.clusters(ids).await?;
        }
        for ids in batch.gateways.chunks(PAGE) {
            self.gateways(Which::Ids(ids)).await?;
        }
        for ids in batch.publishes.chunks(PAGE) {
            self.publishes(Which::Ids(ids)).await?;
        }
        for ids in batch.subscriptions.chunks(PAGE) {
            self.subscriptions(Which::Ids(ids)).await?;
        }
        for ids in batch.credentials.chunks(PAGE) {
            self.credentials(Which::Ids(ids)).await?;
        }
        Ok(())
    }

    async fn agents(&mut self, ids: &[AgentId]) -> Result<()> {
        let rows = table::agents(self.store, Which::Ids(ids)).await?;
        each("agent", Which::Ids(ids), rows, |id, standing| self.watcher.agent(id, standing));
        Ok(())
    }

    async fn clusters(&mut self, ids: &[ClusterId]) -> Result<()> {
        let rows = table::clusters(self.store, Which::Ids(ids)).await?;
        each("cluster", Which::Ids(ids), rows, |id, there| match there {
            Some(()) => self.reach.know(id),
            None => {
                self.reach.forget(id);
                self.worlds.remove(id);
            }
        });
        Ok(())
    }

    async fn gateways(&mut self, which: Which<'_, GatewayId>) -> Result<Option<Uuid>> {
        let rows = table::gateways(self.store, which).await?;
        let after = next_page(&rows);
        each("gateway", which, rows, |id, gateway| {
            let resource = gateway.map(|gateway| message::resource(&message::gateway(&gateway)));
            self.reach.gateway(id, resource);
        });
        Ok(after)
    }

    async fn publishes(&mut self, which: Which<'_, ProductPublishId>) -> Result<Option<Uuid>> {
        let rows = table::publishes(self.store, which).await?;
        let after = next_page(&rows);
        each("publish", which, rows, |id, publish| {
            self.watcher.publish(id, publish.as_ref().map(|publish| publish.spec.cluster_id));
            let tenant = publish.as_ref().map(|publish| publish.tenant_id);
            match publish.filter(|publish| publish.status.is_served()).as_ref().map(place) {
                None => self.reach.publish(id, None),
                Some(Ok(placed)) => {
                    if placed.resource.value().len() > DEAR {
                        self.dear.extend(tenant.map(|tenant| (id, tenant)));
                    }
                    self.reach.publish(id, Some(placed));
                }
                Some(Err(error)) => skip("publish", id, &error),
            }
        });
        Ok(after)
    }

    async fn subscriptions(&mut self, which: Which<'_, SubscriptionId>) -> Result<Option<Uuid>> {
        let rows = table::subscriptions(self.store, which).await?;
        let after = next_page(&rows);
        each("subscription", which, rows, |id, bought| {
            let entitled = bought.map(|bought| Entitled {
                offer: (bought.subscription.product_id, bought.subscription.environment),
                pin: bought.subscription.product_publish_id,
                resource: message::resource(&message::entitlement(&bought)),
            });
            self.reach.subscription(id, entitled);
        });
        Ok(after)
    }

    async fn credentials(&mut self, which: Which<'_, CredentialId>) -> Result<Option<Uuid>> {
        let rows = table::credentials(self.store, which).await?;
        let after = next_page(&rows);
        each("credential", which, rows, |id, issued| {
            let keyed = issued.map(|issued| Keyed {
                subscription: issued.subscription_id,
                resource: message::resource(&message::credential(&issued)),
            });
            self.reach.credential(id, keyed);
        });
        Ok(after)
    }
}

/// A publish that no agent could be sent.
#[derive(Debug, Error)]
enum Unplaceable {
    #[error(transparent)]
    Unspeakable(#[from] message::Unspeakable),
    #[error("{0} bytes; no agent takes more than {MAX_RESOURCE_BYTES} as one publish")]
    TooLarge(usize),
}

fn place(publish: &DesiredPublish) -> std::result::Result<Placed, Unplaceable> {
    let spec = &publish.spec;
    let resource = message::resource(&message::publish(publish)?);
    if resource.value().len() > MAX_RESOURCE_BYTES {
        return Err(Unplaceable::TooLarge(resource.value().len()));
    }
    Ok(Placed {
        cluster: spec.cluster_id,
        gateway: spec.gateway_id,
        offer: (spec.product_id, spec.environment),
        resource,
    })
}

/// Behind which id the next page begins; None: this was the last one.
fn next_page<Id: Copy + Into<Uuid>, T>(rows: &[Read<Id, T>]) -> Option<Uuid> {
    rows.last().filter(|_| rows.len() == PAGE).map(|row| row.id.into())
}

/// Tells each row, and each id that was asked for and is not there. What cannot be read is skipped.
fn each<Id, T>(
    what: &'static str,
    which: Which<'_, Id>,
    rows: Vec<Read<Id, T>>,
    mut tell: impl FnMut(Id, Option<T>),
) where
    Id: Copy + Eq + Hash + std::fmt::Display,
{
    let mut missing: HashSet<Id> = match which {
        Which::Ids(ids) => ids.iter().copied().collect(),
        Which::Page(_) => HashSet::new(),
    };
    for Read { id, content } in rows {
        missing.remove(&id);
        match content {
            Ok(content) => tell(id, Some(content)),
            Err(error) => skip(what, id, &error),
        }
    }
    for id in missing {
        tell(id, None);
    }
}

#[cfg(test)]
mod tests {
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
        each("credential", Which::Ids(&asked), rows, |id, now| told.push((id, now)));
        assert_eq!(told, [(good, Some("there")), (missing, None)]);
    }
}
