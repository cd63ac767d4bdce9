//! Raw HTTP/2 frames, including those that a library would refuse to send.

use anyhow::{Context as _, Result};
use serde::Deserialize;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Outcome;
use super::gateway::judged;
use super::stage::Stage;
use super::wire::{Answer, PATIENCE, unhex};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    /// The owner of the gateway.
    #[serde(default = "victim")]
    gateway: String,
    /// In this order; by default the four pseudo-headers of a valid GET.
    headers: Option<Vec<(String, String)>>,
    /// Added after those headers.
    #[serde(default)]
    more: Vec<(String, String)>,
    /// The owner of the key: the victim or the attacker.
    key: Option<String>,
    text: Option<String>,
    #[serde(default)]
    trailers: Vec<(String, String)>,
    /// Frames in hexadecimal, sent before the request.
    #[serde(default)]
    frames: Vec<String>,
    /// How often the frames are sent.
    #[serde(default = "once")]
    times: usize,
    /// 0: reset, or the connection closed.
    expect: Vec<u16>,
    #[serde(default)]
    unseen: Vec<String>,
    #[serde(default)]
    may_forward: bool,
}

fn victim() -> String {
    "victim".to_owned()
}

fn once() -> usize {
    1
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

pub(crate) async fn run(stage: &mut Stage, case: Value) -> Result<Outcome> {
    let shown = case.to_string();
    let case: Case = serde_json::from_value(case).with_context(|| shown)?;
    let bytes = request(stage, &case);
    let before = stage.upstream.calls();
    let answer = timeout(PATIENCE, exchange(stage.gateway(&case.gateway), &bytes)).await;
    let forwarded = stage.upstream.calls() - before;
    let judged = match answer {
        Err(_) => Err(format!("neither answer nor close in {PATIENCE:?}")),
        Ok(answer) if !case.expect.contains(&answer.status) => {
            Err(format!("wanted {:?}, got {}", case.expect, answer.shown()))
        }
        Ok(answer) => judged(&answer, forwarded, case.may_forward, &case.unseen),
    };
    Ok(Outcome::of(1, judged))
}

fn request(stage: &Stage, case: &Case) -> Vec<u8> {
    let good = || {
        let pairs = [
            (":method", "GET".to_owned()),
            (":scheme", "http".to_owned()),
            (":authority", stage.var("victim.host")),
            (":path", "/".to_owned()),
        ];
        pairs.map(|(name, value)| (name.to_owned(), value)).to_vec()
    };
    let mut headers = case.headers.clone().unwrap_or_else(good);
    if let Some(who) = &case.key {
        headers.push(("x-api-key".to_owned(), stage.var(&format!("{who}.key"))));
    }
    headers.extend(case.more.clone());
    let mut bytes = [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat();
    for _ in 0..case.times {
        bytes.extend(case.frames.iter().flat_map(|hex| unhex(hex)));
    }
    let body = case.text.is_some() || !case.trailers.is_empty();
    let end = if body { 0 } else { END_STREAM };
    bytes.extend(frame(HEADERS, END_HEADERS | end, 1, &block(&headers)));
    if body {
        let end = if case.trailers.is_empty() { END_STREAM } else { 0 };
        bytes.extend(frame(DATA, end, 1, case.text.clone().unwrap_or_default().as_bytes()));
    }
    if !case.trailers.is_empty() {
        bytes.extend(frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(&case.trailers)));
    }
    bytes
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// HPACK without a table: every header is a literal without indexing (RFC 7541, section 6.2.2).
fn block(headers: &[(String, String)]) -> Vec<u8> {
    let text = |text: &str| {
        let mut bytes = Vec::new();
        match u8::try_from(text.len()) {
            Ok(short) if short < 127 => bytes.push(short),
            _ => {
                bytes.push(127);
                let mut rest = text.len() - 127;
                while rest >= 128 {
                    bytes.push(0x80 | (rest % 128) as u8);
                    rest /= 128;
                }
                bytes.push(rest as u8);
            }
        }
        bytes.extend_from_slice(text.as_bytes());
        bytes
    };
    headers.iter().flat_map(|(name, value)| [vec![0], text(name), text(value)].concat()).collect()
}

async fn exchange(address: std::net::SocketAddr, bytes: &[u8]) -> Answer {
    let Ok(mut stream) = TcpStream::connect(address).await else { return Answer::default() };
    let (mut reading, mut writing) = stream.split();
    let write = async {
        let _ = writing.write_all(bytes).await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        answer = read(&mut reading) => answer,
        () = write => Answer::default(),
    }
}

/// The answer to stream 1.
async fn read(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> Answer {
    let mut answer = Answer::default();
    let mut head = [0; 9];
    while stream.read_exact(&mut head).await.is_ok() {
        let [a, b, c, kind, flags, ..] = head;
        let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        let mut payload = vec![0; length];
        if stream.read_exact(&mut payload).await.is_err() {
            break;
        }
        let stream_id = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        match kind {
            HEADERS if stream_id == 1 && answer.status == 0 => answer.status = status(&payload),
            DATA if stream_id == 1 => answer.body.push_str(&String::from_utf8_lossy(&payload)),
            GOAWAY => break,
            RST_STREAM if stream_id == 1 => break,
            _ => {}
        }
        if stream_id == 1 && matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0 {
            break;
        }
    }
    answer
}

/// `:status` is the first header: from the static table, or a literal under its name (index 8).
fn status(block: &[u8]) -> u16 {
    // A change of the table's size may precede it.
    let skip = block.iter().take_while(|byte| **byte & 0xe0 == 0x20).count();
    match &block[skip..] {
        [indexed, ..] if indexed & 0x80 != 0 => {
            let known = [200, 204, 206, 304, 400, 404, 500];
            known.get(usize::from(indexed & 0x7f).wrapping_sub(8)).copied().unwrap_or(999)
        }
        [_, length, digits @ ..] if length & 0x80 != 0 => huffman(digits),
        [_, 3, digits @ ..] => {
            let digits = digits.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
            digits.and_then(|digits| digits.parse().ok()).unwrap_or(999)
        }
        _ => 999,
    }
}

/// Three digits in HPACK's code: 0 to 2 have five bits, 3 to 9 six.
fn huffman(bytes: &[u8]) -> u16 {
    let bits: Vec<u8> = bytes.iter().flat_map(|b| (0..8).rev().map(move |i| b >> i & 1)).collect();
    let number = |bits: &[u8]| bits.iter().fold(0_u16, |n, bit| n << 1 | u16::from(*bit));
    let (mut at, mut status) = (0, 0);
    for _ in 0..3 {
        let short = bits.get(at..at + 5).map_or(99, number);
        let (digit, width) = match short {
            0..=2 => (short, 5),
            _ => (bits.get(at..at + 6).map_or(99, number).wrapping_sub(0x19) + 3, 6),
        };
        (at, status) = (at + width, status * 10 + digit);
    }
    status
}
