//! The feed: an agent of the tests, and a real Envoy that listens to it.

use std::io::BufReader;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use imp_module::feed::frame;
use imp_module::feed::message::{FromAgent, FromModule, Hello, Kind, Named, Said, Told, Update};
use serde_json::{Value, json};

use crate::bootstrap::{self, bootstrap as with};
use crate::envoy::{Connection, Envoy, eventually, free_port, library, pause, raw, upstream};
use crate::fixtures::{self as of, KEY};

struct Place {
    directory: tempfile::TempDir,
    port: u16,
    bootstrap: Value,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let state = json!({"snapshot": path("snapshot"), "feed": path("feed.sock"),
            "counters": path("counters")});
        let door = bootstrap::door(&library(), "door", &json!({"state": state}));
        let port = free_port();
        let listeners = [bootstrap::listener(port, door, &json!({}))];
        Self { bootstrap: with(&listeners, upstream(), 1), directory, port }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn status(&self, key: &str) -> u16 {
        raw(self.port, &request(key)).map_or(0, |answer| answer.status)
    }
}

fn request(key: &str) -> Vec<u8> {
    format!("GET /closed HTTP/1.1\r\nhost: a.test\r\nx-api-key: {key}\r\n\r\n").into_bytes()
}

/// The agent's end of one connection.
struct Link {
    reader: BufReader<UnixStream>,
    writer: UnixStream,
    hello: Hello,
}

impl Link {
    fn accept(listener: &UnixListener) -> Self {
        let (writer, _) = listener.accept().unwrap();
        writer.set_read_timeout(Some(crate::envoy::PATIENCE)).unwrap();
        let mut reader = BufReader::new(writer.try_clone().unwrap());
        let first: FromModule = frame::read(&mut reader).unwrap();
        let Some(Said::Hello(hello)) = first.said else { panic!("{first:?}") };
        assert_eq!(hello.protocol, imp_module::feed::message::PROTOCOL);
        Self { reader, writer, hello }
    }

    fn tell(&mut self, told: Told) {
        frame::write(&mut self.writer, &FromAgent::from(told)).unwrap();
    }

    /// The version that the module says it has applied; `None` if it has hung up.
    fn applied(&mut self) -> Option<u64> {
        let said: FromModule = frame::read(&mut self.reader).ok()?;
        let Some(Said::Applied(applied)) = said.said else { panic!("{said:?}") };
        Some(applied.version)
    }
}

fn change(since: u64, kind: Option<Kind>, gone: Option<Named>) -> Told {
    Told::Update(Update {
        since,
        put: kind.into_iter().map(Into::into).collect(),
        remove: gone.into_iter().map(Into::into).collect(),
        ..of::snapshot(since + 1, vec![])
    })
}

fn revoked(key: &str) -> Option<Named> {
    Some(Named::Credential(of::credential(key).id))
}

fn bind(path: &Path) -> UnixListener {
    let _gone = std::fs::remove_file(path);
    UnixListener::bind(path).unwrap()
}

