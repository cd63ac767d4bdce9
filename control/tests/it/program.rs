//! The program itself: first start, and a one-line error when it cannot start.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use tempfile::TempDir;

fn program(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_imp-control"));
    command.env_remove("DATABASE_URL").arg("--data-dir").arg(dir);
    command.args(["--listen", "127.0.0.1:0", "--agent-listen", "127.0.0.1:0"]);
    command
}

fn fails(command: &mut Command) -> String {
    let Output { status, stderr, stdout } = command.output().unwrap();
    assert_eq!(status.code(), Some(1), "{}", String::from_utf8_lossy(&stderr));
    assert!(stdout.is_empty());
    let text = String::from_utf8(stderr).unwrap();
    let words: Vec<&str> = text.lines().filter(|line| line.starts_with("imp-control:")).collect();
    assert_eq!(words.len(), 1, "{text}");
    words[0].to_owned()
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts it and reads its output up to the line with its addresses.
fn output(command: &mut Command) -> (Running, Vec<String>) {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let stdout = child.stdout.take().unwrap();
    let running = Running(child);
    let mut lines = Vec::new();
    for line in BufReader::new(stdout).lines() {
        let line = line.unwrap();
        let done = line.starts_with("REST ");
        lines.push(line);
        if done {
            return (running, lines);
        }
    }
    panic!("ended: {lines:?}");
}

#[test]
fn the_first_start_prints_a_token_once() {
    let dir = TempDir::new().unwrap();
    let (first, lines) = output(&mut program(dir.path()));
    assert_eq!(lines.iter().filter(|line| line.starts_with("imp_pat_")).count(), 1, "{lines:?}");
    drop(first);
    let (_second, lines) = output(&mut program(dir.path()));
    assert!(!lines.iter().any(|line| line.contains("imp_pat_")), "{lines:?}");
}

#[test]
fn the_token_goes_to_a_private_file_instead_when_told() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("token");
    let (_running, lines) = output(program(dir.path()).arg("--bootstrap-token-file").arg(&file));
    assert!(!lines.iter().any(|line| line.contains("imp_pat_")), "{lines:?}");
    assert!(std::fs::read_to_string(&file).unwrap().starts_with("imp_pat_"));
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn an_existing_file_of_another_mode_never_holds_the_token_in_that_mode() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, "").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let _running = output(program(dir.path()).arg("--bootstrap-token-file").arg(&file));
    assert!(std::fs::read_to_string(&file).unwrap().starts_with("imp_pat_"));
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
}

/// A token that is in the database but unknown to anyone would lock everybody out.
#[test]
fn a_token_that_cannot_be_written_down_is_not_made() {
    let dir = TempDir::new().unwrap();
    let nowhere = dir.path().join("no/such/folder/token");
    let line = fails(program(dir.path()).arg("--bootstrap-token-file").arg(&nowhere));
    assert!(line.contains("cannot write the bootstrap token"), "{line}");
    let (_running, lines) = output(&mut program(dir.path()));
    assert!(lines.iter().any(|line| line.starts_with("imp_pat_")), "{lines:?}");
}

#[tokio::test]
async fn who_lost_every_token_makes_another_one_at_the_machine() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = TempDir::new().unwrap();
    let command = |arguments: &[&std::ffi::OsStr]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_imp-control"));
        command.env_remove("DATABASE_URL").args(["admin-token", "--data-dir"]).arg(dir.path());
        command.args(arguments);
        command
    };
    let line = fails(&mut command(&[]));
    assert!(line.contains("there is none"), "{line}");
    assert!(!dir.path().join("imp.db").exists(), "nothing was made by mistake");
    let (_running, lines) = output(&mut program(dir.path()));
    let first = lines.iter().find(|line| line.starts_with("imp_pat_")).unwrap().clone();
    let done = command(&[]).output().unwrap();
    let another = String::from_utf8(done.stdout).unwrap().trim().to_owned();
    assert!(done.status.success() && another.starts_with("imp_pat_") && another != first);
    let file = dir.path().join("another");
    let done = command(&["--token-file".as_ref(), file.as_ref()]).output().unwrap();
    let shown = String::from_utf8(done.stdout).unwrap();
    assert!(done.status.success() && !shown.contains("imp_pat_"), "{shown}");
    assert!(std::fs::read_to_string(&file).unwrap().starts_with("imp_pat_"));
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    // Both authenticate at the running control plane.
    let rest = lines.last().unwrap().split([' ', ',']).nth(1).unwrap().to_owned();
    let _ = rustls::crypto::ring::default_provider().install_default();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    for token in [another, std::fs::read_to_string(&file).unwrap().trim().to_owned()] {
        let me = http.get(format!("{rest}/v1/me")).bearer_auth(token).send().await.unwrap();
        assert_eq!(me.status(), 200);
    }
}

#[test]
fn a_taken_port_is_one_clear_line() {
    let dir = TempDir::new().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for flag in ["--listen", "--agent-listen"] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_imp-control"));
        command.env_remove("DATABASE_URL").arg("--data-dir").arg(dir.path());
        let other = if flag == "--listen" { "--agent-listen" } else { "--listen" };
        let line = fails(command.args([flag, &address, other, "127.0.0.1:0"]));
        assert!(line.contains(&address) && line.contains(flag), "{line}");
    }
}

