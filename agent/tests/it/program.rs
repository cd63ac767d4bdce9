//! Tests of the program: its output, and how it ends.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Instant;

use imp_agent::port::Address;

use crate::control::{Control, TOKEN};
use crate::fake_envoy::FakeEnvoy;
use crate::rig::{PATIENCE, active, control_with, eventually, reported};

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_imp-agent"));
    command.env_clear().env("RUST_LOG", "off");
    command
}

fn anywhere() -> Command {
    let mut command = program();
    command.args(["--admin-listen", "127.0.0.1:0"]);
    command
}

fn last_line(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert_eq!(said.trim().lines().count(), 1, "not one line:\n{said}");
    said
}

async fn run(mut command: Command) -> Output {
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_work_is_one_line_and_exit_code_1() {
    let control = Control::start().await;
    let state = tempfile::tempdir().unwrap();
    let mut command = anywhere();
    command.args(["--control", &control.url(), "--state-dir"]).arg(state.path());
    command.env("IMP_REGISTRATION_TOKEN", "imp_reg_secret_and_wrong");
    let line = last_line(&run(command).await);
    assert!(line.contains("registration token") && !line.contains("imp_reg_secret"), "{line}");

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut command = program();
    command.args(["--admin-listen", &address, "--state-dir"]).arg(state.path());
    let line = last_line(&run(command).await);
    assert!(line.contains(&address) && line.contains("--admin-listen"), "{line}");

    let socket = state.path().join("taken.sock");
    let _taken = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let at_socket = |path: &str| {
        let mut command = anywhere();
        command.args(["--xds-listen", path, "--state-dir"]).arg(state.path());
        command
    };
    let line = last_line(&run(at_socket(&format!("unix:{}", socket.display()))).await);
    assert!(line.contains("taken.sock") && line.contains("--xds-listen"), "{line}");
    let line = last_line(&run(at_socket(&format!("unix:/{}", "x".repeat(200)))).await);
    assert!(line.contains("too long") && line.contains("--xds-listen"), "{line}");
    let mut others = anywhere();
    others.args(["--envoy-uid", "4711", "--state-dir"]).arg(state.path());
    let line = last_line(&run(others).await);
    assert!(line.contains("--envoy-uid") && line.contains("--xds-listen"), "{line}");

    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"not a directory").unwrap();
    let mut command = anywhere();
    command.arg("--state-dir").arg(file.path());
    let line = last_line(&run(command).await);
    assert!(line.contains("--state-dir"), "{line}");

    std::fs::write(state.path().join("identity.json"), "{").unwrap();
    let mut command = anywhere();
    command.arg("--state-dir").arg(state.path());
    let line = last_line(&run(command).await);
    assert!(line.contains("identity.json"), "{line}");
}

