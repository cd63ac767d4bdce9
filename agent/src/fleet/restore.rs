//! Restores the fleet after a restart.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use imp_enforce::Engine;
use imp_proto::agent as pb;
use imp_proto::config::ResourceType;
use imp_xds::Resource;
use prost::Message as _;

use super::core::{Core, Revision};
use super::gateway_resources::envoy_type;
use super::proof::Proof;
use super::rules::FormerRules;
use super::verdicts::RefusedBy;
use crate::intake::{self, Access, Item, Parser, Publish, Rejected, is_rendered};
use crate::lkg::{self, Loaded, Table};
use crate::module::Feed;

/// Restored resources whose content matches their version.
#[derive(Default)]
pub struct Whole {
    /// Those to render.
    rows: Vec<(ResourceType, Resource)>,
    /// Publishes that the engine already has.
    publishes: Vec<Arc<str>>,
    /// Those that only the engine needs.
    access: Vec<Restored>,
}

/// A row that was loaded for decisions.
enum Row {
    /// Also to be rendered; for a publish with its id.
    Rendered(ResourceType, Resource, Option<Arc<str>>),
    Access(Restored),
}

/// Loads what decisions need into the engine, long before Envoy's configuration is rendered. From
/// then on calls are answered. Keys and entitlements go to modules, too; what they must know of
/// publishes follows with [`Core::restore`], which has every former rule.
pub(super) fn load_access(engine: &Engine, feed: Option<&Feed>, loaded: &mut Loaded) -> Whole {
    let rows = loaded.take(Table::Resources);
    let refused: HashMap<&str, u64> =
        loaded.rows(Table::Refused).iter().filter_map(refusal).collect();
    let former_rules: HashMap<&str, FormerRules> = loaded
        .rows(Table::Rules)
        .iter()
        .map(|(id, row)| (id.as_str(), FormerRules::read(id, row)))
        .collect();
    let fallback = |parser: &mut Parser, id: &str, revision: u64| {
        let fell_back = refused.get(id) == Some(&revision);
        let row = loaded.get(Table::Former, id).filter(|_| fell_back).cloned()?;
        match parser.parse_access(ResourceType::Publish, &lkg::resource(row)?).ok()? {
            Access::Publish(former, _) => Some(former),
            _ => None,
        }
    };
    let load = |parser: &mut Parser, row: &(String, Bytes)| {
        let (kind, resource) = whole(row)?;
        let mut publish = None;
        match parser.parse_access(kind, &resource) {
            Ok(Access::Publish(wanted, revision)) => {
                let id = wanted.publish_id().clone();
                let others = former_rules.get(&*id).into_iter().flat_map(FormerRules::iter);
                let fallback = fallback(parser, &id, revision);
                engine.put_rules(wanted, fallback.into_iter().chain(others.cloned()));
                publish = Some(id);
            }
            Ok(Access::Entitlement(entitlement)) => engine.put_entitlement(entitlement),
            Ok(Access::Credential(credential)) => engine.put_credential(credential),
            Ok(Access::None) => {}
            Err(rejected) if !is_rendered(kind) => {
                warn(kind, &resource, &rejected);
                return None;
            }
            // Told when it is rendered.
            Err(_) => {}
        }
        Some(match is_rendered(kind) {
            true => Row::Rendered(kind, resource, publish),
            false => {
                if let Some(feed) = feed {
                    feed.put(kind, [(&**resource.name(), resource.value())].into_iter());
                }
                Row::Access(restored(kind, &resource))
            }
        })
    };
    let mut all = Whole::default();
    for row in in_parallel(&mut parsers(), &rows, load) {
        match row {
            Row::Rendered(kind, resource, publish) => {
                all.rows.push((kind, resource));
                all.publishes.extend(publish);
            }
            Row::Access(restored) => all.access.push(restored),
        }
    }
    all
}

fn refusal((id, wire): &(String, Bytes)) -> Option<(&str, u64)> {
    Some((id.as_str(), pb::PublishStatus::decode(wire.clone()).ok()?.revision))
}

impl Core {
    /// Restores gateways, publishes and Envoys' answers about them. Unreadable rows are skipped:
    /// the control plane sends them again. [`load_access`] has updated the engine, which is updated
    /// again only when everything is restored, because former rules would be missing in between.
    pub(super) fn restore(&mut self, whole: Whole, loaded: &mut Loaded) -> Vec<Restored> {
        self.restoring = true;
        self.restore_paths(loaded);
        let mut restored = whole.access;
        parsed(whole.rows, |(item, row)| {
            self.hold(item);
            restored.push(row);
        });
        self.restore_answers(loaded);
        self.restoring = false;
        for id in whole.publishes {
            if !self.revisions.contains_key(&*id) {
                self.engine.remove_publish(&id);
            } else if self.with_former_rules.contains(&*id) {
                self.enforce(&id);
            }
        }
        self.feed_all();
        restored
    }

    /// Restores what Envoys have said.
    fn restore_answers(&mut self, loaded: &mut Loaded) {
        for (id, row) in loaded.take(Table::Rules) {
            self.restore_former_rules(&id, &row);
        }
        for (id, wire) in loaded.take(Table::Refused) {
            let former = loaded.get(Table::Former, &id).cloned();
            self.restore_refusal(&id, wire, former);
        }
        for (id, row) in loaded.take(Table::Acked) {
            if let Ok(revision) = <[u8; 8]>::try_from(row.as_ref()) {
                self.tracker.resume(&id, u64::from_be_bytes(revision));
            }
        }
        for (key, row) in loaded.take(Table::Proven) {
            self.restore_proof(&key, &row);
        }
        self.follow_everything();
    }

