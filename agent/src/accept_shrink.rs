//! `imp-agent accept-shrink`: sends the request to the running agent on this host.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::config::AcceptShrink;

/// An agent that does not answer within this time is not running.
const PATIENCE: Duration = Duration::from_secs(10);

/// Returns the agent's answer if it accepts; otherwise its message as an error.
pub fn ask(options: &AcceptShrink) -> anyhow::Result<String> {
    let address = &options.admin_listen;
    let answer = post(address, &serde_json::json!({ "removals": options.removals }).to_string())
        .with_context(|| format!("no agent answers on {address} (--admin-listen)"))?;
    let Some((head, words)) = answer.split_once("\r\n\r\n") else {
        bail!("{address} (--admin-listen): not an agent's answer");
    };
    if head.split(' ').nth(1) != Some("202") {
        bail!("{}", words.trim());
    }
    Ok(words.trim().to_owned())
}

fn post(address: &str, body: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write!(
        stream,
        "POST /accept-shrink HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    // Answers are one line.
    stream.take(64 << 10).read_to_string(&mut answer)?;
    Ok(answer)
}
