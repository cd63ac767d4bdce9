//! Tenants cannot reach internal addresses: names that lead inside, at once or later, are refused
//! on each call, and no internal service sees even a connection.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use imp_bench::edge::{Answer, Connection, call};
use imp_bench::process::eventually;
use imp_bench::rest::text;
use imp_bench::sample::Provider;
use imp_bench::stack::{Options, PATIENCE, Stack};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::alone::side_by_side;
use crate::dns::Dns;

/// Stands for a public address: the only one that the agent allows.
const PUBLIC: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// Envoy looks a name up again every 5 s if its answer may not be cached.
const LOOKUP: Duration = Duration::from_secs(60);

/// The same port on a public address with a server, and on loopback, where nothing may ever
/// connect.
struct Hosts {
    port: u16,
    forbidden: Arc<AtomicU64>,
}

impl Hosts {
    async fn start() -> Result<Self> {
        let inside = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = inside.local_addr()?.port();
        let public = TcpListener::bind((PUBLIC, port)).await?;
        let forbidden = Arc::new(AtomicU64::new(0));
        let count = forbidden.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = inside.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(answer(stream));
            }
        });
        tokio::spawn(async move {
            while let Ok((stream, _)) = public.accept().await {
                tokio::spawn(answer(stream));
            }
        });
        Ok(Self { port, forbidden })
    }

    fn connections_inside(&self) -> u64 {
        self.forbidden.load(Ordering::SeqCst)
    }
}

async fn answer(mut stream: TcpStream) {
    let mut buffer = [0_u8; 4096];
    while let Ok(1..) = stream.read(&mut buffer).await {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    }
}

/// Publishes a backend at a host of its own; returns the publish's id.
async fn publish(
    stack: &Stack,
    provider: &Provider,
    label: &str,
    backend: Backend<'_>,
) -> Result<String> {
    let Backend(host, port, protocol) = backend;
    let service = json!({
        "name": label,
        "backends": [{
            "name": "b",
            "protocol": protocol,
            "endpoints": [{ "host": host, "port": port }],
        }],
        "routes": [{ "name": "all", "path": { "prefix": "/" }, "backend_id": "b" }],
    });
    let service = text(&provider.rest.post("/v1/api-services", &service).await?, "id")?;
    let product = provider.product(label, &[service]).await?;
    let id = provider.publish(&product, &caller(label), "none").await?;
    stack.publish_reaches(&id, "active", PATIENCE).await?;
    Ok(id)
}

/// Host, port, protocol.
struct Backend<'a>(&'a str, u16, &'a str);

/// The caller's hostname.
fn caller(label: &str) -> String {
    format!("{label}.example.com")
}

fn is_forbidden(answer: &Answer) -> bool {
    answer.status == 502 && answer.json()["code"] == "upstream_forbidden"
}

async fn is_refused(provider: &Provider, label: &str) -> Result<()> {
    let host = caller(label);
    let answer = eventually(&format!("{label} is refused"), LOOKUP, async || {
        let answer = call(provider.address(), &host, "/", &[]).await.ok();
        Ok(answer.filter(is_forbidden))
    })
    .await?;
    assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{answer:?}");
    Ok(())
}

