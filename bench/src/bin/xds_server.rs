//! imp-xds behind the line protocol of `bench-xds`: `xds_server cds|eds COUNT`, then lines
//! `change TOGETHER TIMES PAUSE_MICROS`.

use std::io::BufRead as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use imp_bench::xds::{Kind, resource};
use imp_xds::{
    Admission, AdsServer, Change, KeepAlive, NoObserver, Peer, Resource, ServerConfig, TypeRules,
    World,
};
use tonic::Status;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

/// Every client sees the same world.
struct Everyone(World);

impl Admission for Everyone {
    fn admit(&self, _: &Peer<'_>) -> Result<World, Status> {
        Ok(self.0.clone())
    }
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let kind = match arguments.next().as_deref() {
        Some("cds") => Kind::Cds,
        Some("eds") => Kind::Eds,
        _ => bail!("usage: xds_server cds|eds COUNT"),
    };
    let count: u64 = arguments.next().context("COUNT")?.parse()?;
    let world = World::new();
    let mut first = Change::default();
    for index in 0..count {
        first.upsert(kind.type_url(), made(kind, index, 0));
    }
    world.apply(first);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .thread_name("xds_server")
        .enable_all()
        .build()?;
    let port = runtime.block_on(serve(kind, world.clone()))?;
    say(&format!("ready {port}"));
    let mut generation = 0;
    for line in std::io::stdin().lock().lines() {
        follow(&line?, kind, count, &world, &mut generation)?;
        say(&format!("done {generation}"));
    }
    Ok(())
}

async fn serve(kind: Kind, world: World) -> Result<u16> {
    let mut config = ServerConfig::new(vec![TypeRules::new(kind.type_url(), 0)]);
    // A storm is the client's wish here.
    config.max_request_bytes = 64 << 20;
    let server = AdsServer::new(config, Arc::new(Everyone(world)), Arc::new(NoObserver));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    let router = KeepAlive::default().on_server(Server::builder()).add_service(server);
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    tokio::spawn(router.serve_with_incoming(incoming));
    Ok(port)
}

fn follow(line: &str, kind: Kind, count: u64, world: &World, generation: &mut u64) -> Result<()> {
    let words: Vec<&str> = line.split(' ').collect();
    let ["change", together, times, pause] = words.as_slice() else {
        bail!("not understood: {line}")
    };
    let (together, times): (u64, u64) = (together.parse()?, times.parse()?);
    let pause = Duration::from_micros(pause.parse()?);
    let mut due = Instant::now();
    for _ in 0..times {
        let mut change = Change::default();
        for _ in 0..together {
            let index = *generation % count;
            *generation += 1;
            change.upsert(kind.type_url(), made(kind, index, *generation));
        }
        world.apply(change);
        due += pause;
        std::thread::park_timeout(due.saturating_duration_since(Instant::now()));
    }
    Ok(())
}

fn made(kind: Kind, index: u64, generation: u64) -> Resource {
    let (name, bytes) = resource(kind, usize::try_from(index).unwrap_or_default(), generation);
    Resource::new(name, generation.to_string(), bytes.into())
}

#[expect(clippy::print_stdout, reason = "the answer to the driver")]
fn say(line: &str) {
    println!("{line}");
}