    /// Does not retry what Envoy rejected before: Envoy may have kept it in memory, and would
    /// acknowledge the same bytes without serving them.
    fn restore_refusal(&mut self, id: &str, wire: Bytes, former: Option<Bytes>) {
        let by = RefusedBy::decode(wire.clone()).unwrap_or_default().marks;
        let Ok(status) = pb::PublishStatus::decode(wire) else { return };
        let former = former.and_then(lkg::resource);
        let former = former.and_then(|former| intake::publish(former.value(), former.name()).ok());
        let routes = former.as_ref().map(|former| former.routes.clone());
        let Some(delta) = self.assembly.set_refused(id, status.revision, routes) else { return };
        self.stage(delta);
        if let (Some(former), Some(revisions)) = (former, self.revisions.get_mut(id)) {
            let Publish { routes, access, wire, .. } = former;
            let access = self.engine.share(access);
            // A former release did not store its rules.
            if revisions.former_rules.add(access.clone(), &revisions.wanted.access, Some(&access)) {
                self.with_former_rules.insert(id.to_owned());
            }
            let wire = self.contents.share(wire);
            revisions.former = Some(Box::new(Revision { number: routes.revision, access, wire }));
        }
        self.tracker.refuse(id, status.revision, status.error.unwrap_or_default(), &by);
        self.note_stale(id);
    }

    /// Restores former rules, because Envoys may have kept routes that name them, however long the
    /// agent was away.
    fn restore_former_rules(&mut self, id: &str, row: &[u8]) {
        match self.revisions.get_mut(id) {
            Some(revisions) => {
                revisions.former_rules = FormerRules::read(id, row);
                self.with_former_rules.insert(id.to_owned());
            }
            None => self.lkg.remove(Table::Rules, id),
        }
    }

    fn restore_proof(&mut self, key: &str, row: &[u8]) {
        let Some((type_url, name)) = lkg::split(key) else { return };
        let Some(mut proof) = Proof::read(row) else { return };
        let Some(type_url) = envoy_type(type_url) else { return };
        let delta = self.assembly.accepted(type_url, name, &proof.version);
        self.stage(delta);
        // One copy of these texts.
        let held = self.assembly.held(type_url, name);
        let name = held.map_or_else(|| name.into(), |(name, _)| name.clone());
        if let Some((_, version)) = held.filter(|(_, version)| **version == proof.version) {
            proof.version = version.clone();
        }
        self.proven.insert((type_url, name), proof);
    }
}

/// A restored resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    pub kind: ResourceType,
    pub name: Arc<str>,
    pub version: Arc<str>,
}

/// Maps in parallel, with a parser for each thread: parsing is most of the start-up time.
fn in_parallel<T: Sync, R: Send>(
    parsers: &mut [Parser],
    rows: &[T],
    work: impl Fn(&mut Parser, &T) -> Option<R> + Sync,
) -> Vec<R> {
    let share = rows.len().div_ceil(parsers.len()).max(256);
    let work = &work;
    std::thread::scope(|scope| {
        let shares = rows.chunks(share).zip(parsers);
        let shares = shares.map(|(rows, parser)| scope.spawn(move || share_of(parser, rows, work)));
        let shares: Vec<_> = shares.collect();
        shares.into_iter().flat_map(|share| share.join().unwrap_or_default()).collect()
    })
}

/// One for each core.
fn parsers() -> Vec<Parser> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::iter::repeat_with(Parser::default).take(cores).collect()
}

fn share_of<T, R>(
    parser: &mut Parser,
    rows: &[T],
    work: &impl Fn(&mut Parser, &T) -> Option<R>,
) -> Vec<R> {
    rows.iter().filter_map(|row| work(parser, row)).collect()
}

/// Parses a row and checks that its content matches its version.
fn whole((key, row): &(String, Bytes)) -> Option<(ResourceType, Resource)> {
    let whole = lkg::split(key).and_then(|(type_url, name)| {
        let resource = lkg::resource(row.clone()).filter(|resource| &**resource.name() == name)?;
        Some((ResourceType::of(type_url)?, resource))
    });
    if whole.is_none() {
        tracing::warn!(%key, "a row of the last-known-good is not what was written; it is fetched again");
    }
    whole
}

/// Resources that are parsed at once.
const PORTION: usize = 2_048;

/// Parses in parallel, and passes on in order. A portion is parsed while the one before is passed
/// on, and only these are in memory.
fn parsed(rows: Vec<(ResourceType, Resource)>, mut pass_on: impl FnMut((Item, Restored))) {
    let (portions, queue) = std::sync::mpsc::sync_channel(1);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let (mut parsers, mut rows) = (parsers(), rows.into_iter());
            loop {
                let portion: Vec<_> = rows.by_ref().take(PORTION).collect();
                let parsed = in_parallel(&mut parsers, &portion, parse);
                if portion.is_empty() || portions.send(parsed).is_err() {
                    return;
                }
            }
        });
        queue.into_iter().flatten().for_each(&mut pass_on);
    });
}

fn parse(
    parser: &mut Parser,
    (kind, resource): &(ResourceType, Resource),
) -> Option<(Item, Restored)> {
    match parser.parse(*kind, resource) {
        Ok(item) => Some((item, restored(*kind, resource))),
        Err(rejected) => {
            warn(*kind, resource, &rejected);
            None
        }
    }
}

fn restored(kind: ResourceType, resource: &Resource) -> Restored {
    Restored { kind, name: resource.name().clone(), version: resource.version().clone() }
}

fn warn(kind: ResourceType, resource: &Resource, rejected: &Rejected) {
    tracing::warn!(?kind, name = %resource.name(), reason = %rejected.reason, "a resource of the last-known-good cannot be taken any more");
}
