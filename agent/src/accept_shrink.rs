//! `imp-agent accept-shrink`: asks the running agent beside it.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::config::AcceptShrink;

/// An agent that says nothing for so long does not run.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the agent says when it accepts; otherwise an error with its words.
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
    // Its answers are a line long.
    stream.take(64 << 10).read_to_string(&mut answer)?;
    Ok(answer)
}
