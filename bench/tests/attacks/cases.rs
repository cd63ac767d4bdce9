//! Cases as data: JSON files with a case for every combination of its `each`, with `${names}`
//! replaced.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use serde::Deserialize;
use serde_json::Value;

/// The values of `${name}`.
pub(crate) type Vars = BTreeMap<String, String>;

/// The target of a file's calls.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Area {
    /// The REST API.
    Rest,
    /// A gateway, raw HTTP/1.1.
    Gateway,
    /// A gateway, raw HTTP/2 frames.
    H2,
    /// The agents' port of the control plane.
    Hub,
    /// The agent's port for Envoys.
    Node,
}

/// One file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct File {
    #[serde(skip)]
    pub(crate) name: String,
    pub(crate) area: Area,
    pub(crate) cases: Vec<Value>,
}

/// The files ordered by name.
pub(crate) fn files() -> Result<Vec<File>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("attacks");
    let mut paths: Vec<_> = std::fs::read_dir(&folder)?
        .map(|entry| Ok(entry?.path()))
        .collect::<std::io::Result<_>>()?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    paths.sort();
    let only = std::env::var("ATTACKS").unwrap_or_default();
    paths.retain(|path| path.to_string_lossy().contains(&only));
    paths.iter().map(|path| read(path)).collect()
}

fn read(path: &Path) -> Result<File> {
    let text = std::fs::read_to_string(path)?;
    let mut file: File = serde_json::from_str(&text).with_context(|| path.display().to_string())?;
    file.name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    Ok(file)
}

/// Every combination of `each`, with a distinct name.
pub(crate) fn expand(case: &Value, vars: &Vars) -> Result<Vec<(String, Value)>> {
    let mut case = case.clone();
    let fields = case.as_object_mut().context("a case is an object")?;
    let name = fields.remove("name").context("a case has a name")?;
    let name = name.as_str().context("a name is text")?.to_owned();
    let each = fields.remove("each").map(serde_json::from_value).transpose()?;
    let each: BTreeMap<String, Vec<String>> = each.unwrap_or_default();
    let mut all = vec![(name.clone(), Vars::new())];
    for (key, values) in each {
        all = all
            .into_iter()
            .flat_map(|(name, chosen)| {
                let key = key.clone();
                values.iter().map(move |value| {
                    let mut chosen = chosen.clone();
                    chosen.insert(key.clone(), value.clone());
                    let shown: String = value.chars().take(40).collect();
                    (format!("{name}, {}", shown.escape_debug()), chosen)
                })
            })
            .collect();
    }
    all.into_iter()
        .map(|(name, chosen)| {
            let lookup = |key: &str| chosen.get(key).or_else(|| vars.get(key)).cloned();
            let mut case = case.clone();
            replace(&mut case, &lookup).with_context(|| name.clone())?;
            Ok((name, case))
        })
        .collect()
}

fn replace(value: &mut Value, lookup: &dyn Fn(&str) -> Option<String>) -> Result<()> {
    match value {
        Value::String(text) => *text = filled(text, lookup)?,
        Value::Array(items) => items.iter_mut().try_for_each(|item| replace(item, lookup))?,
        Value::Object(fields) => {
            let old = std::mem::take(fields);
            for (key, mut value) in old {
                replace(&mut value, lookup)?;
                fields.insert(filled(&key, lookup)?, value);
            }
        }
        _ => {}
    }
    Ok(())
}

/// The end of the name; `\}` does not end it.
fn end(text: &str) -> Option<usize> {
    let mut ends = text.match_indices('}').map(|(at, _)| at);
    ends.find(|at| !text[..*at].ends_with('\\'))
}

/// Replaces innermost names first: `${victim.${kind}}`.
fn filled(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<String> {
    let mut text = text.to_owned();
    while let Some(start) = text.rfind("${") {
        let length = end(&text[start..]).context("no } behind ${")?;
        let name = text[start + 2..start + length].replace("\\}", "}");
        let name = name.as_str();
        let value = match name.split_once(':') {
            Some(("rep", rest)) => {
                let (count, what) = rest.split_once(':').context("rep:COUNT:TEXT")?;
                what.repeat(count.parse()?)
            }
            Some(("params", count)) => {
                let parameters = (0..count.parse::<u32>()?).map(|n| format!("p{n}=1"));
                parameters.collect::<Vec<_>>().join("&")
            }
            Some(("b64", what)) => BASE64.encode(what),
            _ if name == "uuid" => format!("{:032x}", imp_process::random::random::<u128>()),
            _ => match lookup(name) {
                Some(value) => value,
                None => bail!("what is ${{{name}}}?"),
            },
        };
        let before = &text[..start];
        let inside = before.rfind("${").is_some_and(|outer| end(&before[outer..]).is_none());
        let value = if inside { value.replace('}', "\\}") } else { value };
        text.replace_range(start..=start + length, &value);
    }
    Ok(text)
}