/// Each error names the file, what it must contain and what was found, without its content.
#[tokio::test]
async fn a_file_that_cannot_be_used_is_one_line_that_says_what_it_must_hold() {
    let state = tempfile::tempdir().unwrap();
    let secret = "hunter2-hunter2";
    let of_state = |arguments: &[&str]| {
        let mut command = anywhere();
        command.args(arguments).arg("--state-dir").arg(state.path());
        command
    };
    let told = |line: &str, path: &Path, words: &[&str]| {
        let path = path.display().to_string();
        let all = words.iter().copied().chain([&*path]);
        all.for_each(|word| assert!(line.contains(word), "{word} is not in: {line}"));
        assert!(!line.contains("hunter2"), "{line}");
    };
    let authority = state.path().join("ca.pem");
    let path = authority.display().to_string();
    let with_authority = || of_state(&["--control", "https://127.0.0.1:9", "--control-ca", &path]);
    let must_hold = "must hold the certificate authority of the control plane in PEM";
    let line = last_line(&run(with_authority()).await);
    told(&line, &authority, &["--control-ca", must_hold, "there is no such file"]);
    for (content, found) in [
        (&b"\xff\xfe\x00"[..], "3 bytes that are not text"),
        (secret.as_bytes(), "15 characters of other text"),
    ] {
        std::fs::write(&authority, content).unwrap();
        let line = last_line(&run(with_authority()).await);
        told(&line, &authority, &["--control-ca", must_hold, found]);
    }

    let key = state.path().join("nodes-ca.key");
    for (content, found) in [
        (&b"\xff\xfe\x00"[..], "3 bytes that are not text"),
        (secret.as_bytes(), "15 characters of other text"),
    ] {
        std::fs::write(&key, content).unwrap();
        let line = last_line(&run(of_state(&["--xds-listen", "127.0.0.1:0"])).await);
        told(&line, &key, &["must hold a private key in PEM", found]);
    }

    let identity = state.path().join("identity.json");
    for (content, found) in [
        (&b"\xff\xfe\x00"[..], "3 bytes that are not text"),
        (b"", "it is empty"),
        (secret.as_bytes(), "15 characters of other text"),
        (br#"{"jwt": ["hunter2"]}"#, "a field that is missing or not as it should be"),
        (br#"{"jwt": "hunter2"#, "it ends too early"),
    ] {
        std::fs::write(&identity, content).unwrap();
        let line = last_line(&run(of_state(&[])).await);
        told(&line, &identity, &["must hold the identity", found, "--registration-token"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_loses_nothing_that_was_acknowledged_and_a_signal_ends_it_cleanly() {
    let control = control_with(3).await;
    let state = tempfile::tempdir().unwrap();
    let xds = &Address::Unix(state.path().join("xds.sock"));
    let start = |control: &str, token: &str| {
        let mut command = program();
        command.args(["--admin-listen", "127.0.0.1:0"]);
        command.args(["--control", control, "--state-dir"]).arg(state.path());
        command.env("IMP_REGISTRATION_TOKEN", token);
        command.stdout(Stdio::null()).stderr(Stdio::inherit()).spawn().unwrap()
    };
    let mut first = start(&control.url(), TOKEN);
    let envoy = FakeEnvoy::start(xds, "e1");
    for number in 0..3 {
        reported(&control, number, "is active", active(1, 1)).await;
    }
    // Written in the background, some milliseconds later.
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    first.kill().unwrap();
    first.wait().unwrap();

    let mut second = start("http://127.0.0.1:9", "");
    let fresh = FakeEnvoy::start(xds, "e2");
    eventually("a fresh Envoy has all of it", || (fresh.held() == envoy.held()).then_some(()))
        .await;
    let pid = second.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let asked = Instant::now();
    let code = eventually("an end", || second.try_wait().unwrap()).await;
    assert!(code.success() && asked.elapsed() < PATIENCE / 2, "{code}");
}

#[tokio::test]
async fn the_bootstrap_is_printed_and_refuses_an_admin_interface_in_the_open() {
    let mut command = program();
    command.args(["bootstrap", "--xds-listen", "unix:/run/imp/xds.sock", "--node-id", "e1"]);
    let output = run(command).await;
    let yaml = String::from_utf8(output.stdout).unwrap();
    for part in [
        "name: agent",
        r#"{pipe: {path: "/run/imp/xds.sock"}}"#,
        "set_node_on_first_message_only: true",
    ] {
        assert!(yaml.contains(part), "{part}: {yaml}");
    }
    let mut command = program();
    command.args(["bootstrap", "--envoy-admin", "0.0.0.0:19901"]);
    let said = String::from_utf8(run(command).await.stderr).unwrap();
    assert!(said.contains("loopback") && said.contains("--envoy-admin"), "{said}");
}

/// One that was revoked by mistake: a valid token registers it again (`disk.rs`), and an invalid
/// one is reported.
#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_agent_whose_new_token_is_refused_says_once_what_to_do() {
    for publishes in [1, 0] {
        let control = if publishes > 0 { control_with(1).await } else { Control::start().await };
        let state = tempfile::tempdir().unwrap();
        let with = |token: &str| {
            let mut command = anywhere();
            command.env("RUST_LOG", "error").env("IMP_REGISTRATION_TOKEN", token);
            command.args(["--control", &control.url(), "--state-dir"]).arg(state.path());
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
            command
        };
        let mut first = with(TOKEN).spawn().unwrap();
        eventually("registered", || state.path().join("identity.json").exists().then_some(()))
            .await;
        if publishes > 0 {
            eventually("reported", || control.state.status(&crate::fixtures::id(1, 0))).await;
            tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        }
        first.kill().unwrap();
        first.wait().unwrap();
        if publishes == 0 {
            // Nothing is left to serve.
            std::fs::remove_file(state.path().join("lkg.redb")).unwrap();
        }
        control.state.with(|shared| shared.revoked = true);
        let mut again = with("imp_reg_wrong").spawn().unwrap();
        let deadline = Instant::now() + std::time::Duration::from_secs(4);
        let mut ended = None;
        while ended.is_none() && Instant::now() < deadline {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            ended = again.try_wait().unwrap();
        }
        assert_eq!(ended.is_none(), publishes > 0, "it ends when it has nothing to serve");
        again.kill().unwrap();
        let output = again.wait_with_output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        let times = |words: &str| said.lines().filter(|line| line.contains(words)).count();
        assert_eq!(times("no longer takes this agent"), 1, "{said}");
        assert_eq!(times("refused the registration token"), 1, "{said}");
        assert_eq!(times("/registration-tokens"), 1, "{said}");
        assert!(!said.contains("imp_reg_wrong"), "{said}");
    }
}
