//! Large bodies of refused calls, from callers that write everything before they read.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::agent;
use crate::bootstrap::{self, bootstrap as with};
use crate::envoy::{Answer, Envoy, PATIENCE, free_port, library};
use crate::fixtures::{self as of, KEY};

/// More than the kernel keeps for two sockets, and less than is waited for.
const LARGE: usize = 15 << 20;

/// An Envoy with the module's door, and with the agent's, and what its upstream has read.
struct Place {
    envoy: Envoy,
    module: u16,
    ext_authz: u16,
    /// The module's, with a limit of size behind it.
    limited: u16,
    /// The module's, with leave to send a body from the upstream.
    asking: u16,
    _agent: agent::Agent,
    upstream: Arc<AtomicU64>,
    _directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("snapshot");
        of::write_snapshot(&file, of::everything(&[]));
        let [module, ext_authz, limited, asking] = [(); 4].map(|()| free_port());
        let config = json!({"state": {"snapshot": file}, "gateway": "gateway"});
        // As the product's listener: Envoy itself gives leave to send a body.
        let manager = json!({"upgrade_configs": [{"upgrade_type": "websocket"}]});
        let door = bootstrap::door(&library(), "door", &config);
        let mut with_limit = manager.clone();
        with_limit["http_filters"] = json!([door, bootstrap::buffer(), bootstrap::router()]);
        let listeners = [
            bootstrap::listener(module, door.clone(), &manager),
            bootstrap::listener(asking, door, &json!({"proxy_100_continue": true})),
            bootstrap::listener(limited, json!({}), &with_limit),
            bootstrap::listener(ext_authz, bootstrap::ext_authz(), &manager),
        ];
        let (upstream_port, upstream) = counting_upstream();
        let agent = agent::start(of::engine(), "gateway");
        let envoy = Envoy::start(&with(&listeners, upstream_port, agent.port), 1);
        Self {
            envoy,
            module,
            ext_authz,
            limited,
            asking,
            _agent: agent,
            upstream,
            _directory: directory,
        }
    }
}

/// Answers each body with 200 when it has ended.
fn counting_upstream() -> (u16, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let count = Arc::new(AtomicU64::new(0));
    let counted = count.clone();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let counted = counted.clone();
            std::thread::spawn(move || {
                let mut buffer = [0; 65_536];
                while let Ok(read @ 1..) = stream.read(&mut buffer) {
                    counted.fetch_add(read as u64, Ordering::Relaxed);
                    if buffer[..read].ends_with(b"END!") {
                        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
                    }
                }
            });
        }
    });
    (port, count)
}

fn head(method: &str, path: &str, headers: &[&str]) -> Vec<u8> {
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: a.test\r\n");
    headers.iter().for_each(|header| head.push_str(&format!("{header}\r\n")));
    format!("{head}\r\n").into_bytes()
}

/// A caller's connection.
struct Caller(TcpStream);

impl Caller {
    fn connect(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self(stream)
    }

    /// Writes all of it, and then reads.
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.0.write_all(bytes)
    }

    /// Reads one answer.
    fn read(&mut self) -> std::io::Result<Answer> {
        let (mut bytes, mut buffer) = (Vec::new(), [0; 8192]);
        loop {
            let read = match self.0.read(&mut buffer)? {
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                read => read,
            };
            bytes.extend_from_slice(&buffer[..read]);
            if let Some(answer) = crate::envoy::parse(&bytes) {
                return Ok(answer);
            }
        }
    }

    /// A whole upload.
    fn upload(&mut self, path: &str, headers: &[&str], body: &[u8]) -> std::io::Result<Answer> {
        self.write(&head("POST", path, headers))?;
        self.write(body)?;
        self.read()
    }
}

fn code(answer: &Answer) -> String {
    if let Some(status) = answer.header("grpc-status") {
        return format!("grpc {status}");
    }
    let body: Value = serde_json::from_str(&answer.body).unwrap_or_default();
    format!("{} {}", answer.status, body["code"].as_str().unwrap_or("none"))
}

