//! What the agents' port stores for unauthenticated callers, and for how long.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Body, Frame};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use imp_control::listen::Limits;
use imp_grammar::caps;
use imp_proto::agent as pb;
use imp_proto::agent::agent_service_client::AgentServiceClient;
use imp_proto::method;
use prost::Message as _;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tonic::{Code, Status};

use crate::agent::{Agent, Credential, channel, with};
use crate::control_plane::ControlPlane;

const PATIENCE: Duration = Duration::from_secs(60);

/// An endless body that counts the bytes taken.
struct Endless {
    head: Option<Bytes>,
    /// After this many bytes it sends no more, and does not end.
    left: usize,
    taken: Arc<AtomicUsize>,
}

impl Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let chunk = match self.head.take() {
            Some(head) => head,
            None => {
                let chunk = Bytes::from(vec![b'a'; self.left.min(16_384)]);
                self.left -= chunk.len();
                chunk
            }
        };
        if chunk.is_empty() {
            return Poll::Pending;
        }
        self.taken.fetch_add(chunk.len(), Ordering::Relaxed);
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }
}

type Sender = SendRequest<Endless>;

async fn connect(address: SocketAddr) -> Sender {
    let stream = TcpStream::connect(address).await.unwrap();
    let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

/// A call whose message announces `size` bytes, of which `sent` are sent.
async fn unfinished(
    mut sender: Sender,
    path: &str,
    who: Option<&Credential>,
    (size, sent): (usize, usize),
    taken: &Arc<AtomicUsize>,
) -> Result<Code, hyper::Error> {
    let length = u32::try_from(size).unwrap().to_be_bytes();
    let head = Bytes::from([&[0][..], &length].concat());
    let body = Endless { head: Some(head), left: sent, taken: taken.clone() };
    let mut request = http::Request::post(format!("http://hub{path}")).body(body).unwrap();
    if let Some(who) = who {
        *request.headers_mut() = who.metadata(path).into_headers();
    }
    request.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
    sender.ready().await?;
    let answer = sender.send_request(request).await?;
    Ok(Status::from_header_map(answer.headers()).map_or(Code::Ok, |status| status.code()))
}

#[test]
fn the_bounds_of_the_port_are_those_of_the_table() {
    let limits = Limits::agents();
    assert!(limits.connections <= caps::HUB_CONNECTIONS.size() && limits.connections > 100);
    assert_eq!(limits.head_bytes, caps::HUB_HEAD_BYTES.size());
    assert_eq!(limits.idle, Some(caps::HUB_IDLE_TIME.time()));
    assert_eq!(u64::from(limits.streams), caps::HUB_STREAMS.value);
    assert!(limits.http2_only && limits.windows.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_not_known_has_nothing_read_and_nothing_kept() {
    let plane = ControlPlane::start().await;
    let taken = Arc::new(AtomicUsize::new(0));
    let mut calls = Vec::new();
    for _ in 0..2 {
        let sender = connect(plane.running.agent_addr).await;
        for path in [method::REGISTER, method::RENEW, method::REPORT, method::DELTA] {
            for _ in 0..15 {
                let (sender, taken) = (sender.clone(), taken.clone());
                let size = (16 << 20, 16 << 20);
                calls.push(tokio::spawn(async move {
                    unfinished(sender, path, None, size, &taken).await
                }));
            }
        }
    }
    for call in calls {
        let code = timeout(PATIENCE, call).await.unwrap().unwrap();
        assert!(matches!(code, Ok(Code::Unauthenticated) | Err(_)), "{code:?}");
    }
    // 120 calls of 16 MB. Only what was in flight at the refusal was sent.
    let taken = taken.load(Ordering::Relaxed);
    assert!(taken < 16 << 20, "{taken} bytes were taken");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_end_at_their_caps() {
    let plane = ControlPlane::start().await;
    let nobody = Credential::fresh(&plane.now);
    let register = async |bytes: usize| {
        // A tag, and a length of three bytes.
        let hostname = "h".repeat(bytes - 4);
        let agent_version = "v".repeat(bytes - 4 - hostname.len());
        let mut request = pb::RegisterRequest { hostname, agent_version, ..Default::default() };
        request.hostname.push_str(&"h".repeat(bytes - request.encoded_len()));
        assert_eq!(request.encoded_len(), bytes);
        let mut client = AgentServiceClient::new(channel(plane.running.agent_addr));
        let request = with(request, nobody.metadata(method::REGISTER));
        client.register(request).await.unwrap_err().code()
    };
    let cap = caps::HUB_CALL_BYTES.size();
    assert_eq!(register(cap).await, Code::Unauthenticated, "it was read");
    assert_eq!(register(cap + 1).await, Code::OutOfRange);

    let made = plane.admin.make("clusters", json!({ "name": "here" })).await;
    let agent = Agent::start(&plane, made["id"].as_str().unwrap()).await;
    let beat = |bytes: usize| {
        let version = "v".repeat(bytes - 8);
        let beat = pb::Heartbeat { agent_version: version, ..Default::default() };
        let kind = pb::report_request::Kind::Heartbeat(beat);
        assert_eq!(pb::ReportRequest { kind: Some(kind.clone()) }.encoded_len(), bytes);
        kind
    };
    let cap = caps::HUB_REPORT_BYTES.size();
    let mut report = agent.report().await;
    report.send(beat(cap)).await;
    report.usage(1, Vec::new()).await;
    report.send(beat(cap + 1)).await;
    assert_eq!(report.end().await.code(), Code::OutOfRange);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_of_a_connection_are_bounded() {
    let plane = ControlPlane::start().await;
    let nobody = Credential::fresh(&plane.now);
    let (sender, taken) = (connect(plane.running.agent_addr).await, Arc::new(AtomicUsize::new(0)));
    // Completes the exchange of settings.
    let refused = unfinished(sender.clone(), method::RENEW, None, (0, 0), &taken).await;
    assert_eq!(refused.unwrap(), Code::Unauthenticated);
    let open = |_| {
        let (sender, nobody, taken) = (sender.clone(), nobody.clone(), taken.clone());
        tokio::spawn(async move {
            unfinished(sender, method::REGISTER, Some(&nobody), (1_000, 10), &taken).await
        })
    };
    let stuck: Vec<_> = (0..caps::HUB_STREAMS.value).map(open).collect();
    crate::agent::eventually("all of them are under way", || async {
        (taken.load(Ordering::Relaxed) >= 15 * caps::HUB_STREAMS.size()).then_some(())
    })
    .await;
    let one_more = unfinished(sender.clone(), method::RENEW, None, (0, 0), &taken);
    assert!(timeout(Duration::from_millis(300), one_more).await.is_err(), "one more was served");
    stuck.iter().for_each(tokio::task::JoinHandle::abort);
    let one_more = unfinished(sender, method::RENEW, None, (0, 0), &taken);
    assert_eq!(timeout(PATIENCE, one_more).await.unwrap().unwrap(), Code::Unauthenticated);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registration_that_is_never_finished_ends() {
    let plane = ControlPlane::start().await;
    let nobody = Credential::fresh(&plane.now);
    let (sender, taken) = (connect(plane.running.agent_addr).await, Arc::default());
    let started = Instant::now();
    let call = unfinished(sender, method::REGISTER, Some(&nobody), (1_000, 10), &taken);
    assert_eq!(timeout(PATIENCE, call).await.unwrap().unwrap(), Code::DeadlineExceeded);
    assert!(started.elapsed() >= caps::HUB_CALL_TIME.time());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn registrations_at_a_time_are_bounded() {
    let plane = ControlPlane::start().await;
    let nobody = Credential::fresh(&plane.now);
    let taken = Arc::new(AtomicUsize::new(0));
    let mut stuck = Vec::new();
    for n in 0..caps::HUB_REGISTRATIONS.size() {
        if n % caps::HUB_STREAMS.size() == 0 {
            stuck.push((connect(plane.running.agent_addr).await, Vec::new()));
        }
        let (sender, calls) = stuck.last_mut().unwrap();
        let (sender, nobody, taken) = (sender.clone(), nobody.clone(), taken.clone());
        calls.push(tokio::spawn(async move {
            // Each ends after its time, possibly before the last has begun. One whose place the question below has
            // taken is refused until that place is free again.
            loop {
                let (sender, nobody) = (sender.clone(), Some(&nobody));
                let _ended =
                    unfinished(sender, method::REGISTER, nobody, (1_000, 10), &taken).await;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }));
    }
    crate::agent::eventually("all of them are under way", || async {
        let all = 15 * caps::HUB_REGISTRATIONS.size();
        (taken.load(Ordering::Relaxed) >= all).then_some(())
    })
    .await;
    crate::agent::eventually("a refusal", || async {
        let sender = connect(plane.running.agent_addr).await;
        let call = unfinished(sender, method::REGISTER, Some(&nobody), (1_000, 10), &taken);
        let code = timeout(Duration::from_millis(500), call).await;
        let code = code.ok()?.ok()?;
        (code == Code::ResourceExhausted).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_say_nothing_or_half_a_word_are_closed() {
    let plane = ControlPlane::start().await;
    let mut open = Vec::new();
    let words: [&[u8]; 4] =
        [b"", b"PRI * HTTP/2.0\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET / HTTP/1.1\r\n"];
    for word in words {
        let mut stream = TcpStream::connect(plane.running.agent_addr).await.unwrap();
        stream.write_all(word).await.unwrap();
        open.push(stream);
    }
    let started = Instant::now();
    for mut stream in open {
        let mut rest = Vec::new();
        let _closed = timeout(PATIENCE, stream.read_to_end(&mut rest)).await.unwrap();
    }
    assert!(started.elapsed() < caps::HEADER_TIME.time() * 3, "{:?}", started.elapsed());
}