#[test]
fn what_the_agent_says_is_decided_by_and_stays_when_it_is_gone() {
    let place = Place::new();
    let listener = bind(&place.path("feed.sock"));
    let envoy = Envoy::start(&place.bootstrap, 2);
    assert_eq!(place.status(KEY), 503, "nothing is known yet: {}", envoy.log());
    let mut link = Link::accept(&listener);
    assert_eq!((link.hello.history.as_str(), link.hello.version), ("", 0));
    link.tell(Told::Update(of::snapshot(5, of::everything(&[]))));
    assert_eq!(link.applied(), Some(5));
    assert_eq!(place.status(KEY), 200);
    // Each change takes effect before it is acknowledged, on every worker.
    for number in 0..10 {
        link.tell(change(5 + 2 * number, None, revoked(KEY)));
        assert_eq!(link.applied(), Some(6 + 2 * number));
        let statuses: Vec<_> = (0..4).map(|_| place.status(KEY)).collect();
        assert_eq!(statuses, [401; 4]);
        link.tell(change(6 + 2 * number, Some(Kind::Credential(of::credential(KEY))), None));
        assert_eq!(link.applied(), Some(7 + 2 * number));
        assert_eq!(place.status(KEY), 200);
    }
    // The agent is gone; decisions go on. When it is back, it hears what is held.
    drop((link, listener));
    assert_eq!((place.status(KEY), place.status("imp_unknown")), (200, 401));
    let listener = bind(&place.path("feed.sock"));
    let mut link = Link::accept(&listener);
    assert_eq!((link.hello.history.as_str(), link.hello.version), ("tests", 25));
    // A change for another version ends the connection, and nothing of it is applied.
    link.tell(change(30, None, revoked(KEY)));
    assert_eq!(link.applied(), None);
    assert_eq!(place.status(KEY), 200);
    let mut link = Link::accept(&listener);
    assert_eq!(link.hello.version, 25);
    // Garbage ends it, too.
    std::io::Write::write_all(&mut link.writer, &[0xff; 64]).unwrap();
    assert_eq!(link.applied(), None);
    let mut link = Link::accept(&listener);
    let without = of::everything(&[]).into_iter().filter(
        |item| !matches!(&item.kind, Some(Kind::Credential(of)) if of.subscription_id == KEY),
    );
    link.tell(Told::Update(of::snapshot(40, without.collect())));
    assert_eq!(link.applied(), Some(40));
    assert_eq!(place.status(KEY), 401);
}

#[test]
fn an_envoy_without_an_agent_serves_at_once_from_the_file() {
    let place = Place::new();
    of::write_snapshot(&place.path("snapshot"), of::everything(&[]));
    let mut envoy = Envoy::spawn(&place.bootstrap, &["--concurrency", "2"]);
    // The first answer of the port is a decision.
    let first = eventually("an answer", || Connection::open(place.port)?.ask(&request(KEY)));
    assert_eq!(first.status, 200, "{}", envoy.log());
    let listener = bind(&place.path("feed.sock"));
    let mut link = Link::accept(&listener);
    assert_eq!((link.hello.history.as_str(), link.hello.version), ("tests", 1));
    link.tell(change(1, None, revoked(KEY)));
    assert_eq!(link.applied(), Some(2));
    assert_eq!(place.status(KEY), 401);
    // It ends as told, with the thread in the middle of a read.
    assert!(std::process::Command::new("kill").arg(envoy.id()).status().unwrap().success());
    assert_eq!(envoy.ended(), Some(0));
}

#[test]
fn a_revoked_key_is_refused_within_milliseconds() {
    let place = Place::new();
    let listener = bind(&place.path("feed.sock"));
    let _envoy = Envoy::start(&place.bootstrap, 1);
    let mut link = Link::accept(&listener);
    link.tell(Told::Update(of::snapshot(1, of::everything(&[]))));
    assert_eq!(link.applied(), Some(1));
    let mut connection = Connection::open(place.port).unwrap();
    let mut status = || connection.ask(&request(KEY)).unwrap().status;
    let mut times = Vec::new();
    for number in 0..50 {
        assert_eq!(status(), 200);
        let begun = Instant::now();
        link.tell(change(1 + 2 * number, None, revoked(KEY)));
        while status() != 401 {}
        times.push(begun.elapsed());
        assert_eq!(link.applied(), Some(2 + 2 * number));
        link.tell(change(2 + 2 * number, Some(Kind::Credential(of::credential(KEY))), None));
        assert_eq!(link.applied(), Some(3 + 2 * number));
    }
    times.sort();
    let median = times[times.len() / 2];
    println!("revoke to 401: median {median:?}, slowest {:?}", times[times.len() - 1]);
    // A build for tests, on a machine that does other things meanwhile.
    assert!(median < Duration::from_millis(50), "{median:?}");
}

#[test]
fn an_envoy_that_only_checks_its_configuration_starts_nothing() {
    let place = Place::new();
    of::write_snapshot(&place.path("snapshot"), of::everything(&[]));
    let listener = bind(&place.path("feed.sock"));
    listener.set_nonblocking(true).unwrap();
    let mut envoy = Envoy::spawn(&place.bootstrap, &["--mode", "validate"]);
    assert_eq!(envoy.ended(), Some(0), "{}", envoy.log());
    pause();
    assert!(listener.accept().is_err(), "it has connected");
    assert!(!place.path("counters").exists(), "it has a file of counters");
}