async fn resolving_with(dns: &Dns, allow: &[&str]) -> Result<Stack> {
    Stack::start(Options {
        allow: allow.iter().map(|net| (*net).to_owned()).collect(),
        agent_flags: vec![format!("--upstream-dns={}", dns.address)],
        ..Options::default()
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_turns_inside_later_is_refused_on_open_connections_too() -> Result<()> {
    let _turn = side_by_side().await;
    let (dns, hosts) = (Dns::start().await?, Hosts::start().await?);
    let stack = resolving_with(&dns, &["127.0.0.2/32"]).await?;
    let provider = Provider::create(&stack, "evil").await?;
    dns.answer("rebound.evil.test", &["127.0.0.2"]);
    publish(&stack, &provider, "rebound", Backend("rebound.evil.test", hosts.port, "http1"))
        .await?;
    stack.answers(provider.address(), &caller("rebound"), "/", &[], 200).await?;

    // The caller's connection and Envoy's to the public address stay open.
    let mut open = Connection::open(provider.address()).await?;
    assert_eq!(open.get(&caller("rebound"), "/", &[]).await?.status, 200);
    dns.answer("rebound.evil.test", &["127.0.0.1"]);
    is_refused(&provider, "rebound").await?;
    let answer = open.get(&caller("rebound"), "/", &[]).await?;
    assert!(is_forbidden(&answer), "{answer:?}");

    dns.answer("rebound.evil.test", &["169.254.169.254"]);
    is_refused(&provider, "rebound").await?;
    dns.answer("rebound.evil.test", &["127.0.0.2"]);
    eventually("served again", LOOKUP, async || {
        let answer = call(provider.address(), &caller("rebound"), "/", &[]).await.ok();
        Ok(answer.filter(|answer| answer.status == 200))
    })
    .await?;
    assert_eq!(hosts.connections_inside(), 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn however_a_name_leads_inside_nobody_there_sees_a_connection() -> Result<()> {
    let _turn = side_by_side().await;
    let (dns, hosts) = (Dns::start().await?, Hosts::start().await?);
    let stack = resolving_with(&dns, &["127.0.0.2/32"]).await?;
    let provider = Provider::create(&stack, "evil").await?;
    dns.answer("mixed.evil.test", &["127.0.0.2", "127.0.0.1", "::1"]);
    dns.answer("mapped.evil.test", &["::ffff:127.0.0.1"]);
    dns.answer("v6.evil.test", &["::1"]);
    dns.answer("nat64.evil.test", &["64:ff9b::7f00:1"]);
    dns.alias("chain.evil.test", "middle.evil.test");
    dns.alias("middle.evil.test", "end.evil.test");
    dns.answer("end.evil.test", &["127.0.0.1"]);
    dns.answer("metadata.evil.test", &["169.254.169.254", "fd00:ec2::254"]);
    for label in ["mapped", "v6", "nat64", "chain", "metadata", "mixed"] {
        let name = format!("{label}.evil.test");
        publish(&stack, &provider, label, Backend(&name, hosts.port, "http1")).await?;
        is_refused(&provider, label).await?;
    }
    // Of a mixed set the public addresses are served and the others refused, call by call.
    let (mut served, mut refused) = (0, 0);
    for _ in 0..40 {
        let answer = call(provider.address(), &caller("mixed"), "/", &[]).await?;
        served += u32::from(answer.status == 200);
        refused += u32::from(is_forbidden(&answer));
    }
    assert_eq!(served + refused, 40);
    assert!(served > 0 && refused > 0, "{served} served, {refused} refused");
    assert_eq!(hosts.connections_inside(), 0);
    Ok(())
}

/// Loopback is allowed here, as in `make demo`.
#[tokio::test(flavor = "multi_thread")]
async fn the_platforms_own_ports_are_not_reached_through_a_publish() -> Result<()> {
    let _turn = side_by_side().await;
    let dns = Dns::start().await?;
    let stack = resolving_with(&dns, &["127.0.0.0/8", "::1"]).await?;
    let provider = Provider::create(&stack, "evil").await?;
    dns.answer("inside.evil.test", &["127.0.0.1"]);
    let ports = [
        ("agent-admin", stack.agent.admin.port(), "http1"),
        ("hub", stack.control.agent_listen.port(), "http2"),
        ("rest", stack.control.listen.port(), "http1"),
    ];
    for (label, port, protocol) in ports {
        publish(&stack, &provider, label, Backend("inside.evil.test", port, protocol)).await?;
        is_refused(&provider, label).await?;
        let literal = format!("{label}-literal");
        publish(&stack, &provider, &literal, Backend("127.0.0.1", port, protocol)).await?;
        is_refused(&provider, &literal).await?;
    }
    // Other services are reachable.
    let other = stack.upstream.address().port();
    publish(&stack, &provider, "other", Backend("inside.evil.test", other, "http1")).await?;
    stack.answers(provider.address(), &caller("other"), "/", &[], 200).await?;
    Ok(())
}

/// Envoy's admin interface could once be reached by a backend (`POST /drain_listeners`). Now it has
/// no address that a backend could name, and only its owner can open the socket.
#[tokio::test(flavor = "multi_thread")]
async fn envoys_admin_interface_is_a_socket_of_its_owner() -> Result<()> {
    use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
    let _turn = side_by_side().await;
    let stack = Stack::start(Options::default()).await?;
    let mut sockets =
        std::fs::read_dir(stack.directory())?.filter_map(Result::ok).filter(|entry| {
            entry.file_type().is_ok_and(|kind| kind.is_socket())
                && entry.file_name().to_string_lossy().starts_with("envoy")
        });
    let socket = sockets.next().context("no socket of Envoy's")?;
    assert_eq!(socket.metadata()?.permissions().mode() & 0o777, 0o600);
    let bootstrap = std::fs::read_to_string(stack.directory().join("envoy-1.yaml"))?;
    let admin = bootstrap.lines().find(|line| line.starts_with("admin:")).context("no admin")?;
    assert!(admin.contains("pipe:") && !admin.contains("socket_address"), "{admin}");
    Ok(())
}
