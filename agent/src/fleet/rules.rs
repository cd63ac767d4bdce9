//! Access rules of former revisions, kept while an Envoy may still run routes that name them.
//!
//! An Envoy that lags, refuses the wanted revision or is silent runs the routes of a former one, and its
//! calls are judged by the rules of that one. They go when every connected Envoy has the wanted
//! revision, and then only after a while: one that has lost its stream comes back to the agent with what
//! it had, and asks about its calls before it is sent what is new.

use std::time::{Duration, Instant};

use bytes::Bytes;
use imp_enforce::{FORMER_RULES, PublishAccess};

/// Envoy tries again after 30 s at the latest when it has lost the stream of its configuration.
const LINGER: Duration = Duration::from_secs(120);

/// How often it is looked whether some can go.
pub(super) const SWEEP: Duration = Duration::from_secs(5);

/// The former rules of one publish, the latest first; their digests are distinct, and not that of the
/// wanted rules.
#[derive(Clone, Debug, Default)]
pub(super) struct FormerRules {
    rules: Vec<PublishAccess>,
    /// Since when no connected Envoy runs anything but the wanted revision.
    settled: Option<Instant>,
}

impl FormerRules {
    /// As they were kept of this publish. What cannot be read is left out: calls that name it are judged
    /// by all rules that are known. A damaged row opens nothing, since routes name rules by their content.
    pub(super) fn read(id: &str, row: &[u8]) -> Self {
        let mut rules: Vec<PublishAccess> = serde_json::from_slice(row).unwrap_or_default();
        rules.retain(|rules| rules.publish_id == id);
        rules.truncate(FORMER_RULES);
        Self { rules, settled: None }
    }

    /// A row of the last-known-good; None: there are none.
    pub(super) fn row(&self) -> Option<Bytes> {
        let some = (!self.rules.is_empty()).then(|| serde_json::to_vec(&self.rules).ok());
        some.flatten().map(Bytes::from)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &PublishAccess> {
        self.rules.iter()
    }

    /// Rules that some Envoy may run, beside the wanted ones. Returns whether that changes anything that
    /// must be kept. When there are too many, the oldest go first, but not `fallback`, which Envoys are
    /// known to have run.
    pub(super) fn add(
        &mut self,
        former: PublishAccess,
        wanted: &PublishAccess,
        fallback: Option<&PublishAccess>,
    ) -> bool {
        self.settled = None;
        let (digest, wanted) = (former.digest(), wanted.digest());
        let before = self.rules.clone();
        self.rules.retain(|rules| rules.digest() != wanted && rules.digest() != digest);
        if digest != wanted {
            self.rules.insert(0, former);
        }
        let fallback = fallback.map(PublishAccess::digest);
        while self.rules.len() > FORMER_RULES {
            let mut oldest = self.rules.iter().rev();
            let spared = oldest.next().is_some_and(|rules| Some(rules.digest()) == fallback);
            self.rules.remove(self.rules.len() - if spared { 2 } else { 1 });
        }
        self.rules != before
    }

    /// Forgets all of them once every Envoy has had the wanted revision for long enough. Returns whether
    /// it has.
    pub(super) fn sweep(&mut self, everywhere: bool, now: Instant) -> bool {
        let since = *self.settled.get_or_insert(now);
        if !everywhere {
            self.settled = None;
            return false;
        }
        let over = now.saturating_duration_since(since) >= LINGER;
        if over {
            self.rules.clear();
        }
        over
    }
}

#[cfg(test)]
mod tests {
    use imp_enforce::{AuthMode, Call, Presented};
    use imp_proto::config as pb;
    use prost::Message as _;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::fleet::Fleet;
    use crate::intake::{self, Item};
    use crate::lkg::{Lkg, Table};

    fn rules(environment: usize) -> PublishAccess {
        PublishAccess {
            publish_id: "p".into(),
            gateway_id: "g".into(),
            tenant_id: "t".into(),
            product_id: "q".into(),
            environment: environment.to_string(),
            auth_mode: AuthMode::ApiKey,
            suspended: false,
            limits: vec![],
        }
    }

    fn held(former: &FormerRules) -> Vec<String> {
        former.iter().map(|rules| rules.environment.clone()).collect()
    }

