//! The server over real sockets.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt as _;
use imp_xds::testing::FakeClient;
use imp_xds::wire::{DeltaDiscoveryRequest, Node};
use imp_xds::{Event, Observer, Resource, ResourceSet, ServerConfig};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::{Code, Status};
use tower::ServiceExt as _;

use crate::peer::{A, B, config, put, remove, resource_set};
use crate::support::{Notes, Running, until};

const QUIET: Duration = Duration::from_millis(150);

fn at(names: &[(&str, &str)]) -> Vec<(String, String)> {
    names.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()
}

async fn client(running: &Running) -> FakeClient {
    FakeClient::connect(running.channel().await, "node").await.expect("a stream")
}

#[tokio::test]
async fn a_client_follows_its_resource_set() {
    let running = Running::start(resource_set(&[(A, "a", "1"), (A, "b", "1")]), config()).await;
    let mut client = client(&running).await;
    client.subscribe(A, &[]).await.expect("sent");
    assert_eq!(client.accept().await.expect("all").0, at(&[("a", "1"), ("b", "1")]));
    put(&running.set, &[(A, "b", "2")]);
    assert_eq!(client.accept().await.expect("the change").0, at(&[("b", "2")]));
    remove(&running.set, A, "a");
    assert_eq!(client.accept().await.expect("the removal").1, ["a"]);
    let notes = ["opened node", "sent a b", "acked a b", "sent b", "acked b", "sent a", "acked a"];
    until("the last ACK is noted", || running.notes.all() == notes).await;
    drop(client);
    until("closed", || running.notes.all().last().is_some_and(|note| note == "closed")).await;
}

#[tokio::test]
async fn r37_a_reconnect_brings_only_the_rest_and_tells_what_is_held() {
    let running = Running::start(resource_set(&[(A, "a", "1"), (A, "b", "1")]), config()).await;
    let mut client = client(&running).await;
    client.subscribe(A, &[]).await.expect("sent");
    client.accept().await.expect("all");
    put(&running.set, &[(A, "b", "2")]);
    let mut client = client.reconnect(running.channel().await).await.expect("again");
    assert_eq!(client.accept().await.expect("the rest").0, at(&[("b", "2")]));
    assert!(running.notes.all().contains(&"held a".to_owned()));
}

#[tokio::test]
async fn r2_r3_the_first_message_names_the_node_and_no_other_has_to() {
    let running = Running::start(resource_set(&[(A, "a", "1")]), config()).await;
    let mut nobody = client(&running).await;
    let nameless = DeltaDiscoveryRequest { type_url: A.to_owned(), ..Default::default() };
    nobody.send_raw(nameless).await.expect("sent");
    assert_eq!(nobody.next().await.expect_err("refused").code(), Code::InvalidArgument);

    let mut client = client(&running).await;
    client.subscribe(A, &[]).await.expect("sent");
    client.accept().await.expect("all");
    let other = DeltaDiscoveryRequest {
        node: Some(Node { id: "another".to_owned(), ..Node::default() }),
        type_url: B.to_owned(),
        ..Default::default()
    };
    client.send_raw(other).await.expect("sent");
    client.accept().await.expect("an answer");
    let status = running.server.status();
    assert_eq!(status[0].node_id, "node");
}

#[tokio::test]
async fn r7_a_resource_set_that_is_not_ready_is_refused_and_served_when_it_is() {
    let running = Running::start(ResourceSet::new(), config()).await;
    let mut early = client(&running).await;
    early.subscribe(A, &[]).await.expect("sent");
    assert_eq!(early.next().await.expect_err("refused").code(), Code::Unavailable);
    put(&running.set, &[(A, "a", "1")]);
    let mut client = client(&running).await;
    client.subscribe(A, &[]).await.expect("sent");
    assert_eq!(client.accept().await.expect("all").0, at(&[("a", "1")]));
}

#[tokio::test]
async fn r91_who_is_not_authorised_is_refused_and_who_is_revoked_is_cut_off() {
    let running = Running::start(resource_set(&[(A, "a", "1")]), config()).await;
    let mut headers = tonic::metadata::MetadataMap::new();
    headers.insert("authorization", "Bearer wrong".parse().expect("a value"));
    let refused = FakeClient::connect_with(running.channel().await, headers, "node").await;
    assert_eq!(refused.expect_err("refused").code(), Code::Unauthenticated);

    let mut client = client(&running).await;
    client.subscribe(A, &[]).await.expect("sent");
    client.accept().await.expect("all");
    running.revoked.cancel();
    assert_eq!(client.next().await.expect_err("cut off").code(), Code::PermissionDenied);
}

