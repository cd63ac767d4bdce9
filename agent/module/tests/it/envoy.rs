//! A real Envoy, an upstream that echoes, and calls as bytes.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The library that `cargo test` has built beside this program, or the one that `IMP_MODULE` names: for
/// an Envoy of another machine (`deploy/tools/arm.sh`).
pub(crate) fn library() -> PathBuf {
    if let Some(named) = std::env::var_os("IMP_MODULE") {
        return named.into();
    }
    let program = std::env::current_exe().unwrap();
    let path = program.parent().unwrap().join("libimp_module.so");
    assert!(path.exists(), "{} is not built", path.display());
    path
}

pub(crate) fn binary() -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/tools/envoy.sh");
    let output = Command::new(script).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A port below the kernel's range for outgoing connections, so that nothing takes it before Envoy
/// binds it; never the same one twice.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = (std::process::id() % 200) as u16 * 100;
    loop {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 12_000 + start.wrapping_add(step) % 20_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

pub(crate) struct Envoy {
    child: Child,
    directory: tempfile::TempDir,
    admin: u16,
}

impl Envoy {
    /// Starts one with this bootstrap, to which an admin port is added.
    pub(crate) fn spawn(bootstrap: &Value, arguments: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let admin = free_port();
        let mut bootstrap = bootstrap.clone();
        bootstrap["admin"] = serde_json::json!({"address": {"socket_address": {
            "address": "127.0.0.1", "port_value": admin}}});
        let file = directory.path().join("envoy.json");
        std::fs::write(&file, bootstrap.to_string()).unwrap();
        let log = std::fs::File::create(directory.path().join("envoy.log")).unwrap();
        let child = Command::new(binary())
            .arg("-c")
            .arg(&file)
            .args(["--use-dynamic-base-id", "--log-level", "warning"])
            .args(["--component-log-level", "dynamic_modules:info"])
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Self { child, directory, admin }
    }

    /// Starts one and waits until it serves.
    pub(crate) fn start(bootstrap: &Value, workers: u32) -> Self {
        let envoy = Self::spawn(bootstrap, &["--concurrency", &workers.to_string()]);
        let deadline = Instant::now() + PATIENCE;
        while !envoy.is_ready() {
            assert!(Instant::now() < deadline, "never ready: {}", envoy.log());
            pause();
        }
        envoy
    }

    pub(crate) fn is_ready(&self) -> bool {
        get(self.admin, "/ready").is_some_and(|answer| answer.status == 200)
    }

    /// The sum of the counters whose names match.
    pub(crate) fn counters(&self, filter: &str) -> u64 {
        let answer = get(self.admin, &format!("/stats?filter={filter}"));
        let answer = answer.unwrap_or_else(|| panic!("no admin: {}", self.log()));
        // Other lines are the lengths of chunks.
        let values = answer.body.lines().filter_map(|line| line.split_once(": "));
        values.map(|(_, value)| value.parse::<u64>().unwrap_or_else(|_| panic!("{value}"))).sum()
    }

    pub(crate) fn id(&self) -> String {
        self.child.id().to_string()
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Its exit code, if it ends by itself.
    pub(crate) fn ended(&mut self) -> Option<i32> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.child.try_wait().unwrap() {
                Some(status) => return status.code(),
                None if Instant::now() > deadline => panic!("it runs: {}", self.log()),
                None => pause(),
            }
        }
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("envoy.log")).unwrap_or_default()
    }
}

impl Drop for Envoy {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

pub(crate) fn pause() {
    std::thread::park_timeout(Duration::from_millis(10));
}

/// Polls until `done` returns a value.
pub(crate) fn eventually<T>(what: &str, mut done: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = done() {
            return value;
        }
        assert!(Instant::now() < deadline, "never: {what}");
        pause();
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// Sends these bytes; `None` if nothing answers.
pub(crate) fn raw(port: u16, request: &[u8]) -> Option<Answer> {
    Connection::open(port)?.ask(request)
}

/// One connection of a caller, for many calls.
pub(crate) struct Connection(TcpStream);

impl Connection {
    pub(crate) fn open(port: u16) -> Option<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Some(Self(stream))
    }

    /// `None` if the connection has ended.
    pub(crate) fn ask(&mut self, request: &[u8]) -> Option<Answer> {
        self.0.write_all(request).ok()?;
        let mut bytes = Vec::new();
        let mut buffer = [0; 8192];
        while let Ok(read @ 1..) = self.0.read(&mut buffer) {
            bytes.extend_from_slice(&buffer[..read]);
            if let Some(answer) = parse(&bytes) {
                return Some(answer);
            }
        }
        None
    }
}

pub(crate) fn parse(bytes: &[u8]) -> Option<Answer> {
    let text = String::from_utf8_lossy(bytes);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let lines = head.lines().skip(1).filter_map(|line| line.split_once(": "));
    let pair = |(name, value): (&str, &str)| (name.to_ascii_lowercase(), value.to_owned());
    let answer = Answer { status, headers: lines.map(pair).collect(), body: body.to_owned() };
    let length = answer.header("content-length").and_then(|length| length.parse().ok());
    (length.unwrap_or(0) == body.len()).then_some(answer)
}

pub(crate) fn get(port: u16, path: &str) -> Option<Answer> {
    let request = format!("GET {path} HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n\r\n");
    raw_to_end(port, request.as_bytes())
}

/// An upstream that answers with the head of the request.
pub(crate) fn upstream() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let _ = stream.set_nodelay(true);
            std::thread::spawn(move || {
                let (mut seen, mut buffer) = (Vec::new(), [0; 4096]);
                while let Ok(read @ 1..) = stream.read(&mut buffer) {
                    seen.extend_from_slice(&buffer[..read]);
                    if !seen.ends_with(b"\r\n\r\n") {
                        continue;
                    }
                    let head = format!(
                        "HTTP/1.1 200 OK\r\nratelimit: forged\r\ncontent-length: {}\r\n\r\n",
                        seen.len()
                    );
                    let is_head = seen.starts_with(b"HEAD ");
                    let answer = [head.as_bytes(), if is_head { b"" } else { &seen }].concat();
                    if stream.write_all(&answer).is_err() {
                        return;
                    }
                    seen.clear();
                }
            });
        }
    });
    port
}

/// Sends these bytes and reads until the other side closes.
pub(crate) fn raw_to_end(port: u16, request: &[u8]) -> Option<Answer> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request).ok()?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let lines = head.lines().skip(1).filter_map(|line| line.split_once(": "));
    let pair = |(name, value): (&str, &str)| (name.to_ascii_lowercase(), value.to_owned());
    Some(Answer { status, headers: lines.map(pair).collect(), body: body.to_owned() })
}
