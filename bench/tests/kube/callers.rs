//! Callers that ask again and again while something happens, and count what is not 200.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use imp_bench::edge::Connection;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Each on a connection of its own, which it opens again when the gateway said that it closes it.
pub(crate) struct Callers {
    stop: CancellationToken,
    all: Vec<(String, JoinHandle<Answers>)>,
}

/// How many were good, and what the others were.
type Answers = (u64, Vec<String>);

impl Callers {
    /// One for each host, with a key or without.
    pub(crate) fn start(address: SocketAddr, hosts: &[(&str, Option<&str>)]) -> Self {
        let stop = CancellationToken::new();
        let caller = |(host, key): &(&str, Option<&str>)| {
            let key = key.map(|key| format!("x-api-key: {key}\r\n")).unwrap_or_default();
            let request = format!("GET / HTTP/1.1\r\nhost: {host}\r\n{key}\r\n");
            ((*host).to_owned(), tokio::spawn(ask(address, request, stop.clone())))
        };
        Self { all: hosts.iter().map(caller).collect(), stop }
    }

    /// Ends them. None may have had a bad answer.
    pub(crate) async fn end(self) -> Result<()> {
        self.stop.cancel();
        for (host, caller) in self.all {
            let (good, bad) = caller.await?;
            let (count, first) = (bad.len(), bad.first());
            ensure!(good > 100 && count == 0, "{host}: {good} good, {count} bad: {first:?}");
        }
        Ok(())
    }
}

async fn ask(address: SocketAddr, request: String, until: CancellationToken) -> Answers {
    let (mut good, mut bad) = (0, Vec::new());
    let mut connection = None;
    while !until.is_cancelled() {
        let mut open = match connection.take() {
            Some(open) => open,
            None => match Connection::open(address).await {
                Ok(open) => open,
                Err(error) => {
                    bad.push(format!("{error:#}"));
                    continue;
                }
            },
        };
        match open.send_again(request.as_bytes()).await {
            Ok(answer) if answer.status == 200 => good += 1,
            Ok(answer) => bad.push(answer.status.to_string()),
            Err(error) => {
                bad.push(format!("{error:#}"));
                continue;
            }
        }
        connection = Some(open);
    }
    (good, bad)
}
