//! The order in which Envoys and their modules hear of a host: first the scope, then the host; and the
//! other way round when it goes.

use std::collections::BTreeSet;
use std::io::BufReader;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use imp_agent::config::Config;
use imp_module::feed::frame;
use imp_module::feed::message::{
    Applied, FromAgent, FromModule, Hello, Host, Kind, Named, PROTOCOL, Said, Told, Update,
};
use imp_proto::config as pb;
use imp_translate::xds::SCOPE;

use crate::fake_envoy::FakeEnvoy;
use crate::fixtures::{self, host};
use crate::module::with_module;
use crate::rig::{self, PATIENCE, active, control_with, eventually, ready, reported};

/// What must not happen has not, if it has not by then.
const LONG_ENOUGH: Duration = Duration::from_millis(400);

/// A module that acknowledges changes when the test says so.
pub(crate) struct FakeModule {
    hosts: Arc<Mutex<BTreeSet<String>>>,
    version: Arc<AtomicU64>,
    acknowledges: Arc<AtomicBool>,
    stream: UnixStream,
}

impl FakeModule {
    pub(crate) fn start(state: &Path) -> Self {
        let mut stream = UnixStream::connect(state.join("module/feed.sock")).unwrap();
        let hello = Hello { protocol: PROTOCOL, ..Hello::default() };
        frame::write(&mut stream, &FromModule::from(Said::Hello(hello))).unwrap();
        let module = Self {
            hosts: Arc::default(),
            version: Arc::default(),
            acknowledges: Arc::new(AtomicBool::new(true)),
            stream,
        };
        let (hosts, version) = (module.hosts.clone(), module.version.clone());
        let (acknowledges, mut answers) =
            (module.acknowledges.clone(), module.stream.try_clone().unwrap());
        let mut reader = BufReader::new(module.stream.try_clone().unwrap());
        std::thread::spawn(move || {
            while let Ok(said) = frame::read::<FromAgent>(&mut reader) {
                let Some(Told::Update(update)) = said.told else { continue };
                let (last, made) = (!update.more, update.version);
                take(&mut hosts.lock().unwrap(), update);
                if !last {
                    continue;
                }
                version.store(made, Ordering::SeqCst);
                if acknowledges.load(Ordering::SeqCst) {
                    applied(&mut answers, made);
                }
            }
        });
        module
    }

    pub(crate) fn knows(&self, pattern: &str) -> bool {
        self.hosts.lock().unwrap().contains(pattern)
    }

    fn holds_back(&self) {
        self.acknowledges.store(false, Ordering::SeqCst);
    }

    fn acknowledges(&mut self) {
        self.acknowledges.store(true, Ordering::SeqCst);
        applied(&mut self.stream, self.version.load(Ordering::SeqCst));
    }
}

fn applied(stream: &mut UnixStream, version: u64) {
    // An agent that has gone hears nothing.
    let _ = frame::write(stream, &FromModule::from(Said::Applied(Applied { version })));
}

fn take(hosts: &mut BTreeSet<String>, update: Update) {
    let put = update.put.into_iter().filter_map(|item| match item.kind {
        Some(Kind::Host(Host { pattern, .. })) => Some(pattern),
        _ => None,
    });
    hosts.extend(put);
    for name in update.remove {
        if let Some(Named::Host(Host { pattern, .. })) = name.named {
            hosts.remove(&pattern);
        }
    }
}

/// Holds up an Envoy's answers about scopes.
#[derive(Default)]
struct Gate {
    closed: Mutex<bool>,
    opened: Condvar,
    waiting: AtomicBool,
}

impl Gate {
    fn set(&self, closed: bool) {
        *self.closed.lock().unwrap() = closed;
        self.opened.notify_all();
    }

    fn pass(&self) {
        let mut closed = self.closed.lock().unwrap();
        while *closed {
            self.waiting.store(true, Ordering::SeqCst);
            closed = self.opened.wait_timeout(closed, PATIENCE).unwrap().0;
        }
        self.waiting.store(false, Ordering::SeqCst);
    }
}