    /// A publish with one route, at a revision.
    fn publish(revision: u64, mode: pb::publish::AuthMode) -> Item {
        let path = pb::PathMatch { kind: Some(pb::path_match::Kind::Prefix("/".into())) };
        let endpoint = pb::Endpoint { host: "10.0.0.1".into(), port: 80, weight: 1 };
        let backend =
            pb::Backend { id: "b".into(), endpoints: vec![endpoint], ..Default::default() };
        let route = pb::Route {
            id: "r".into(),
            path: Some(path),
            backends: vec![pb::WeightedBackend { backend_id: "b".into(), weight: 1 }],
            ..Default::default()
        };
        let (routes, backends) = (vec![route], vec![backend]);
        let service = pb::ApiService { id: "s".into(), routes, backends, ..Default::default() };
        let publish = pb::Publish {
            id: "p".into(),
            gateway_id: "g".into(),
            auth_mode: mode.into(),
            hostnames: vec!["a.example.com".into()],
            base_path: "/".into(),
            revision,
            api_services: vec![service],
            ..Default::default()
        };
        let wire = publish.encode_to_vec().into();
        Item::Publish(Box::new(intake::publish(wire, "p").unwrap()))
    }

    fn gateway() -> Item {
        let protocol = pb::listener::Protocol::Http.into();
        let listener =
            pb::Listener { name: "http".into(), port: 8080, protocol, ..Default::default() };
        let message =
            pb::Gateway { id: "g".into(), listeners: vec![listener], ..Default::default() };
        Item::Gateway(imp_translate::ir::Gateway::parse(&message).unwrap())
    }

    #[tokio::test]
    async fn former_rules_go_from_engine_and_disk_once_every_envoy_runs_others() {
        use pb::publish::AuthMode::{ApiKey, None as Open};
        let directory = tempfile::tempdir().unwrap();
        let (lkg, _) = Lkg::open(directory.path()).unwrap();
        let cancel = CancellationToken::new();
        let fleet = Fleet::empty(lkg.clone(), cancel.clone());
        fleet.change(vec![gateway(), publish(1, ApiKey)], vec![], vec![]);
        fleet.change(vec![publish(2, Open)], vec![], vec![]);
        let asks_for_a_key = || {
            let call = Call {
                publish_id: "p",
                route_id: "r",
                // Judged by all rules that are held.
                access: "",
                gateway_id: None,
                credential: Presented::None,
                client: None,
                now: chrono::Utc::now(),
            };
            fleet.shared.engine.decide(&call).is_err()
        };
        {
            let mut core = fleet.lock();
            let later = |seconds| Instant::now() + Duration::from_secs(seconds);
            core.sweep_former_rules(later(1_000));
            core.sweep_former_rules(later(2_000));
            assert!(asks_for_a_key(), "no Envoy has been here since");
            core.tracker.open(1, super::super::tracker::Node::new("e", None, "1.40.0", 0));
            let (_, needs) = core.assembly.requirements("p").unwrap();
            for (url, name, version) in needs {
                core.tracker.acked(1, &(url, name.as_str().into()), Some(&version));
            }
            core.sweep_former_rules(later(3_000));
            assert!(asks_for_a_key() && !core.with_former_rules.is_empty());
            core.sweep_former_rules(later(4_000));
            assert!(!asks_for_a_key() && core.with_former_rules.is_empty());
        }
        lkg.flush().await;
        lkg.close();
        cancel.cancel();
        drop((fleet, lkg));
        let (_, loaded) = Lkg::open(directory.path()).unwrap();
        assert_eq!(loaded.rows(Table::Rules), []);
    }

    #[test]
    fn revisions_with_the_same_rules_add_nothing() {
        let mut former = FormerRules::default();
        assert!(!former.add(rules(1), &rules(1), None));
        assert!(former.row().is_none());
        assert!(former.add(rules(1), &rules(2), None));
        assert!(!former.add(rules(2), &rules(2), None), "a revision that changes something else");
        assert!(former.add(rules(2), &rules(1), None), "back to the first");
        assert_eq!(held(&former), ["2"]);
        assert_eq!(held(&FormerRules::read("p", &former.row().unwrap())), ["2"]);
        assert_eq!(held(&FormerRules::read("q", &former.row().unwrap())), [""; 0]);
        assert_eq!(held(&FormerRules::read("p", b"what is this")), [""; 0]);
    }

    #[test]
    fn too_many_are_not_held_and_what_envoys_ran_stays() {
        let mut former = FormerRules::default();
        for number in 1..=100 {
            former.add(rules(number), &rules(number + 1), Some(&rules(1)));
        }
        let held = held(&former);
        assert_eq!(held.len(), FORMER_RULES);
        assert_eq!((held.first().unwrap().as_str(), held.last().unwrap().as_str()), ("100", "1"));
    }

    #[test]
    fn they_go_when_no_envoy_has_run_them_for_a_while() {
        let mut former = FormerRules::default();
        former.add(rules(1), &rules(2), None);
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(!former.sweep(true, at(0)));
        assert!(!former.sweep(false, at(100)), "one came back with the former routes");
        assert!(!former.sweep(true, at(105)));
        assert!(!former.sweep(true, at(130)));
        former.add(rules(3), &rules(2), None);
        assert!(!former.sweep(true, at(230)), "there is something new since");
        assert!(former.sweep(true, at(350)));
        assert!(former.row().is_none());
    }
}
