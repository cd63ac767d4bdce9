//! Publishes of many routes: what tools make of real definitions, and what they do not have.

use std::path::Path;

use anyhow::{Context as _, Result};
use imp_grammar::path::Pattern;
use imp_grammar::routes::{self, Rank};
use serde_json::{Value, json};

use crate::sample::backend;
use crate::stack::Stack;

/// A route by its path.
#[derive(Clone, Debug)]
pub struct Operation {
    /// As in a `template`.
    pub path: String,
    /// What it takes.
    pub methods: Vec<String>,
}

impl Operation {
    fn get(path: String) -> Self {
        Self { path, methods: vec!["GET".to_owned()] }
    }

    /// A path that it takes: with a value for every variable that no other path has as text.
    pub fn call(&self) -> String {
        let mut parts = self.path.split('{');
        let first = parts.next().unwrap_or_default().to_owned();
        parts.enumerate().fold(first, |path, (count, part)| {
            format!("{path}value-{count}{}", part.split_once('}').map_or("", |(_, rest)| rest))
        })
    }

    /// A method that it takes and that has an answer with a body.
    pub fn method(&self) -> &str {
        self.methods.iter().find(|method| *method != "HEAD").map_or("GET", String::as_str)
    }

    /// Where it stands in the order in which routes are tried.
    fn rank(&self) -> Result<Rank> {
        let path = Pattern::template(&self.path)?;
        let methods = self.methods.iter().map(String::as_str).collect();
        let route = routes::Route { priority: 0, path, methods, headers: vec![], query: vec![] };
        Ok(routes::rank(&route))
    }
}

/// `GET,PUT /path` of each line of a file in `tests/data/paths`; the first line says of what.
pub fn definition(name: &str) -> Result<Vec<Operation>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/paths");
    let text = std::fs::read_to_string(directory.join(format!("{name}.txt")))?;
    let line = |line: &str| {
        let (methods, path) = line.split_once(' ').context("methods and a path")?;
        let methods = methods.split(',').map(str::to_owned).collect();
        Ok(Operation { path: path.to_owned(), methods })
    };
    text.lines().filter(|line| !line.starts_with('#')).map(line).collect()
}

/// So many routes in the order in which they are tried: GitHub's, Kubernetes' below a path of their own,
/// the rest literal paths and templates in turns.
pub fn many(count: usize) -> Result<Vec<Operation>> {
    let mut all = definition("github")?;
    let below = |it: Operation| Operation { path: format!("/kubernetes{}", it.path), ..it };
    all.extend(definition("kubernetes")?.into_iter().map(below));
    let generated = (0..count).map(|index| match index % 2 {
        0 => Operation::get(format!("/reports/of-{index}/summary")),
        _ => Operation::get(format!("/shops/{{shop}}/shelves/of-{index}/items/{{item}}")),
    });
    all.extend(generated);
    all.truncate(count);
    let mut ranked = all
        .into_iter()
        .map(|it| Ok((it.rank()?, Pattern::template(&it.path)?.shape(), it)))
        .collect::<Result<Vec<_>>>()?;
    ranked.sort_by(|(a, first, _), (b, second, _)| (a, first).cmp(&(b, second)));
    Ok(ranked.into_iter().map(|(_, _, operation)| operation).collect())
}

/// The upstream sees each route under a host of its own.
pub fn host_of(place: usize) -> String {
    format!("r{place}.route.test")
}

/// A service with a route for each of these, named and told apart by its place.
pub fn service<'a>(
    stack: &Stack,
    name: &str,
    operations: impl IntoIterator<Item = (usize, &'a Operation)>,
) -> Value {
    let route = |(place, operation): (usize, &Operation)| {
        json!({
            "name": format!("r{place}"), "path": { "template": operation.path },
            "methods": operation.methods, "backend_id": "upstream",
            "rewrite": { "host": host_of(place) },
        })
    };
    let routes: Vec<_> = operations.into_iter().map(route).collect();
    json!({ "name": name, "backends": [backend(stack)], "routes": routes })
}
