//! What modules inside Envoys are told.

use std::collections::BTreeMap;
use std::io::BufReader;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use imp_agent::config::{Config, Door};
use imp_module::feed::frame;
use imp_module::feed::message::{FromAgent, FromModule, Hello, Item, Kind, PROTOCOL, Said, Told};
use prost::Message as _;

use crate::fixtures;
use crate::rig::{self, PATIENCE, config, control_with, eventually, ready};

/// The library, which cargo builds with this test.
fn library() -> PathBuf {
    let program = std::env::current_exe().unwrap();
    program.parent().unwrap().join("libimp_module.so")
}

pub(crate) fn with_module(control: &str, state: &Path) -> Config {
    Config { door: Door::Module, module: Some(library()), ..config(control, state) }
}

/// Everything that a module is told that comes new, by kind and id; `None` while the agent has not
/// everything.
fn told(state: &Path) -> Option<BTreeMap<String, Vec<u8>>> {
    let mut stream = UnixStream::connect(state.join("module/feed.sock")).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let hello = Hello { protocol: PROTOCOL, ..Hello::default() };
    frame::write(&mut stream, &FromModule::from(Said::Hello(hello))).ok()?;
    let (mut reader, mut all) = (BufReader::new(stream), BTreeMap::new());
    loop {
        match frame::read::<FromAgent>(&mut reader).ok()?.told? {
            Told::Update(update) => {
                all.extend(update.put.into_iter().map(|item| (named(&item), item.encode_to_vec())));
                if !update.more {
                    return Some(all);
                }
            }
            Told::Ping(_) => return None,
            Told::Forget(_) => {}
        }
    }
}

fn named(item: &Item) -> String {
    match item.kind.as_ref().unwrap() {
        Kind::Rules(rules) => format!("rules {}", rules.id),
        Kind::Entitlement(entitlement) => format!("entitlement {}", entitlement.id),
        Kind::Credential(credential) => format!("credential {}", credential.id),
        Kind::Host(host) => format!("host {}:{}", host.pattern, host.port),
    }
}

async fn told_within(state: &Path, count: usize) -> BTreeMap<String, Vec<u8>> {
    let state = state.to_owned();
    let wait = move || loop {
        match told(&state) {
            Some(all) if all.len() == count => return all,
            _ => std::thread::yield_now(),
        }
    };
    rig::within("modules are told", tokio::task::spawn_blocking(wait)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_modules_are_told_the_same_without_the_control_plane() {
    let control = control_with(3).await;
    control.state.set(&fixtures::entitlement(vec![]));
    control.state.set(&fixtures::credential());
    let state = tempfile::tempdir().unwrap();
    let token = Some(crate::control::TOKEN.into());
    let url = control.url();
    let first = Config { registration_token: token, ..with_module(&url, state.path()) };
    let first = rig::start(first).await.unwrap();
    ready(&first).await;
    eventually("the key", || (first.fleet.size().publishes == 3).then_some(())).await;
    let before = told_within(state.path(), 8).await;
    first.shutdown().await;
    drop(control);
    let again = rig::start(with_module(&url, state.path())).await.unwrap();
    let after = told_within(state.path(), 8).await;
    assert_eq!(after, before);
    again.shutdown().await;
}
