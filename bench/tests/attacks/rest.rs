//! Calls of the REST API.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde::Deserialize;
use serde_json::Value;

use super::Outcome;
use super::stage::{MARK, Stage};
use super::wire::{self, Answer, unhex};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    /// The owner of the token; `nobody` sends none.
    #[serde(default = "attacker")]
    who: String,
    #[serde(default = "get")]
    method: String,
    path: String,
    #[serde(default)]
    headers: Vec<(String, String)>,
    json: Option<Value>,
    text: Option<String>,
    hex: Option<String>,
    /// 0: closed without an answer.
    expect: Vec<u16>,
    /// The code of the problem document.
    code: Option<String>,
    /// Names of variables, and JSON pointers into the answer.
    #[serde(default)]
    save: BTreeMap<String, String>,
    /// Prepares the next case, and is not counted.
    #[serde(default)]
    setup: bool,
    #[serde(default = "within")]
    within_ms: u64,
}

fn attacker() -> String {
    "attacker".to_owned()
}

fn get() -> String {
    "GET".to_owned()
}

/// For a debug build on a busy machine; calls that block for minutes are still found.
fn within() -> u64 {
    5_000
}

pub(crate) async fn run(stage: &mut Stage, case: Value) -> Result<Outcome> {
    let shown = case.to_string();
    let case: Case = serde_json::from_value(case).with_context(|| shown.clone())?;
    let mut headers = vec![("host".to_owned(), "control".to_owned())];
    if case.who != "nobody" {
        let token = stage.vars.get(&format!("token.{}", case.who));
        let token = token.with_context(|| format!("nobody is called {}", case.who))?;
        headers.push(("authorization".to_owned(), format!("Bearer {token}")));
    }
    let body = match (&case.json, &case.text, &case.hex) {
        (Some(json), ..) => Some(json.to_string().into_bytes()),
        (_, Some(text), _) => Some(text.clone().into_bytes()),
        (.., hex) => hex.as_deref().map(unhex),
    };
    let typed = case.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type"));
    if body.is_some() && !typed {
        headers.push(("content-type".to_owned(), "application/json".to_owned()));
    }
    headers.extend(case.headers.clone());
    let line = format!("{} {}", case.method, case.path);
    let request = wire::request(line.trim_end(), &headers, body.as_deref());
    let started = Instant::now();
    let answer = wire::send(stage.rest(), &request).await;
    let took = started.elapsed();
    let judged = answer.and_then(|answer| {
        let judged = judge(&case, &answer, took);
        for (name, pointer) in &case.save {
            let Some(value) = answer.json().pointer(pointer).cloned() else {
                return Err(format!("no {pointer} to save: {}", answer.shown()));
            };
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            stage.vars.insert(name.clone(), value);
        }
        judged
    });
    if case.setup {
        judged.map_err(anyhow::Error::msg).with_context(|| shown)?;
        return Ok(Outcome { calls: 0, failure: None });
    }
    Ok(Outcome::of(1, judged))
}

fn judge(case: &Case, answer: &Answer, took: Duration) -> Result<(), String> {
    if !case.expect.contains(&answer.status) {
        return Err(format!("wanted {:?}, got {}", case.expect, answer.shown()));
    }
    if !case.setup && (answer.head.contains(MARK) || answer.body.contains(MARK)) {
        return Err(format!("another tenant's text is in the answer: {}", answer.shown()));
    }
    if took > Duration::from_millis(case.within_ms) {
        return Err(format!("took {took:?}"));
    }
    let code = answer.json()["code"].as_str().unwrap_or_default().to_owned();
    if let Some(wanted) = case.code.as_deref().filter(|wanted| *wanted != code) {
        return Err(format!("wanted {wanted}, got {}", answer.shown()));
    }
    // Hyper answers requests that it cannot parse without a document; the same for HEAD.
    let parsed = answer.header("x-request-id").is_some() && case.method != "HEAD";
    if answer.status >= 400 && parsed && code.is_empty() {
        return Err(format!("no problem document: {}", answer.shown()));
    }
    Ok(())
}
