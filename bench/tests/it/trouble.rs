//! Errors at start give one line, with what to do about it, and exit code 1.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use imp_bench::stack::program;

/// The last line of a command's output.
fn last_line_of(command: &mut Command) -> Result<String> {
    let output = command.env("RUST_LOG", "off").env_remove("DATABASE_URL").output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert_eq!(said.trim().lines().count(), 1, "not one line:\n{said}");
    Ok(said)
}

fn control(data: &Path) -> Result<Command> {
    let mut command = Command::new(program("imp-control")?);
    command.args(["--agent-listen", "127.0.0.1:0"]).arg("--data-dir").arg(data);
    Ok(command)
}

#[test]
fn a_taken_port_is_named() -> Result<()> {
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?.to_string();
    let folder = tempfile::tempdir()?;
    let line = last_line_of(control(folder.path())?.args(["--listen", &address]))?;
    assert!(line.contains(&address), "{line}");

    let mut agent = Command::new(program("imp-agent")?);
    agent
        .args(["--admin-listen", &address])
        .args(["--control", "http://127.0.0.1:9"])
        .arg("--state-dir")
        .arg(folder.path())
        .env("IMP_REGISTRATION_TOKEN", "nonsense");
    let line = last_line_of(&mut agent)?;
    assert!(line.contains(&address), "{line}");
    Ok(())
}

#[test]
fn an_unreadable_database_is_named() -> Result<()> {
    let folder = tempfile::tempdir()?;
    std::fs::write(
        folder.path().join("imp.db"),
        "this is no database, and long enough".repeat(100),
    )?;
    let line = last_line_of(control(folder.path())?.args(["--listen", "127.0.0.1:0"]))?;
    assert!(line.contains("imp.db"), "{line}");

    let file = folder.path().join("a-file");
    std::fs::write(&file, "")?;
    let line = last_line_of(control(&file)?.args(["--listen", "127.0.0.1:0"]))?;
    assert!(line.contains("a-file"), "{line}");
    Ok(())
}

#[test]
fn the_demo_says_what_is_missing() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("no workspace")?;
    let python =
        Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output()?;
    let python = String::from_utf8(python.stdout)?;
    let folder = tempfile::tempdir()?;
    let mut demo = Command::new(python.trim());
    demo.arg(root.join("deploy/local/demo.py"))
        .arg("--check")
        .arg("--directory")
        .arg(folder.path());
    let line = last_line_of(demo.env("PATH", folder.path()))?;
    assert!(line.contains("cargo is missing"), "{line}");
    Ok(())
}