#[tokio::test]
async fn r91_who_is_revoked_does_not_even_get_the_rest_of_a_message() {
    let held = resource_set(&[]);
    let mut change = imp_xds::Change::default();
    change.upsert(A, Resource::new("big", "1", vec![0_u8; 32 << 20].into()));
    held.apply(change);
    let running = Running::start(held, config()).await;
    let mut client = client(&running).await;
    client.subscribe(A, &[]).await.expect("sent");
    until("it is being sent", || running.notes.all().contains(&"sent big".to_owned())).await;
    running.revoked.cancel();
    until("cut off", || running.server.status().is_empty()).await;
    client.next().await.expect_err("no message");
}

#[tokio::test]
async fn r33_a_refusal_is_told_and_nothing_is_repeated() {
    let running = Running::start(resource_set(&[(A, "a", "1")]), config()).await;
    let mut client = client(&running).await;
    client.subscribe(A, &[]).await.expect("sent");
    let response = client.next().await.expect("all");
    client.nack(&response, "no good").await.expect("sent");
    assert!(client.is_quiet(QUIET).await);
    assert_eq!(running.notes.all().last().expect("a note"), "nacked a: no good");
    // R92: what the status reports.
    let status = running.server.status();
    let of_type = status[0].types.iter().find(|t| t.type_url.as_str() == A).expect("A");
    assert_eq!((of_type.sent, of_type.acked, of_type.nacked), (1, 0, 1));
    assert_eq!(of_type.refused, [("a".into(), "1".into())]);
    assert_eq!(of_type.last_refusal.as_deref(), Some("no good"));
}

#[tokio::test]
async fn r92_what_waits_and_for_how_long_can_be_seen() {
    let running = Running::start(resource_set(&[(A, "a", "1")]), config()).await;
    let mut client = client(&running).await.in_cluster("group");
    client.subscribe(A, &[]).await.expect("sent");
    client.next().await.expect("all");
    put(&running.set, &[(A, "a", "2")]);
    let seen = || {
        let status = running.server.status();
        let of_type = status[0].types.first()?.clone();
        (of_type.pending == 1).then_some((status[0].node_cluster.clone(), of_type))
    };
    until("the change waits", || seen().is_some()).await;
    let (group, of_type) = seen().expect("seen");
    assert_eq!((group.as_str(), of_type.wildcard), ("group", true));
    let waited = of_type.unanswered_for.expect("unanswered");
    until("it ages", || seen().is_some_and(|(_, t)| t.unanswered_for > Some(waited))).await;
    assert!(seen().expect("seen").1.pending_for.is_some());
}

#[tokio::test]
async fn r80_a_client_that_never_answers_is_let_go() {
    let config = ServerConfig { ack_timeout: QUIET, ..config() };
    let running = Running::start(resource_set(&[(A, "a", "1")]), config).await;
    let mut client = client(&running).await;
    client.subscribe(A, &[]).await.expect("sent");
    client.next().await.expect("all");
    assert_eq!(client.next().await.expect_err("the end").code(), Code::DeadlineExceeded);
}

#[tokio::test]
async fn a_client_that_says_nothing_is_let_go() {
    let config = ServerConfig { first_message_timeout: QUIET, ..config() };
    let running = Running::start(resource_set(&[]), config).await;
    let mut client = client(&running).await;
    assert_eq!(client.next().await.expect_err("the end").code(), Code::DeadlineExceeded);
    until("its place is free", || running.server.status().is_empty()).await;
}

#[tokio::test]
async fn r89_a_client_that_does_not_read_is_let_go_and_holds_up_nobody() {
    let config = ServerConfig { send_timeout: QUIET, ..config() };
    let held = resource_set(&[]);
    let big = |name: &str, version: &str| {
        let mut change = imp_xds::Change::default();
        change.upsert(name, Resource::new(name, version, vec![0_u8; 8 << 20].into()));
        change
    };
    let types = ["t1", "t2", "t3", "t4", "t5", "t6"];
    for name in types {
        held.apply(big(name, "1"));
    }
    let running = Running::start(held, config).await;
    let mut stalled = client(&running).await;
    for type_url in types {
        stalled.subscribe(type_url, &[]).await.expect("sent");
    }
    let mut quick = FakeClient::connect(running.channel().await, "quick").await.expect("a stream");
    quick.subscribe("t1", &[]).await.expect("sent");
    quick.accept().await.expect("it came");
    running.set.apply(big("t1", "2"));
    assert_eq!(quick.accept().await.expect("it came").0, at(&[("t1", "2")]));
    let gone = || running.server.status().iter().all(|stream| stream.node_id == "quick");
    until("the stalled one is gone", gone).await;
}

