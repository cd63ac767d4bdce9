//! A full disk or a missing file: nothing is acknowledged that is not kept, and the store recovers
//! by itself.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::control_plane::{Answer, ControlPlane};

const PATIENCE: Duration = Duration::from_secs(120);

/// A file system of a few megabytes, until dropped.
struct SmallDisk(TempDir);

impl SmallDisk {
    /// `None`, with a message, where this user may not mount: only root may, and CI is root.
    #[expect(clippy::print_stderr, reason = "a test that does not run must say so")]
    fn mount(megabytes: u32) -> Option<Self> {
        let dir = TempDir::new().unwrap();
        let size = format!("size={megabytes}m");
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(dir.path())
            .output()
            .unwrap();
        if mount.status.success() {
            return Some(Self(dir));
        }
        let why = String::from_utf8_lossy(&mount.stderr).into_owned();
        let root = Command::new("id").arg("-u").output().unwrap().stdout == b"0\n";
        assert!(!root, "root may mount: {why}");
        eprintln!("SKIPPED: the test needs a small disk, and mounting is not permitted: {why}");
        None
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Takes all remaining space.
    fn fill(&self) -> PathBuf {
        let path = self.path().join("fill");
        let mut file = File::create(&path).unwrap();
        for size in [64 * 1024, 1024, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

async fn customer(plane: &ControlPlane, tenant: &str, name: &str) -> Answer {
    plane.admin.post("/v1/customers", json!({ "tenant_id": tenant, "name": name })).await
}

/// Polls until it is as expected.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < deadline, "{what}: not in time");
        sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_503_and_heals_by_itself_when_there_is_room() {
    let Some(disk) = SmallDisk::mount(6) else { return };
    let url = format!("sqlite://{}", disk.path().join("imp.db").display());
    let plane = ControlPlane::start_on(Some(&url)).await;
    let tenant = plane.admin.make("tenants", json!({ "name": "a", "slug": "a" })).await;
    let tenant = tenant["id"].as_str().unwrap();
    let ready = async || plane.nobody().get("/readyz").await.status == 200;
    assert!(ready().await);
    let (mut made, mut refused) = (Vec::new(), Vec::new());
    for round in 0..2 {
        let fill = disk.fill();
        let before = refused.len();
        for number in 0..400 {
            let name = format!("c-{round}-{number}");
            let answer = customer(&plane, tenant, &name).await;
            if answer.status == 201 {
                made.push(name);
                continue;
            }
            answer.refused(503, "storage_full", "");
            assert_eq!(answer.header("retry-after"), "5");
            refused.push(name);
            if refused.len() >= before + 20 {
                break;
            }
        }
        assert!(refused.len() > before, "the disk never got full");
        until("readyz tells", async || !ready().await).await;
        assert_eq!(plane.admin.get("/v1/customers").await.status, 200, "reading goes on");
        fs::remove_file(fill).unwrap();
        until("a write passes", async || {
            let name = format!("again-{round}");
            customer(&plane, tenant, &name).await.status == 201
        })
        .await;
        until("readyz tells", async || ready().await).await;
    }
    // What was acknowledged exists, what was refused does not.
    for name in &made {
        let found = plane.admin.get(&format!("/v1/customers?name={name}")).await.ok();
        assert_eq!(found["items"].as_array().unwrap().len(), 1, "{name}");
    }
    for name in &refused {
        let found = plane.admin.get(&format!("/v1/customers?name={name}")).await.ok();
        assert_eq!(found["items"], json!([]), "{name}");
    }
    plane.running.shutdown().await;
}

#[tokio::test]
async fn a_file_that_was_removed_or_replaced_takes_nothing_in_and_readyz_says_so() {
    let dir = TempDir::new().unwrap();
    let (file, away) = (dir.path().join("imp.db"), dir.path().join("away.db"));
    let plane = ControlPlane::start_on(Some(&format!("sqlite://{}", file.display()))).await;
    let tenant = plane.admin.make("tenants", json!({ "name": "a", "slug": "a" })).await;
    let tenant = tenant["id"].as_str().unwrap();
    fs::rename(&file, &away).unwrap();
    for replaced in [false, true] {
        if replaced {
            fs::copy(&away, &file).unwrap();
        }
        // Many at once: more connections than were in use before must not open the other file.
        let writes = (0..8).map(|_| customer(&plane, tenant, "lost"));
        for answer in futures::future::join_all(writes).await {
            answer.refused(503, "database_replaced", "");
            assert!(!answer.header("retry-after").is_empty());
        }
        until("readyz tells", async || {
            plane.nobody().get("/readyz").await.code() == "database_replaced"
        })
        .await;
        assert_eq!(plane.admin.get("/v1/customers").await.status, 200);
    }
    // Put back, it is the one that is open.
    fs::remove_file(&file).unwrap();
    fs::rename(&away, &file).unwrap();
    assert_eq!(customer(&plane, tenant, "kept").await.status, 201);
    until("readyz tells", async || plane.nobody().get("/readyz").await.status == 200).await;
}
