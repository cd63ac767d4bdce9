//! Polls over a connection to every worker of an Envoy. Plain threads, because 0.2 ms is below the
//! grain of an async timer.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use tokio::sync::oneshot;

use crate::edge;
use crate::process::eventually;
use crate::stack::{EnvoyAdmin, PATIENCE};

/// The interval between polls of one worker, while a publish is awaited.
const PERIOD: Duration = Duration::from_micros(200);

/// After this time a worker that accepts a connection has accepted it.
const TAKEN: Duration = Duration::from_millis(500);

/// After this time a publish counts as lost, not slow.
const LOST: Duration = Duration::from_secs(60);

/// A thread and a connection per worker.
pub struct Probes {
    orders: Vec<mpsc::Sender<Order>>,
}

struct Order {
    poll: Poll,
    seen: oneshot::Sender<Result<Instant>>,
}

/// What is asked until it changes.
#[derive(Clone, Debug)]
pub struct Poll {
    /// A whole request.
    pub request: Vec<u8>,
    /// The status of answers before the change; any other but [`Self::after`] is an error.
    pub before: u16,
    /// The status of answers from the change on.
    pub after: u16,
    /// The pause between two polls of one worker.
    pub period: Duration,
}

/// A running poll.
pub struct Watch(Vec<oneshot::Receiver<Result<Instant>>>);

impl Probes {
    /// Opens one connection to each worker. The kernel chooses which worker accepts, and on a busy
    /// machine one worker may accept several, so superfluous connections are closed and opened
    /// again.
    pub async fn open(envoy: &EnvoyAdmin, gateway: SocketAddr, workers: u32) -> Result<Self> {
        let filter = format!("^listener\\.{gateway}\\.worker_\\d+\\.downstream_cx_active$")
            .replace(':', "_");
        let held = async || {
            let stats = envoy.stats(&filter).await?;
            Ok::<_, anyhow::Error>(stats.values().filter(|&&open| open >= 1).count())
        };
        let mut connections: Vec<Connection> = Vec::new();
        eventually("a connection on every worker", PATIENCE, async || {
            let before = connections.len();
            if before < workers as usize {
                connections.push(Connection::open(gateway)?);
                let taken = eventually("one more is taken", TAKEN, async || {
                    Ok((held().await? > before).then_some(()))
                });
                if taken.await.is_err() {
                    connections.pop();
                }
            }
            Ok((connections.len() == workers as usize).then_some(()))
        })
        .await
        .with_context(|| format!("{workers} workers"))?;
        let serving = |connection| {
            let (order, inbox) = mpsc::channel();
            std::thread::spawn(move || serve(connection, &inbox));
            order
        };
        Ok(Self { orders: connections.into_iter().map(serving).collect() })
    }

    /// Begins to poll this host on every worker.
    pub fn watch(&self, host: &str) -> Watch {
        let request = format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n").into_bytes();
        self.poll(&Poll { request, before: 404, after: 200, period: PERIOD })
    }

    /// Begins to poll on every worker.
    pub fn poll(&self, poll: &Poll) -> Watch {
        let order = |orders: &mpsc::Sender<Order>| {
            let (seen, answer) = oneshot::channel();
            // A thread that has ended drops the sender, which the watch reports.
            let _ = orders.send(Order { poll: poll.clone(), seen });
            answer
        };
        Watch(self.orders.iter().map(order).collect())
    }
}

impl Watch {
    /// Returns when the last worker answered as after the change.
    pub async fn served(self) -> Result<Instant> {
        let mut last = None;
        for answer in self.0 {
            let seen = answer.await.context("a probe has ended")??;
            last = last.max(Some(seen));
        }
        last.context("no worker")
    }
}

fn serve(mut connection: Connection, inbox: &mpsc::Receiver<Order>) {
    for order in inbox {
        // The receiver may have been dropped after an error elsewhere.
        let _ = order.seen.send(until(&mut connection, &order.poll));
    }
}

fn until(connection: &mut Connection, poll: &Poll) -> Result<Instant> {
    let deadline = Instant::now() + LOST;
    loop {
        match connection.status(&poll.request)? {
            status if status == poll.after => return Ok(Instant::now()),
            status if status == poll.before => {}
            other => bail!("a wrong answer before the change: {other}"),
        }
        ensure!(Instant::now() < deadline, "no change after {LOST:?}");
        std::thread::park_timeout(poll.period);
    }
}

/// A minimal keep-alive connection.
pub(crate) struct Connection {
    gateway: SocketAddr,
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    pub(crate) fn open(gateway: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(gateway).context("the gateway does not listen")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(LOST))?;
        Ok(Self { gateway, stream, buffer: vec![] })
    }

    pub(crate) fn status(&mut self, request: &[u8]) -> Result<u16> {
        match self.exchange(request) {
            // Envoy closes a connection that was idle between two blocks; the next request opens a
            // new one to the same worker.
            Err(_) => {
                *self = Self::open(self.gateway)?;
                self.exchange(request)
            }
            done => done,
        }
    }

    fn exchange(&mut self, request: &[u8]) -> Result<u16> {
        self.stream.write_all(request)?;
        self.buffer.clear();
        let head_end = loop {
            let at = self.buffer.windows(4).position(|window| window == b"\r\n\r\n");
            match at {
                Some(at) => break at + 4,
                None => self.read_more()?,
            }
        };
        let answer = edge::parse_head(self.buffer.get(..head_end).unwrap_or_default())?;
        let length = edge::body_length(&answer)?;
        while self.buffer.len() < head_end + length {
            self.read_more()?;
        }
        if answer.header("connection") == Some("close") {
            *self = Self::open(self.gateway)?;
        }
        Ok(answer.status)
    }

    fn read_more(&mut self) -> Result<()> {
        let mut chunk = [0; 4096];
        let length = self.stream.read(&mut chunk)?;
        ensure!(length > 0, "the gateway closed the connection");
        self.buffer.extend_from_slice(chunk.get(..length).unwrap_or_default());
        Ok(())
    }
}