#[tokio::test]
async fn r85_an_old_stream_ends_and_the_next_one_goes_on() {
    let config = ServerConfig { max_stream_age: Some(QUIET), ..config() };
    let running = Running::start(resource_set(&[(A, "a", "1")]), config).await;
    let mut client = client(&running).await;
    client.subscribe(A, &[]).await.expect("sent");
    client.accept().await.expect("all");
    assert_eq!(client.next().await.expect_err("the end").code(), Code::Unavailable);
    put(&running.set, &[(A, "b", "1")]);
    let mut client = client.reconnect(running.channel().await).await.expect("again");
    assert_eq!(client.accept().await.expect("the rest").0, at(&[("b", "1")]));
}

/// Forwards bytes until told to hold them back, with both ends open.
async fn held_back(
    server: std::net::SocketAddr,
    hold: Arc<std::sync::atomic::AtomicBool>,
) -> std::net::SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        let (client, _) = listener.accept().await.expect("a client");
        let server = tokio::net::TcpStream::connect(server).await.expect("the server");
        let ((from_client, to_client), (from_server, to_server)) =
            (client.into_split(), server.into_split());
        let pump = |mut from: tokio::net::tcp::OwnedReadHalf,
                    mut to: tokio::net::tcp::OwnedWriteHalf| {
            let hold = hold.clone();
            async move {
                let mut buffer = [0_u8; 4096];
                while let Ok(read @ 1..) = from.read(&mut buffer).await {
                    if hold.load(std::sync::atomic::Ordering::Relaxed) {
                        std::future::pending::<()>().await;
                    }
                    if to.write_all(&buffer[..read]).await.is_err() {
                        return;
                    }
                }
            }
        };
        tokio::join!(pump(from_client, to_server), pump(from_server, to_client));
    });
    address
}

#[tokio::test]
async fn r85_a_client_that_falls_silent_is_let_go() {
    let running = Running::start(resource_set(&[(A, "a", "1")]), config()).await;
    let hold = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let address = held_back(running.address, hold.clone()).await;
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{address}"));
    let channel = endpoint.expect("an address").connect().await.expect("a connection");
    let mut client = FakeClient::connect(channel, "node").await.expect("a stream");
    client.subscribe(A, &[]).await.expect("sent");
    client.accept().await.expect("all");
    hold.store(true, std::sync::atomic::Ordering::Relaxed);
    until("it is gone", || running.server.status().is_empty()).await;
}

#[tokio::test]
async fn r83_streams_are_bounded_and_so_are_those_that_are_being_filled() {
    let limited = ServerConfig { max_streams: 1, ..config() };
    let running = Running::start(resource_set(&[]), limited).await;
    let first = client(&running).await;
    let second = FakeClient::connect(running.channel().await, "node").await;
    assert_eq!(second.expect_err("one too many").code(), Code::ResourceExhausted);
    drop(first);

    // R82: the first has not acknowledged, so the second waits, and is admitted when it has.
    let limited = ServerConfig { max_syncing: 1, sync_wait: QUIET, ..config() };
    let running = Running::start(resource_set(&[(A, "a", "1")]), limited).await;
    let mut first = client(&running).await;
    first.subscribe(A, &[]).await.expect("sent");
    let response = first.next().await.expect("all");
    let mut second = client(&running).await;
    second.subscribe(A, &[]).await.expect("sent");
    assert_eq!(second.next().await.expect_err("full").code(), Code::ResourceExhausted);
    first.ack(&response).await.expect("sent");
    until("acknowledged", || running.notes.all().contains(&"acked a".to_owned())).await;
    let mut third = client(&running).await;
    third.subscribe(A, &[]).await.expect("sent");
    third.accept().await.expect("all");
}

#[tokio::test]
async fn r82_of_a_large_first_request_the_rest_is_read_when_there_is_a_place() {
    let limited = ServerConfig { max_syncing: 1, sync_wait: QUIET, ..config() };
    let running = Running::start(resource_set(&[(A, "a", "1")]), limited).await;
    let beginning = || framed(100 << 10, &[0; 40 << 10]);
    let mut first = client(&running).await;
    first.subscribe(A, &[]).await.expect("sent");
    let response = first.next().await.expect("all");
    assert_eq!(raw(&running, beginning()).await, Code::ResourceExhausted);
    first.ack(&response).await.expect("sent");
    until("acknowledged", || running.notes.all().contains(&"acked a".to_owned())).await;
    // Now it is read, and ends too early.
    assert_eq!(raw(&running, beginning()).await, Code::Internal);
}