fn chunked(bytes: usize) -> Vec<u8> {
    let chunk = [format!("{:x}\r\n", 32_768).as_bytes(), &[b'a'; 32_768], b"\r\n"].concat();
    [chunk.repeat(bytes / 32_768), b"0\r\n\r\n".to_vec()].concat()
}

#[test]
fn a_refused_upload_is_answered_when_it_has_ended_and_goes_nowhere() {
    let place = Place::new();
    let length = format!("content-length: {LARGE}");
    let whole = vec![b'a'; LARGE];
    let (plain, no_key) = (&[&*length][..], "401 unauthenticated");
    let in_chunks: &[&str] = &["transfer-encoding: chunked"];
    let limits: &[&str] = &[&length, "x-imp-host: !421"];
    let wrong: &[&str] = &[&length, "x-api-key: imp_unknown"];
    let grpc: &[&str] = &[&length, "content-type: application/grpc"];
    for (path, headers, body, expected) in [
        ("/closed", plain, &whole, no_key),
        ("/closed", in_chunks, &chunked(LARGE), no_key),
        ("/closed", wrong, &whole, no_key),
        ("/closed", grpc, &whole, "grpc 16"),
        ("/nothing", plain, &whole, "403 unknown_publish"),
        ("/none", plain, &whole, "404 no_route"),
        ("/none", in_chunks, &chunked(LARGE), "404 no_route"),
        // Envoy's own answer.
        ("/none", limits, &whole, "404 no_route"),
    ] {
        let mut caller = Caller::connect(place.module);
        let answer = caller.upload(path, headers, body);
        let answer = answer.unwrap_or_else(|error| panic!("{path} {headers:?}: {error}"));
        assert_eq!(code(&answer), expected, "{path} {headers:?}");
        assert_eq!(place.upstream.load(Ordering::Relaxed), 0, "{path} {headers:?}");
        // The connection goes on, and the next call is decided by itself.
        let answer = caller.upload("/closed", &["content-length: 4"], b"body").unwrap();
        assert_eq!(code(&answer), no_key);
    }
    let mut caller = Caller::connect(place.module);
    let with_key = of_key(KEY);
    let body = [&whole[4..], b"END!"].concat();
    assert_eq!(caller.upload("/closed", &[&length, &with_key], &body).unwrap().status, 200);
    assert!(place.upstream.load(Ordering::Relaxed) > LARGE as u64);
    assert_eq!(place.envoy.counters("downstream_cx_delayed_close_timeout$"), 0);
}

#[test]
fn who_reads_before_the_end_is_answered_at_once() {
    let place = Place::new();
    let length = format!("content-length: {LARGE}");
    let asks = "expect: 100-continue";
    for (port, headers) in [
        (place.asking, &[asks, &*length][..]),
        (place.asking, &[asks, "transfer-encoding: chunked"]),
        (place.module, &["content-length: 16777217"]),
        (place.module, &["content-length: 99999999999999999"]),
        (place.module, &["connection: upgrade", "upgrade: websocket"]),
    ] {
        let mut caller = Caller::connect(port);
        caller.write(&head("POST", "/closed", headers)).unwrap();
        // Not even leave to go on comes before it.
        assert_eq!(code(&caller.read().unwrap()), "401 unauthenticated", "{headers:?}");
    }
    // A body that does not say its length, and is longer: the caller reads meanwhile.
    let mut caller = Caller::connect(place.module);
    let mut reader = Caller(caller.0.try_clone().unwrap());
    let writer = std::thread::spawn(move || {
        let headers = head("POST", "/closed", &["transfer-encoding: chunked"]);
        // Ends with an error: Envoy closes the connection.
        let _cut = caller.write(&headers).and_then(|()| caller.write(&chunked(64 << 20)));
    });
    assert_eq!(code(&reader.read().unwrap()), "401 unauthenticated");
    writer.join().unwrap();
    assert_eq!(place.upstream.load(Ordering::Relaxed), 0);
}

