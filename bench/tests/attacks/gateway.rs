//! Raw calls of published APIs.

use anyhow::{Context as _, Result};
use serde::Deserialize;
use serde_json::Value;

use super::Outcome;
use super::stage::Stage;
use super::wire::{self, Answer};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    /// The owner of the gateway.
    #[serde(default = "victim")]
    gateway: String,
    #[serde(default = "get")]
    method: String,
    #[serde(default = "slash")]
    path: String,
    /// `None` for the victim's; empty to send none.
    host: Option<String>,
    /// The owner of the API key: `victim`, `attacker`, or none.
    key: Option<String>,
    #[serde(default)]
    headers: Vec<(String, String)>,
    text: Option<String>,
    /// The whole request, instead of the other fields.
    raw: Option<String>,
    /// 0: closed without an answer.
    expect: Vec<u16>,
    /// What must not reach the upstream, in lower case.
    #[serde(default)]
    unseen: Vec<String>,
    /// The required prefix of the path that the upstream sees.
    seen_path: Option<String>,
    /// Allows this refused call to reach the upstream.
    #[serde(default)]
    may_forward: bool,
}

fn victim() -> String {
    "victim".to_owned()
}

fn get() -> String {
    "GET".to_owned()
}

fn slash() -> String {
    "/".to_owned()
}

pub(crate) async fn run(stage: &mut Stage, case: Value) -> Result<Outcome> {
    let shown = case.to_string();
    let case: Case = serde_json::from_value(case).with_context(|| shown)?;
    let mut headers = Vec::new();
    let host = case.host.clone().unwrap_or_else(|| stage.var("victim.host"));
    if !host.is_empty() {
        headers.push(("host".to_owned(), host));
    }
    if let Some(who) = &case.key {
        headers.push(("x-api-key".to_owned(), stage.var(&format!("{who}.key"))));
    }
    headers.extend(case.headers.clone());
    let line = format!("{} {}", case.method, case.path);
    let body = case.text.as_ref().map(String::as_bytes);
    let request = match &case.raw {
        Some(raw) => raw.clone().into_bytes(),
        None => wire::request(&line, &headers, body),
    };
    let before = stage.upstream.calls();
    let answer = wire::send(stage.gateway(&case.gateway), &request).await;
    let forwarded = stage.upstream.calls() - before;
    Ok(Outcome::of(1, answer.and_then(|answer| judge(&case, &answer, forwarded))))
}

fn judge(case: &Case, answer: &Answer, forwarded: u64) -> Result<(), String> {
    if !case.expect.contains(&answer.status) {
        return Err(format!("wanted {:?}, got {}", case.expect, answer.shown()));
    }
    judged(answer, forwarded, case.may_forward, &case.unseen)?;
    let seen = answer.json()["path"].as_str().unwrap_or_default().to_owned();
    match &case.seen_path {
        Some(path) if answer.status == 200 && !seen.starts_with(path) => {
            Err(format!("the upstream saw {seen}"))
        }
        _ => Ok(()),
    }
}

/// The checks for every call, over HTTP/1.1 and HTTP/2.
pub(crate) fn judged(
    answer: &Answer,
    forwarded: u64,
    may_forward: bool,
    unseen: &[String],
) -> Result<(), String> {
    if answer.status != 200 && forwarded > 0 && !may_forward {
        return Err(format!("refused, and {forwarded} reached the upstream: {}", answer.shown()));
    }
    if forwarded > 1 {
        return Err(format!("one call became {forwarded}: {}", answer.shown()));
    }
    // The gateway's own words may name what it refuses.
    if forwarded == 0 {
        return Ok(());
    }
    let seen = answer.body.to_ascii_lowercase();
    match unseen.iter().find(|text| seen.contains(*text)) {
        Some(text) => Err(format!("the upstream saw {text}: {}", answer.shown())),
        None => Ok(()),
    }
}