#[test]
fn an_unreadable_database_is_one_clear_line() {
    let dir = TempDir::new().unwrap();
    std::fs::write(dir.path().join("imp.db"), "this is no database, however long one reads it")
        .unwrap();
    let line = fails(&mut program(dir.path()));
    assert!(line.contains("cannot open the database"), "{line}");
    let line = fails(
        program(dir.path()).args(["--database-url", "postgres://imp:hunter2@127.0.0.1:1/imp"]),
    );
    assert!(line.contains("cannot open the database") && !line.contains("hunter2"), "{line}");
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let line = fails(&mut program(&file));
    assert!(line.contains("--data-dir"), "{line}");
}

/// Each error names the file, what it must contain and what was found, without its content.
#[test]
fn a_file_that_cannot_be_used_is_one_line_that_says_what_it_must_hold() {
    let dir = TempDir::new().unwrap();
    let data = dir.path().join("data");
    let secret = "hunter2-hunter2";
    let file = |name: &str, content: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    };
    let told = |line: &str, path: &Path, words: &[&str]| {
        let path = path.display().to_string();
        let all = words.iter().copied().chain([&*path]);
        all.for_each(|word| assert!(line.contains(word), "{word} is not in: {line}"));
        assert!(!line.contains("hunter2"), "{line}");
    };
    for (content, found) in [
        (&b"\xff\xfe\x00"[..], "3 bytes that are not text"),
        (b"", "it is empty"),
        (secret.as_bytes(), "15 characters of other text"),
        (&[b'z'; 64], "64 characters of other text"),
    ] {
        let key = file("key", content);
        let line = fails(program(&data).arg("--agent-key-file").arg(&key));
        told(&line, &key, &["--agent-key-file", "64 hexadecimal digits", found]);
    }
    let line = fails(program(&data).arg("--agent-key-file").arg(dir.path()));
    told(&line, dir.path(), &["64 hexadecimal digits", "it is a directory"]);

    let made = |name: &str| {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let cert = file(&format!("{name}.pem"), made.cert.pem().as_bytes());
        (cert, file(&format!("{name}.key"), made.signing_key.serialize_pem().as_bytes()))
    };
    let ((cert, key), (_, other)) = (made("one"), made("other"));
    let tls = |cert: &Path, key: &Path| {
        fails(program(&data).arg("--tls-cert").arg(cert).arg("--tls-key").arg(key))
    };
    let text = file("text", secret.as_bytes());
    let (certificates, private) = ("must hold certificates in PEM", "must hold the private key");
    told(&tls(&text, &key), &text, &["--tls-cert", certificates, "15 characters of other text"]);
    told(&tls(&cert, &text), &text, &["--tls-key", private, "15 characters of other text"]);
    told(&tls(&cert, &other), &other, &[private, "of another one than"]);
    let missing = dir.path().join("missing");
    told(&tls(&cert, &missing), &missing, &[private, "there is no such file"]);

    let another = dir.path().join("another");
    std::fs::create_dir(&another).unwrap();
    let database = another.join("imp.db");
    std::fs::write(&database, format!("{secret} {secret} {secret}")).unwrap();
    told(&fails(&mut program(&another)), &database, &["must hold an SQLite database"]);
}

#[test]
fn a_bad_flag_is_refused() {
    let dir = TempDir::new().unwrap();
    let line = fails(program(dir.path()).args(["--allow-upstream", "not a host"]));
    assert!(line.contains("--allow-upstream"), "{line}");
    let unknown = program(dir.path()).arg("--colour").output().unwrap();
    assert_eq!(unknown.status.code(), Some(2));
}

#[test]
fn the_document_and_the_version_are_printed() {
    let run = |arg: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_imp-control")).arg(arg).output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    let document: serde_json::Value = serde_json::from_str(&run("openapi")).unwrap();
    assert_eq!(document["openapi"], "3.1.0");
    assert!(run("--version").starts_with("imp-control "));
}

#[test]
fn without_tls_only_this_machine_is_listened_to_unless_one_insists() {
    let dir = TempDir::new().unwrap();
    for (flag, other) in [("--listen", "--agent-listen"), ("--agent-listen", "--listen")] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_imp-control"));
        command.env_remove("DATABASE_URL").arg("--data-dir").arg(dir.path());
        let line = fails(command.args([flag, "0.0.0.0:0", other, "127.0.0.1:0"]));
        assert!(line.contains(flag) && line.contains("--insecure"), "{line}");
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_imp-control"));
    command.env_remove("DATABASE_URL").arg("--data-dir").arg(dir.path());
    command.args(["--listen", "0.0.0.0:0", "--agent-listen", "127.0.0.1:0", "--insecure"]);
    let (_running, lines) = output(&mut command);
    assert!(lines.iter().any(|line| line.starts_with("REST http://0.0.0.0:")), "{lines:?}");
    let line = fails(program(dir.path()).args(["--tls-cert", "/nowhere", "--tls-key", "/nowhere"]));
    assert!(line.contains("/nowhere") && line.contains("--tls-cert"), "{line}");
}
