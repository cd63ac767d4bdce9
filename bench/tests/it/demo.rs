//! `make demo`, as a newcomer runs it: every printed line works as printed, and nothing is left
//! behind.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use imp_bench::stack::program;

use crate::alone::alone;

/// Processes whose command line names this folder.
fn processes_of(folder: &Path) -> Vec<String> {
    let folder = folder.to_string_lossy().into_owned();
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(&folder))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_line_that_the_demo_prints_works_and_nothing_stays() -> Result<()> {
    let _turn = alone().await;
    let folder = tempfile::tempdir()?;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("no workspace")?;
    let binaries = program("imp-control")?.parent().context("no folder")?.to_owned();
    program("imp-agent")?;
    // A port in use must not make it fail. Either we take it now, or it was taken.
    let somebody = std::net::TcpListener::bind("127.0.0.1:8080");
    let output = tokio::process::Command::new("python3")
        .arg(root.join("deploy/local/demo.py"))
        .arg("--check")
        .arg("--directory")
        .arg(folder.path())
        .arg("--binaries")
        .arg(&binaries)
        .output()
        .await?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}\n{errors}");
    drop(somebody);
    assert!(said.contains("port 8080 is taken"), "{said}");
    for line in ["ok: with the key: 200", "ok: without it: 401", "404", "429", "/docs"] {
        assert!(said.contains(line), "no '{line}' in\n{said}");
    }
    // Cargo has built the module beside this test.
    program("libimp_module.so")?;
    assert!(said.contains("the module inside Envoy decides about calls"), "{said}");
    // A shell can source the file.
    let script = format!(". {}/env; env", folder.path().display());
    let sourced = Command::new("sh").args(["-c", &script]).env_clear().output()?;
    let environment = String::from_utf8_lossy(&sourced.stdout).into_owned();
    for name in [
        "IMP_URL=http://",
        "IMP_TOKEN=imp_pat_",
        "DEMO_ENVOY=http://",
        "DEMO_URL=http://",
        "DEMO_API_KEY=imp_key_",
    ] {
        assert!(environment.contains(name), "no {name} in\n{environment}");
    }
    assert_eq!(processes_of(folder.path()), Vec::<String>::new());
    Ok(())
}