#[tokio::test]
async fn r86_a_large_request_is_read_and_a_larger_one_is_refused() {
    let limited = ServerConfig { max_request_bytes: 6 << 20, ..config() };
    let running = Running::start(resource_set(&[(A, "a", "1")]), limited).await;
    let versions = |n: usize| (0..n).map(|i| (format!("{i:0>100}"), "1".to_owned())).collect();
    let mut large = client(&running).await;
    let request = DeltaDiscoveryRequest {
        type_url: A.to_owned(),
        initial_resource_versions: versions(45_000),
        ..Default::default()
    };
    large.send(request.clone()).await.expect("sent");
    assert_eq!(large.accept().await.expect("an answer").0, at(&[("a", "1")]));
    let mut larger = client(&running).await;
    let request = DeltaDiscoveryRequest { initial_resource_versions: versions(70_000), ..request };
    larger.send(request).await.expect("sent");
    assert_eq!(larger.next().await.expect_err("refused").code(), Code::OutOfRange);
}

#[tokio::test]
async fn a_flood_of_requests_gets_one_response_at_a_time() {
    let running = Running::start(resource_set(&[(A, "a", "1")]), config()).await;
    let mut client = client(&running).await;
    for _ in 0..2_000 {
        client.subscribe(A, &["a", "missing"]).await.expect("sent");
    }
    let first = client.next().await.expect("an answer");
    assert!(client.is_quiet(QUIET).await, "R80");
    client.ack(&first).await.expect("sent");
    client.accept().await.expect("one more, for all that was asked since");
    assert!(client.is_quiet(QUIET).await);
}

#[tokio::test]
async fn an_observer_that_panics_ends_its_stream_and_no_other() {
    struct Fragile(Notes);
    impl Observer for Fragile {
        fn event(&self, event: Event<'_>) {
            assert!(!matches!(event, Event::Acked { .. }), "a bug of the embedding program");
            self.0.event(event);
        }
    }
    let notes = Notes::default();
    let observer = Arc::new(Fragile(notes.clone()));
    let running = Running::observed(resource_set(&[(A, "a", "1")]), config(), observer).await;
    for _ in 0..2 {
        let mut client = client(&running).await;
        client.subscribe(A, &[]).await.expect("sent");
        client.accept().await.expect("all");
        assert_eq!(client.next().await.expect_err("the end").code(), Code::Internal);
    }
    until("closed is told", || notes.all().iter().filter(|n| *n == "closed").count() == 2).await;
    assert!(running.server.status().is_empty());
}

#[tokio::test]
async fn a_server_that_closes_ends_its_streams_and_opens_no_more() {
    let running = Running::start(resource_set(&[(A, "a", "1")]), config()).await;
    let mut client = client(&running).await;
    client.subscribe(A, &[]).await.expect("sent");
    client.accept().await.expect("all");
    running.server.close();
    assert_eq!(client.next().await.expect_err("the end").code(), Code::Unavailable);
    let late = FakeClient::connect(running.channel().await, "node").await;
    assert_eq!(late.expect_err("closed").code(), Code::Unavailable);
}

/// Sends any body, as an HTTP/2 client without gRPC; returns the server's status.
async fn raw(running: &Running, body: Vec<u8>) -> Code {
    let uri = format!(
        "http://{}/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources",
        running.address
    );
    let request = http::Request::post(uri)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(tonic::body::Body::new(http_body_util::Full::from(body)))
        .expect("a request");
    let response = running.channel().await.oneshot(request).await.expect("a response");
    let headers = response.headers().clone();
    let body = response.into_body().collect().await.expect("a body");
    let status = body.trailers().and_then(Status::from_header_map);
    status.or_else(|| Status::from_header_map(&headers)).map_or(Code::Ok, |s| s.code())
}

fn framed(length: usize, bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(length).expect("a length").to_be_bytes();
    [&[0], &length[..], bytes].concat()
}

#[tokio::test]
async fn bad_frames_are_grpc_errors() {
    let limited = ServerConfig { first_message_timeout: QUIET, ..config() };
    let running = Running::start(resource_set(&[(A, "a", "1")]), limited).await;
    assert_eq!(raw(&running, framed(100, b"cut")).await, Code::Internal, "truncated");
    assert_eq!(raw(&running, framed(64 << 20, b"")).await, Code::OutOfRange, "oversized");
    assert_eq!(raw(&running, vec![9; 50]).await, Code::Internal, "no compression flag");
    assert_eq!(raw(&running, Vec::new()).await, Code::Ok, "nothing at all");
    until("no stream is left", || running.server.status().is_empty()).await;
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 24,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn random_bytes_are_an_error_and_the_next_client_is_served(
        bytes in prop::collection::vec(any::<u8>(), 1..200),
    ) {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(async {
            let running = Running::start(resource_set(&[(A, "a", "1")]), config()).await;
            let code = raw(&running, framed(bytes.len(), &bytes)).await;
            assert_eq!(code, Code::InvalidArgument);
            let mut client = client(&running).await;
            client.subscribe(A, &[]).await.expect("sent");
            client.accept().await.expect("served");
        });
    }
}
