//! Tests of disks and processes: full, damaged, killed.

mod killed;
mod rows;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use imp_agent::app::Running;
use imp_agent::config::Config;
use imp_agent::link::LinkState;
use imp_proto::config as pb;

use crate::control::TOKEN;
use crate::door::knock;
use crate::fake_envoy::FakeEnvoy;
use crate::fixtures::{self, KEY, credential, entitlement, id};
use crate::rig::{self, active, admin, agent, config, control_with, eventually, reported};

/// Nothing listens there.
pub(crate) const NOWHERE: &str = "http://127.0.0.1:9";

/// Names in a directory with this prefix.
fn named(directory: &Path, start: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap().flatten().map(|entry| entry.path());
    let begins = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().starts_with(start);
    entries.filter(begins).collect()
}

async fn status(agent: &Running) -> serde_json::Value {
    serde_json::from_str(&admin(agent, "/status").await.1).unwrap()
}

/// Waits until nothing is left to write.
async fn on_disk(agent: &Running) {
    let deadline = tokio::time::Instant::now() + rig::PATIENCE;
    loop {
        let status = status(agent).await;
        if status["lkg_rows_behind"] == 0 && status["lkg_failing"].is_null() {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "never on disk: {status}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_damaged_last_known_good_is_moved_aside_and_everything_is_fetched_again() {
    let control = control_with(3).await;
    let state = tempfile::tempdir().unwrap();
    let first = agent(&control.url(), state.path()).await;
    let envoy = FakeEnvoy::start(&first.xds, "e1");
    reported(&control, 2, "is active", active(1, 1)).await;
    drop(envoy);
    first.shutdown().await;

    let file = state.path().join("lkg.redb");
    let whole = std::fs::read(&file).unwrap();
    std::fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    let again = rig::start(config(&control.url(), state.path())).await.unwrap();
    rig::ready(&again).await;
    eventually("all of it", || (again.fleet.statuses().len() == 3).then_some(())).await;
    assert_eq!(named(state.path(), "lkg.redb.damaged-").len(), 1);
    on_disk(&again).await;
    drop(control);
    again.shutdown().await;

    let alone = rig::start(config(NOWHERE, state.path())).await.unwrap();
    assert!(alone.fleet.is_open(), "it was written again");
    assert_eq!(alone.fleet.statuses().len(), 3);
    alone.shutdown().await;
}

#[tokio::test]
async fn a_last_known_good_that_is_removed_in_use_is_whole_again_without_a_person() {
    let control = control_with(3).await;
    let state = tempfile::tempdir().unwrap();
    let first = agent(&control.url(), state.path()).await;
    rig::ready(&first).await;
    on_disk(&first).await;
    std::fs::remove_file(state.path().join("lkg.redb")).unwrap();
    let all = || {
        control
            .state
            .with(|shared| (shared.acked.len() >= 4).then(|| std::mem::take(&mut shared.acked)))
    };
    assert_eq!(eventually("acknowledged", all).await.len(), 4);
    control.state.set(&fixtures::publish(3, 9_000));
    // The new one, and then once more all of them, publishes last.
    let everything = || control.state.with(|shared| (shared.acked.len() >= 6).then_some(()));
    eventually("delivered", everything).await;
    on_disk(&first).await;
    drop(control);
    first.shutdown().await;
    let alone = rig::start(config(NOWHERE, state.path())).await.unwrap();
    assert!(alone.fleet.is_open());
    assert_eq!(alone.fleet.statuses().len(), 4);
    alone.shutdown().await;
}

#[tokio::test]
async fn a_damaged_identity_stops_nothing_that_is_served_and_can_be_mended() {
    let control = control_with(1).await;
    control.state.set(&entitlement(vec![]));
    control.state.set(&credential());
    let state = tempfile::tempdir().unwrap();
    let first = agent(&control.url(), state.path()).await;
    rig::ready(&first).await;
    on_disk(&first).await;
    first.shutdown().await;
    let file = state.path().join("identity.json");
    let good = std::fs::read(&file).unwrap();

    std::fs::write(&file, "x").unwrap();
    let mut again = rig::start(config(&control.url(), state.path())).await.unwrap();
    assert_eq!(knock(&again.xds, &id(1, 0), Some(KEY)).await.status, 200);
    assert_eq!(status(&again).await["link"]["state"], "identity_damaged");
    let (code, words) = admin(&again, "/readyz").await;
    assert!(code == 200 && words.contains("identity.json"), "{code} {words}");
    let ended = tokio::time::timeout(std::time::Duration::from_millis(300), again.ended()).await;
    assert!(ended.is_err(), "{ended:?}");
    std::fs::write(&file, good).unwrap();
    let mut link = again.link_state.clone();
    let connected = link.wait_for(|state| *state == LinkState::Connected);
    rig::within("connected", connected).await.unwrap();
    assert_eq!(control.state.with(|shared| shared.registrations), 1);
    again.shutdown().await;

    std::fs::write(&file, r#"{"agent_id":"a"}"#).unwrap();
    let token = Some(TOKEN.to_owned());
    let with_token = Config { registration_token: token, ..config(&control.url(), state.path()) };
    let third = rig::start(with_token).await.unwrap();
    eventually("registered again", || {
        control.state.with(|shared| (shared.registrations == 2).then_some(()))
    })
    .await;
    eventually("kept", || std::fs::read_to_string(&file).unwrap().contains("jwt").then_some(()))
        .await;
    assert_eq!(named(state.path(), "identity.json.damaged-").len(), 1);
    third.shutdown().await;
}

#[tokio::test]
async fn an_agent_without_identity_goes_on_serving_what_it_has() {
    let control = control_with(1).await;
    let state = tempfile::tempdir().unwrap();
    let first = agent(&control.url(), state.path()).await;
    rig::ready(&first).await;
    on_disk(&first).await;
    first.shutdown().await;
    std::fs::remove_file(state.path().join("identity.json")).unwrap();
    for token in [None, Some("imp_reg_spent".to_owned())] {
        let config = Config { registration_token: token, ..config(&control.url(), state.path()) };
        let mut again = rig::start(config).await.unwrap();
        let ended = tokio::time::timeout(std::time::Duration::from_secs(1), again.ended()).await;
        assert!(ended.is_err() && again.fleet.is_open(), "{ended:?}");
        again.shutdown().await;
    }
}

#[tokio::test]
async fn a_revoked_agent_with_a_new_token_registers_again() {
    let control = control_with(1).await;
    let state = tempfile::tempdir().unwrap();
    let first = agent(&control.url(), state.path()).await;
    rig::ready(&first).await;
    first.shutdown().await;
    control.state.with(|shared| shared.revoked = true);
    let again = agent(&control.url(), state.path()).await;
    let mut link = again.link_state.clone();
    let connected = link.wait_for(|state| *state == LinkState::Connected);
    rig::within("connected", connected).await.unwrap();
    assert_eq!(control.state.with(|shared| shared.registrations), 2);
    again.shutdown().await;
}

#[tokio::test]
async fn an_expired_credential_stops_no_call_and_is_renewed_when_that_is_possible() {
    let control = control_with(1).await;
    control.state.set(&entitlement(vec![]));
    control.state.set(&credential());
    let state = tempfile::tempdir().unwrap();
    let first = agent(&control.url(), state.path()).await;
    rig::ready(&first).await;
    on_disk(&first).await;
    first.shutdown().await;
    let file = state.path().join("identity.json");
    let text = std::fs::read_to_string(&file).unwrap();
    let mut identity: serde_json::Value = serde_json::from_str(&text).unwrap();
    (identity["issued_at_ms"], identity["expires_at_ms"]) = (1_000.into(), 2_000.into());
    std::fs::write(&file, identity.to_string()).unwrap();

    let alone = rig::start(config(NOWHERE, state.path())).await.unwrap();
    assert_eq!(knock(&alone.xds, &id(1, 0), Some(KEY)).await.status, 200);
    alone.shutdown().await;
    let again = rig::start(config(&control.url(), state.path())).await.unwrap();
    let mut link = again.link_state.clone();
    let connected = link.wait_for(|state| *state == LinkState::Connected);
    rig::within("connected", connected).await.unwrap();
    assert!(control.state.with(|shared| shared.renewals) >= 1);
    again.shutdown().await;
}

#[tokio::test]
async fn a_control_plane_that_went_back_is_told_from_nothing_and_a_person_decides() {
    let control = control_with(1).await;
    control.state.set(&entitlement(vec![]));
    let mut key = credential();
    key.state = pb::credential::State::Revoked.into();
    control.state.set(&key);
    control.state.with(|shared| shared.history = Some("database 0 7 1".into()));
    let state = tempfile::tempdir().unwrap();
    let first = agent(&control.url(), state.path()).await;
    rig::ready(&first).await;
    eventually("seen", || control.state.with(|shared| shared.heartbeat.clone())).await;
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    on_disk(&first).await;
    first.shutdown().await;

    // Restored from a backup, in which the key is not revoked.
    control.state.set(&credential());
    control.state.with(|shared| shared.history = Some("database 0 5 1".into()));
    let again = rig::start(config(&control.url(), state.path())).await.unwrap();
    let mut link = again.link_state.clone();
    let back = link.wait_for(|state| *state == LinkState::ControlWentBack);
    rig::within("noticed", back).await.unwrap();
    assert_eq!(knock(&again.xds, &id(1, 0), Some(KEY)).await.status, 401);
    assert_eq!(status(&again).await["link"]["state"], "control_went_back");
    assert!(again.fleet.is_open(), "it goes on serving");

    // The operator accepts it.
    control.state.with(|shared| shared.history = Some("database 0 7 1".into()));
    rig::until_status(&again.xds, &id(1, 0), KEY, 200).await;
    again.shutdown().await;
}

#[tokio::test]
async fn it_is_not_ready_when_no_envoy_can_come_to_it() {
    let control = control_with(1).await;
    let state = tempfile::tempdir().unwrap();
    let agent = agent(&control.url(), state.path()).await;
    rig::ready(&agent).await;
    assert_eq!(admin(&agent, "/readyz").await.0, 200);
    let imp_agent::port::Address::Unix(path) = &agent.xds else { panic!("{}", agent.xds) };
    std::fs::remove_file(path).unwrap();
    let (code, words) = admin(&agent, "/readyz").await;
    assert!(code == 503 && words.contains("xds.sock"), "{code} {words}");
    agent.shutdown().await;
}

/// A file system small enough to fill; `None`, with a message, where mounting is not allowed.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mounted(options: &str) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        let mount = mount.args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(directory.path());
        let output = mount.output().unwrap();
        if !output.status.success() {
            let words = String::from_utf8_lossy(&output.stderr).into_owned();
            let words = format!("NOT TESTED, no mount is permitted here: {words}\n");
            std::io::stderr().write_all(words.as_bytes()).unwrap();
            assert!(std::env::var_os("CI").is_none(), "CI runs as root, and must test this");
            return None;
        }
        Some(Self(directory))
    }

    fn fill(&self) {
        let mut file = std::fs::File::create(self.0.path().join("fill")).unwrap();
        while file.write_all(&[0; 4096]).is_ok() {}
    }

    fn free(&self) {
        std::fs::remove_file(self.0.path().join("fill")).unwrap();
    }

    fn state(&self) -> PathBuf {
        self.0.path().join("state")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _unmounted = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

/// A row of the largest size, so that a few of them fill the rest.
fn large(number: usize, revision: u64) -> pb::Publish {
    let mut publish = fixtures::at_revision(fixtures::publish(number, 9_000), revision);
    let header = |at: usize| pb::Header { name: format!("x-{at}"), value: "v".repeat(4_000) };
    for policy in publish.api_services.iter_mut().flat_map(|service| &mut service.policies) {
        if let Some(pb::policy::Kind::ResponseHeaders(headers)) = &mut policy.kind {
            headers.set.extend((0..40).map(header));
        }
    }
    publish
}

#[tokio::test]
async fn a_full_disk_stops_nothing_and_is_caught_up_with_when_there_is_space() {
    let Some(disk) = SmallDisk::mounted("size=4m") else { return };
    let control = control_with(2).await;
    control.state.set(&entitlement(vec![]));
    control.state.set(&credential());
    let agent = agent(&control.url(), &disk.state()).await;
    rig::ready(&agent).await;
    on_disk(&agent).await;
    disk.fill();
    for revision in 2..6 {
        control.state.set(&large(0, revision));
        control.state.set(&large(1, revision));
    }
    let failing = async {
        while status(&agent).await["lkg_failing"].is_null() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    rig::within("the disk refuses", failing).await;
    let (code, words) = admin(&agent, "/readyz").await;
    assert!(code == 200 && words.contains("last-known-good"), "{code} {words}");
    for _ in 0..50 {
        assert_eq!(knock(&agent.xds, &id(1, 0), Some(KEY)).await.status, 200);
    }
    eventually("told although the disk is full", || {
        (crate::usage::total(&control.state) == (50, 0)).then_some(())
    })
    .await;
    let mut revoked = credential();
    revoked.state = pb::credential::State::Revoked.into();
    control.state.set(&revoked);
    rig::until_status(&agent.xds, &id(1, 0), KEY, 401).await;

    disk.free();
    on_disk(&agent).await;
    drop(control);
    agent.shutdown().await;
    let alone = rig::start(config(NOWHERE, &disk.state())).await.unwrap();
    let mut revisions: Vec<_> = alone.fleet.statuses().iter().map(|s| s.revision).collect();
    revisions.sort_unstable();
    assert_eq!(revisions, [5, 5]);
    assert_eq!(knock(&alone.xds, &id(1, 0), Some(KEY)).await.status, 401);
    alone.shutdown().await;
}

#[tokio::test]
async fn it_starts_on_a_full_disk_and_serves_what_is_there() {
    let Some(disk) = SmallDisk::mounted("size=4m") else { return };
    let control = control_with(2).await;
    let first = agent(&control.url(), &disk.state()).await;
    rig::ready(&first).await;
    on_disk(&first).await;
    drop(control);
    first.shutdown().await;
    disk.fill();
    let alone = rig::start(config(NOWHERE, &disk.state())).await.unwrap();
    assert!(alone.fleet.is_open());
    assert_eq!(alone.fleet.statuses().len(), 2);
    disk.free();
    on_disk(&alone).await;
    alone.shutdown().await;
    assert_eq!(named(&disk.state(), "lkg.redb.damaged-").len(), 0, "full is not damaged");
}

#[tokio::test]
async fn it_starts_with_nothing_on_a_full_disk_and_serves_what_it_is_told() {
    let Some(disk) = SmallDisk::mounted("size=1m") else { return };
    std::fs::create_dir(disk.state()).unwrap();
    disk.fill();
    let control = control_with(2).await;
    let agent = agent(&control.url(), &disk.state()).await;
    rig::ready(&agent).await;
    eventually("both", || (agent.fleet.statuses().len() == 2).then_some(())).await;
    agent.shutdown().await;
}
