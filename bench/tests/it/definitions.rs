//! Real API definitions, published whole through the REST API: each path reaches its own route.

use std::path::Path;

use anyhow::{Context as _, Result};
use imp_bench::edge::Connection;
use imp_bench::sample::{Provider, backend};
use imp_bench::stack::{Options, PATIENCE, Stack};
use serde_json::{Value, json};

use crate::alone::alone;

/// `GET,PUT /path` of each line; the first line names the API.
fn definition(name: &str) -> Result<Vec<(Vec<String>, String)>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/paths");
    let text = std::fs::read_to_string(directory.join(format!("{name}.txt")))?;
    let line = |line: &str| {
        let (methods, path) = line.split_once(' ').context("methods and a path")?;
        Ok((methods.split(',').map(str::to_owned).collect(), path.to_owned()))
    };
    text.lines().filter(|line| !line.starts_with('#')).map(line).collect()
}

/// The host that the upstream sees for each route.
fn host_of(place: usize) -> String {
    format!("r{place}.route.test")
}

fn service(stack: &Stack, name: &str, paths: &[(Vec<String>, String)]) -> Value {
    let route = |(place, (methods, path)): (usize, &(Vec<String>, String))| {
        json!({
            "name": format!("r{place}"), "path": { "template": path }, "methods": methods,
            "backend_id": "upstream", "rewrite": { "host": host_of(place) },
        })
    };
    let routes: Vec<_> = paths.iter().enumerate().map(route).collect();
    json!({ "name": name, "backends": [backend(stack)], "routes": routes })
}

/// The path with a value for every variable that no other path has as text.
fn filled(template: &str) -> String {
    let mut parts = template.split('{');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.enumerate().fold(first, |path, (count, part)| {
        format!("{path}value-{count}{}", part.split_once('}').map_or("", |(_, rest)| rest))
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn definitions_of_real_apis_are_published_whole_and_every_path_is_served() -> Result<()> {
    let _turn = alone().await;
    let stack = Stack::start(Options::default()).await?;
    let provider = Provider::create(&stack, "acme").await?;
    let mut calls = 0;
    for (name, least) in [("petstore", 13), ("twilio", 116), ("kubernetes", 520), ("github", 900)] {
        let paths = definition(name)?;
        assert!(paths.len() >= least, "{name}: {} paths", paths.len());
        let service_id = provider.service(&service(&stack, name, &paths)).await?;
        let product = provider.product(name, &[service_id]).await?;
        let host = format!("{name}.example.com");
        let publish = provider.publish(&product, &host, "none").await?;
        stack.publish_reaches(&publish, "active", PATIENCE).await?;
        let mut caller = Connection::open(provider.address()).await?;
        for (place, (methods, path)) in paths.iter().enumerate() {
            // The answer to HEAD has no body with the route's name.
            for method in methods.iter().filter(|method| *method != "HEAD") {
                let call = filled(path);
                let answer = caller.send(method, &host, &call, &[("content-length", "0")]).await?;
                assert_eq!(answer.status, 200, "{name}: {method} {call}");
                let seen = answer.json()["headers"]["host"].clone();
                assert_eq!(seen, host_of(place), "{name}: {method} {call} is {path}");
                calls += 1;
            }
        }
    }
    assert!(calls > 2_000, "{calls}");
    Ok(())
}
