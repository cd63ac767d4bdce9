//! A caller of a gateway on one keep-alive connection to one Envoy.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, bail};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

use crate::edge::{Answer, Connection};
use crate::stack::{EnvoyAdmin, PATIENCE};

/// After this time an Envoy that accepts a connection has counted it.
const TAKEN: Duration = Duration::from_millis(300);

const POLL: Duration = Duration::from_millis(5);

/// Opens one connection at a time, because Envoy's counter says only that there is one more.
static OPENING: Mutex<()> = Mutex::const_new(());

/// Where to connect.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) gateway: SocketAddr,
    /// The Envoy that must take the connection, if several listen on the port.
    pub(super) envoy: Option<EnvoyAdmin>,
}

/// Calls one Envoy.
pub(super) struct Caller {
    target: Target,
    connection: Connection,
}

impl Caller {
    /// Connects as soon as the gateway listens.
    pub(super) async fn open(target: Target) -> Result<Self> {
        let connection = connect(&target).await?;
        Ok(Self { target, connection })
    }

    /// Makes a call. Connects again first if the gateway announced to close the connection.
    pub(super) async fn get(&mut self, host: &str, key: Option<&str>) -> Result<Answer> {
        if self.connection.is_closing() {
            self.connect_again().await?;
        }
        let key = key.map(|key| ("x-api-key", key));
        self.connection.get(host, "/", key.as_slice()).await
    }

    /// Connects again, after a lost connection.
    pub(super) async fn connect_again(&mut self) -> Result<()> {
        self.connection = connect(&self.target).await?;
        Ok(())
    }
}

async fn connect(target: &Target) -> Result<Connection> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(connection) = attempt(target).await? {
            return Ok(connection);
        }
        if Instant::now() > deadline {
            bail!("no connection to the Envoy at {} within {PATIENCE:?}", target.gateway);
        }
        sleep(POLL).await;
    }
}

/// A connection, if the gateway listens and the right Envoy took it.
async fn attempt(target: &Target) -> Result<Option<Connection>> {
    let Some(envoy) = &target.envoy else {
        return Ok(Connection::open(target.gateway).await.ok());
    };
    let _turn = OPENING.lock().await;
    let taken = async || {
        let filter = format!("^listener\\.{}\\.downstream_cx_total$", target.gateway);
        let stats = envoy.stats(&filter.replace(':', "_")).await?;
        Ok::<_, anyhow::Error>(stats.values().sum::<u64>())
    };
    let before = taken().await?;
    let Ok(connection) = Connection::open(target.gateway).await else { return Ok(None) };
    let deadline = Instant::now() + TAKEN;
    while Instant::now() < deadline {
        if taken().await? > before {
            return Ok(Some(connection));
        }
        sleep(POLL).await;
    }
    Ok(None)
}
