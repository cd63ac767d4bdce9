//! The files that an agent reads.

use std::path::Path;
use std::sync::{Mutex, OnceLock, PoisonError};

use imp_agent::fleet::Fleet;
use imp_agent::identity::{Identity, IdentityFile};
use imp_agent::ledger::Ledger;
use imp_agent::lkg::{self, Lkg, Table};
use imp_agent::usage::Usage;
use imp_enforce::Engine;
use imp_proto::config as pb;
use imp_xds::Resource;
use prost::{Message as _, Name as _};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use super::bytes::{chunk, edited};
use super::contract::{gateway_message, publish_message};

/// In memory where possible: thousands of files a second.
pub(super) fn folder() -> tempfile::TempDir {
    let memory = tempfile::Builder::new().prefix("imp-fuzz-").tempdir_in("/dev/shm");
    memory.or_else(|_| tempfile::tempdir()).expect("a folder")
}

/// The state of an agent (first byte modulo 3 is 0: arbitrary bytes; 1: edits of a valid file; 2: a
/// valid file with rows from the input): it opens or gives a one-line error, and what can be read
/// can be served.
pub(super) fn last_known_good(bytes: &[u8]) {
    static GOOD: OnceLock<Good> = OnceLock::new();
    let Some((kind, rest)) = bytes.split_first() else { return };
    let good = GOOD.get_or_init(Good::make);
    let folder = good.folder.lock().unwrap_or_else(PoisonError::into_inner);
    for entry in std::fs::read_dir(folder.path()).expect("a folder") {
        std::fs::remove_file(entry.expect("an entry").path()).expect("gone");
    }
    let content = match kind % 3 {
        0 => rest.to_vec(),
        1 => edited(&good.file, rest),
        _ => good.file.clone(),
    };
    std::fs::write(folder.path().join("lkg.redb"), content).expect("a file");
    if kind % 3 == 2 {
        put_rows(folder.path(), rest);
    }
    start(&good.runtime, folder.path());
}

/// Starts like the agent.
fn start(runtime: &Runtime, state: &Path) {
    let (lkg, mut loaded) = match Lkg::open(state) {
        Ok(opened) => opened,
        Err(error) => return assert!(!error.to_string().contains('\n'), "{error}"),
    };
    let _entered = runtime.enter();
    let (engine, cancel) = (Engine::new(), CancellationToken::new());
    let (ledger, kept) = Ledger::open(state);
    let _usage = Usage::restore(engine.clone(), ledger, kept);
    let fleet = Fleet::start(super::agent::options(), engine, lkg.clone(), cancel.clone());
    let whole = fleet.restore_access(&mut loaded);
    fleet.restore(whole, &mut loaded);
    fleet.open();
    cancel.cancel();
    runtime.block_on(tokio::task::yield_now());
    lkg.close();
}

const TABLES: [Table; 7] = [
    Table::Resources,
    Table::Proven,
    Table::Acked,
    Table::Refused,
    Table::Former,
    Table::Facts,
    Table::Rules,
];

/// Each row is a byte for the table, then a key and a value with their lengths. A key that begins
/// with a digit is one of the valid file.
fn put_rows(state: &Path, mut rest: &[u8]) {
    let (lkg, loaded) = Lkg::open(state).expect("a good state");
    let keys: Vec<String> = TABLES
        .iter()
        .flat_map(|table| loaded.rows(*table).iter().map(|(key, _)| key.clone()))
        .collect();
    while let Some((table, after)) = rest.split_first() {
        rest = after;
        let (Some(key), Some(value)) = (chunk(&mut rest), chunk(&mut rest)) else { break };
        let known = key.first().filter(|byte| byte.is_ascii_digit()).map(|byte| *byte - b'0');
        let known = known.and_then(|index| keys.get(usize::from(index))).cloned();
        let key = known.unwrap_or_else(|| String::from_utf8_lossy(key).into_owned());
        lkg.put(TABLES[usize::from(*table) % TABLES.len()], key, value.to_vec());
    }
    lkg.close();
}

struct Good {
    runtime: Runtime,
    file: Vec<u8>,
    folder: Mutex<tempfile::TempDir>,
}

impl Good {
    fn make() -> Self {
        let folder = folder();
        let (lkg, _) = Lkg::open(folder.path()).expect("a state");
        let gateway = gateway_message("g", 80, "").encode_to_vec();
        let environment = "former".to_owned();
        let former = pb::Publish { environment, ..publish_message("p", "g") };
        let former = imp_enforce::PublishAccess::from(&former);
        let publish = publish_message("p", "g").encode_to_vec();
        let entitlement = pb::Entitlement { id: "e".into(), ..Default::default() }.encode_to_vec();
        let credential = pb::Credential { id: "c".into(), ..Default::default() }.encode_to_vec();
        let row = |type_url: &str, id: &str, value: Vec<u8>| {
            let version = imp_proto::content_version(&value);
            lkg::row(type_url, &Resource::new(id, version, value.into()))
        };
        for (type_url, id, value) in [
            (pb::Gateway::type_url(), "g", gateway),
            (pb::Publish::type_url(), "p", publish.clone()),
            (pb::Entitlement::type_url(), "e", entitlement),
            (pb::Credential::type_url(), "c", credential),
        ] {
            lkg.put(Table::Resources, lkg::key(&type_url, id), row(&type_url, id, value));
        }
        lkg.put(Table::Acked, "p", 1_u64.to_be_bytes().to_vec());
        lkg.put(Table::Former, "p", row(&pb::Publish::type_url(), "p", publish));
        lkg.put(Table::Rules, "p", serde_json::to_vec(&[former]).expect("a row"));
        lkg.put(Table::Facts, "complete", "");
        lkg.close();
        drop(lkg);
        let file = std::fs::read(folder.path().join("lkg.redb")).expect("a file");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        Self { runtime: runtime.expect("a runtime"), file, folder: Mutex::new(folder) }
    }
}

/// A damaged identity gives an error message; a valid one is read completely and hides its secret.
pub(super) fn identity_file(bytes: &[u8]) {
    static FOLDER: OnceLock<Mutex<tempfile::TempDir>> = OnceLock::new();
    let Some((kind, rest)) = bytes.split_first() else { return };
    let good = Identity {
        agent_id: "agent".into(),
        cluster_id: "cluster".into(),
        jwt: "a-secret-of-the-fuzzer".into(),
        key: imp_agent::identity::Seed::random(),
        issued_at_ms: 1_000,
        expires_at_ms: 4_000,
    };
    let content = match kind % 2 {
        0 => rest.to_vec(),
        _ => edited(&serde_json::to_vec_pretty(&good).expect("JSON"), rest),
    };
    let folder = FOLDER.get_or_init(|| Mutex::new(folder()));
    let folder = folder.lock().unwrap_or_else(PoisonError::into_inner);
    let file = IdentityFile::within(folder.path());
    std::fs::write(file.path(), content).expect("a file");
    match file.load() {
        Ok(Some(identity)) => {
            identity.is_valid_at(identity.renew_at_ms());
            let hidden = identity.jwt.len() < 8 || !format!("{identity:?}").contains(&identity.jwt);
            let elsewhere = [&identity.agent_id, &identity.cluster_id];
            let said = elsewhere.iter().any(|text| text.contains(&identity.jwt));
            assert!(hidden || said, "a JWT in the log");
        }
        Ok(None) => unreachable!("the file is there"),
        Err(error) => assert!(!error.to_string().contains("a-secret-of-the-fuzzer"), "{error}"),
    }
}