fn slow(agent: &imp_agent::port::Address, node: &str, gate: &Arc<Gate>) -> FakeEnvoy {
    let gate = gate.clone();
    let taste = move |url: &str, _: &imp_xds::Resource| {
        if url == SCOPE {
            gate.pass();
        }
        None
    };
    FakeEnvoy::picky(agent, node, "all", Box::new(taste))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn modules_know_a_host_while_envoys_have_its_scope_and_no_longer() {
    let control = control_with(3).await;
    let directory = tempfile::tempdir().unwrap();
    let token = Some(crate::control::TOKEN.into());
    let config = with_module(&control.url(), directory.path());
    let agent = rig::start(Config { registration_token: token, ..config }).await.unwrap();
    ready(&agent).await;
    let gate = Arc::new(Gate::default());
    let quick = FakeEnvoy::start(&agent.xds, "quick");
    let slow = slow(&agent.xds, "slow", &gate);
    let mut module = FakeModule::start(directory.path());
    for number in 0..3 {
        reported(&control, number, "is active", active(1, 2)).await;
        eventually("hosts", || module.knows(&host(number)).then_some(())).await;
    }

    // One Envoy has the scope, the other not yet: the module does not know the host.
    gate.set(true);
    module.holds_back();
    control.state.set(&fixtures::publish(3, 9_000));
    eventually("the scope is there", || (quick.scopes().len() == 4).then_some(())).await;
    eventually("the other waits", || gate.waiting.load(Ordering::SeqCst).then_some(())).await;
    tokio::time::sleep(LONG_ENOUGH).await;
    assert!(!module.knows(&host(3)), "the slow Envoy would answer 404");
    gate.set(false);
    eventually("the host", || module.knows(&host(3)).then_some(())).await;
    // It is active when the module says that it can be called.
    tokio::time::sleep(LONG_ENOUGH).await;
    let status = control.state.status(&fixtures::id(1, 3));
    assert!(status.is_none_or(|status| !active(1, 2)(&status)), "nobody can call it yet");
    module.acknowledges();
    reported(&control, 3, "is active", active(1, 2)).await;

    // The host goes first, and the scope when the module has forgotten it.
    module.holds_back();
    control.state.remove::<pb::Publish>(&fixtures::id(1, 3));
    eventually("the host goes", || (!module.knows(&host(3))).then_some(())).await;
    tokio::time::sleep(LONG_ENOUGH).await;
    assert_eq!((quick.scopes().len(), slow.scopes().len()), (4, 4), "a call could be on its way");
    module.acknowledges();
    eventually("the scope goes", || (quick.scopes().len() == 3).then_some(())).await;

    // It can come back at once.
    control.state.remove::<pb::Publish>(&fixtures::id(1, 2));
    control.state.set(&fixtures::publish(2, 9_000));
    eventually("the host is back", || module.knows(&host(2)).then_some(())).await;
    reported(&control, 2, "is active", active(1, 2)).await;
    tokio::time::sleep(LONG_ENOUGH).await;
    assert_eq!((quick.scopes().len(), slow.scopes().len()), (3, 3));

    // A module that says nothing holds nothing up for long.
    module.holds_back();
    control.state.remove::<pb::Publish>(&fixtures::id(1, 2));
    eventually("the scope goes", || (quick.scopes().len() == 2).then_some(())).await;
    agent.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_reports_wildcards_with_the_module_only() {
    let control = control_with(1).await;
    let knows = || {
        let heartbeat = control.state.with(|shared| shared.heartbeat.take())?;
        let words = heartbeat.capabilities?.features;
        Some(words.iter().any(|word| word == imp_grammar::features::WILDCARD_HOSTS))
    };
    let token = || Some(crate::control::TOKEN.to_owned());
    let (with, without) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let config = with_module(&control.url(), with.path());
    let agent = rig::start(Config { registration_token: token(), ..config }).await.unwrap();
    assert!(eventually("a heartbeat", knows).await);
    agent.shutdown().await;
    control.state.with(|shared| shared.heartbeat = None);
    let agent = rig::agent(&control.url(), without.path()).await;
    assert!(!eventually("a heartbeat", knows).await);
    agent.shutdown().await;
}