/// Envoy gives it before any filter sees the call. So the caller sends its body, and is answered then.
#[test]
fn leave_to_send_is_no_decision() {
    let place = Place::new();
    let mut caller = Caller::connect(place.module);
    let length = format!("content-length: {LARGE}");
    caller.write(&head("POST", "/closed", &["expect: 100-continue", &length])).unwrap();
    assert_eq!(caller.read().unwrap().status, 100);
    caller.write(&vec![b'a'; LARGE]).unwrap();
    assert_eq!(code(&caller.read().unwrap()), "401 unauthenticated");
}

#[test]
fn a_caller_that_sends_slowly_is_answered_after_ten_seconds() {
    let place = Place::new();
    let mut caller = Caller::connect(place.module);
    caller.write(&head("POST", "/closed", &["content-length: 1000"])).unwrap();
    let (begun, mut reader) = (Instant::now(), Caller(caller.0.try_clone().unwrap()));
    let writer = std::thread::spawn(move || {
        while begun.elapsed() < PATIENCE && caller.write(b"a").is_ok() {
            std::thread::park_timeout(Duration::from_millis(200));
        }
    });
    assert_eq!(code(&reader.read().unwrap()), "401 unauthenticated");
    let waited = begun.elapsed();
    assert!((Duration::from_secs(9)..Duration::from_secs(30)).contains(&waited), "{waited:?}");
    drop(place);
    writer.join().unwrap();
}

/// A request over HTTP/2 whose body has not ended.
fn http2(path: &str) -> Vec<u8> {
    let frame = |kind: u8, flags: u8, stream: u8, payload: &[u8]| {
        [&[0, 0, payload.len() as u8, kind, flags, 0, 0, 0, stream], payload].concat()
    };
    // Literals without compression.
    let field = |(name, value): (&str, &str)| {
        let text = |text: &str| [&[text.len() as u8], text.as_bytes()].concat();
        [vec![0], text(name), text(value)].concat()
    };
    let fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", "a.test"),
        (":path", path),
        ("content-length", "5242880"),
    ];
    let fields: Vec<u8> = fields.into_iter().flat_map(field).collect();
    let (settings, headers) = (frame(4, 0, 0, &[]), frame(1, 4, 1, &fields));
    [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), settings, headers].concat()
}

#[test]
fn over_http2_an_answer_does_not_wait() {
    let place = Place::new();
    let mut caller = Caller::connect(place.module);
    caller.write(&http2("/closed")).unwrap();
    let (mut seen, mut buffer) = (Vec::new(), [0; 8192]);
    let begun = Instant::now();
    // The frame with the problem document.
    while !seen.windows(15).any(|it| it == b"unauthenticated") {
        let read = caller.0.read(&mut buffer).unwrap();
        assert_ne!(read, 0, "{}", place.envoy.log());
        seen.extend_from_slice(&buffer[..read]);
    }
    assert!(begun.elapsed() < Duration::from_secs(5));
}

/// What Envoy answers by itself, and all that it answers for the agent, cuts off who does not read:
/// it reads no more, and closes the connection a second later.
#[test]
fn what_envoy_answers_by_itself_cuts_the_caller_off() {
    let place = Place::new();
    let body = vec![b'a'; 32 << 20];
    let (length, with_key) = (format!("content-length: {}", body.len()), of_key(KEY));
    for (port, path, headers, status) in [
        (place.ext_authz, "/closed", &[&*length][..], 401),
        (place.ext_authz, "/none", &[&*length], 404),
        // A route that answers by itself, and a limit of size.
        (place.module, "/direct", &[&*length, &*with_key], 418),
        (place.limited, "/closed", &[&*length, &*with_key], 413),
    ] {
        let mut caller = Caller::connect(port);
        let mut reader = Caller(caller.0.try_clone().unwrap());
        let reads = std::thread::spawn(move || reader.read());
        let written = caller.write(&head("POST", path, headers)).and_then(|()| caller.write(&body));
        assert!(written.is_err(), "{path}");
        // Who reads meanwhile sees it.
        assert_eq!(reads.join().unwrap().unwrap().status, status, "{path}");
    }
}

fn of_key(key: &str) -> String {
    format!("x-api-key: {key}")
}
