//! The tarball of a release: what is in it runs, and the images are made of it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context as _, Result, ensure};
use imp_bench::stack::program;

fn root() -> Result<&'static Path> {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("no workspace")
}

/// Packs programs and module. Returns the tarball.
async fn packed(binaries: &Path, module: &Path, output: &Path) -> Result<PathBuf> {
    let mut command = tokio::process::Command::new("python3");
    command.arg(root()?.join("deploy/tools/tarball.py")).arg("--level=1");
    command.arg("--binaries").arg(binaries).arg("--module").arg(module);
    let made = good(&command.arg("--output").arg(output).output().await?)?;
    Ok(PathBuf::from(made.trim()))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_files_are_the_same_tarball() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let [one, other] = ["one", "other"].map(|name| folder.path().join(name));
    for name in ["imp-agent", "imp-control", "module.so"] {
        std::fs::write(folder.path().join(name), format!("the bytes of {name}"))?;
    }
    let module = folder.path().join("module.so");
    let first = std::fs::read(packed(folder.path(), &module, &one).await?)?;
    // Later, and by others.
    for name in ["imp-control", "module.so", "imp-agent"] {
        std::fs::write(folder.path().join(name), format!("the bytes of {name}"))?;
    }
    let second = std::fs::read(packed(folder.path(), &module, &other).await?)?;
    ensure!(first == second, "the same files, other bytes");
    std::fs::write(&module, "others")?;
    let third = std::fs::read(packed(folder.path(), &module, &other).await?)?;
    ensure!(first != third, "other files, the same bytes");
    Ok(())
}

fn good(output: &Output) -> Result<String> {
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{errors}");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_the_tarball_runs_and_its_agent_finds_its_module() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let binaries = program("imp-control")?.parent().context("no folder")?.to_owned();
    program("imp-agent")?;
    let first = packed(&binaries, &program("libimp_module.so")?, folder.path()).await?;
    good(&Command::new("tar").arg("-xzf").arg(&first).arg("-C").arg(folder.path()).output()?)?;
    let name = first.file_name().and_then(|name| name.to_str()).context("no name")?;
    let unpacked = folder.path().join(name.strip_suffix(".tar.gz").context("no tarball")?);
    let agent = unpacked.join("bin/imp-agent");
    let said = good(&Command::new(&agent).arg("module").output()?)?;
    for line in ["path: ", "sha256: ", "abi: v", "release: ", "envoy: 1.40 ("] {
        assert!(said.contains(line), "no {line} in {said}");
    }
    let path = said.lines().find_map(|line| line.strip_prefix("path: ")).context("no path")?;
    assert_eq!(Path::new(path).parent(), agent.parent());
    for (program, words) in [("imp-control", "imp-control"), ("imp-agent", "imp-agent")] {
        let version =
            good(&Command::new(unpacked.join("bin").join(program)).arg("--version").output()?)?;
        assert!(version.starts_with(words), "{version}");
    }
    ensure!(unpacked.join("LICENSE").is_file() && unpacked.join("README.md").is_file());

    // Damaged, and missing: one line, and no success.
    let refused = || -> Result<String> {
        let output = Command::new(&agent).arg("module").output()?;
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(!output.status.success() && errors.lines().count() == 1, "{errors}");
        Ok(errors)
    };
    let module = Path::new(path);
    let mut content = std::fs::read(module)?;
    std::fs::remove_file(module)?;
    let missing = refused()?;
    assert!(missing.contains("--module names none"), "{missing}");
    content.push(0);
    std::fs::write(module, content)?;
    let damaged = refused()?;
    assert!(damaged.contains("has another content than its name says"), "{damaged}");
    Ok(())
}

#[test]
fn images_have_what_the_tarball_has_and_run_as_nobody() -> Result<()> {
    for program in ["agent", "control"] {
        let path = root()?.join(format!("deploy/images/Containerfile.{program}"));
        let text = std::fs::read_to_string(path)?;
        let of = |word: &str| text.lines().filter_map(|line| line.strip_prefix(word)).collect();
        let from: Vec<&str> = of("FROM ");
        assert_eq!(from, ["${BUILDER} AS unpacked", "${BASE}"], "an image that nobody has pinned");
        let user: Vec<&str> = of("USER ");
        assert_eq!(user, ["65532:65532"]);
        assert!(text.contains(&format!("/release/bin/imp-{program} ")), "{text}");
        assert!(text.ends_with(&format!("ENTRYPOINT [\"/usr/local/bin/imp-{program}\"]\n")));
    }
    let script = root()?.join("deploy/images/build.sh");
    let tarball = tempfile::NamedTempFile::new()?;
    let unpinned = Command::new(script).arg(tarball.path()).args(["base", "builder"]).output()?;
    let errors = String::from_utf8_lossy(&unpinned.stderr).into_owned();
    assert!(!unpinned.status.success() && errors.contains("not pinned"), "{errors}");
    Ok(())
}
