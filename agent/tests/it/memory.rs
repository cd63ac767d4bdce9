//! What publishes cost the program: memory per publish, and the start from disk.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use imp_agent::lkg::{self, Lkg, Table};
use imp_proto::config as pb;

use crate::control::resource;
use crate::fixtures::{credential, entitlement, gateway, host, id, publish, quota};
use crate::rig::PATIENCE;

/// Bytes of a publish: up to 4,300 were measured, and a third more is allowed.
const MOST: usize = 5_800;
/// More is measured with another number: `IMP_PUBLISHES=50000`.
const PUBLISHES: &str = "IMP_PUBLISHES";

/// Publishes per product.
const SHARED: usize = 100;

/// A publish of a product that has two routes, and is published at many hosts.
fn published(number: usize) -> pb::Publish {
    let product = number / SHARED;
    let mut publish = pb::Publish {
        id: id(1, number),
        hostnames: vec![host(number)],
        product_id: id(8, product),
        tenant_id: id(9, product),
        ..publish(product, 9_000)
    };
    for service in &mut publish.api_services {
        let mut second = service.routes.first().cloned().unwrap();
        second.id = id(10, product);
        let path = pb::path_match::Kind::Template("/orders/{id}".into());
        second.path = Some(pb::PathMatch { kind: Some(path) });
        service.routes.push(second);
        let rate = pb::RateLimit { requests: 100, window_seconds: 60 };
        let policy = pb::Policy { id: id(5, 1), kind: Some(pb::policy::Kind::RateLimit(rate)) };
        service.policies = vec![policy];
    }
    publish
}

/// A last-known-good with so many publishes, subscriptions and keys.
async fn on_disk(directory: &Path, publishes: usize) {
    let (lkg, _) = Lkg::open(directory).unwrap();
    let put = |(url, resource): (String, imp_xds::Resource)| {
        lkg.put(Table::Resources, lkg::key(&url, resource.name()), lkg::row(&url, &resource));
    };
    put(resource(&gateway(10_000)));
    for number in 0..publishes {
        put(resource(&published(number)));
        put(resource(&pb::Entitlement { id: id(6, number), ..entitlement(vec![quota(100)]) }));
        let key_sha256 = crate::fixtures::hash(&number.to_string()).into();
        put(resource(&pb::Credential { id: id(7, number), key_sha256, ..credential() }));
    }
    lkg.put(Table::Facts, "complete", "");
    assert!(lkg.flush().await);
    lkg.close();
}

struct Program(Child);

impl Program {
    fn start(state: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_imp-agent"));
        command.env_clear().env("RUST_LOG", "info").args(["--admin-listen", "127.0.0.1:0"]);
        command.args(["--control", "http://127.0.0.1:9", "--state-dir"]).arg(state);
        let log = std::fs::File::create(state.join("log")).unwrap();
        Self(command.stdout(Stdio::null()).stderr(log).spawn().unwrap())
    }

    /// Waits until it serves Envoys.
    async fn serves(&self, state: &Path) -> Duration {
        let started = Instant::now();
        loop {
            let log = std::fs::read_to_string(state.join("log")).unwrap();
            if log.contains("serving the last-known-good") {
                return started.elapsed();
            }
            assert!(started.elapsed() < PATIENCE * 4, "{log}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Bytes that stay resident: the start frees what it needs no more.
    async fn settled(&self) -> usize {
        let mut last = self.resident();
        for _ in 0..100 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let now = std::mem::replace(&mut last, self.resident());
            if now == last {
                break;
            }
        }
        last
    }

    /// Bytes.
    fn resident(&self) -> usize {
        let told = self.status("VmRSS:").unwrap();
        let kib: usize = told.trim_end_matches(" kB").trim().parse().unwrap();
        kib * 1024
    }

    /// What the kernel tells of it.
    fn status(&self, name: &str) -> Option<String> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.map(|told| told.trim().to_owned())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = (self.0.kill(), self.0.wait());
    }
}

/// Bytes that it has resident once it serves, and how long that took.
async fn measured(publishes: usize) -> (usize, Duration) {
    let state = tempfile::tempdir().unwrap();
    on_disk(state.path(), publishes).await;
    let program = Program::start(state.path());
    let took = program.serves(state.path()).await;
    (program.settled().await, took)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_memory_of_the_program_is_in_huge_pages() {
    let state = tempfile::tempdir().unwrap();
    on_disk(state.path(), 1).await;
    let program = Program::start(state.path());
    program.serves(state.path()).await;
    // Older kernels do not tell.
    let enabled = program.status("THP_enabled:");
    assert!(enabled.as_deref().is_none_or(|enabled| enabled == "0"), "{enabled:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publish_costs_no_more_memory_than_this() {
    let publishes = std::env::var(PUBLISHES).ok().and_then(|text| text.parse().ok());
    let publishes = publishes.unwrap_or(4_000);
    let mut least = usize::MAX;
    // What the allocator keeps of a load differs by megabytes, with the number of publishes and without: the
    // difference of two loads counts, and the least of three tries.
    for _ in 0..3 {
        let (few, _) = measured(publishes).await;
        let (many, took) = measured(3 * publishes).await;
        let each = many.saturating_sub(few) / (2 * publishes);
        eprintln!(
            "{publishes} publishes: {few} B; three times as many: {each} B each, served after {took:?}"
        );
        least = least.min(each);
        if least < MOST {
            break;
        }
    }
    assert!(least < MOST, "{least} B");
}
