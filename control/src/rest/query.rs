//! Query parameters: each once, none unknown, and the two of every list.

use axum::extract::Query as Raw;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use http::Uri;
use imp_core::TenantId;
use imp_core::secret::SecretHash;
use imp_store::Page;
use serde::de::DeserializeOwned;
use serde::de::IntoDeserializer as _;
use serde::de::value::{Error, StrDeserializer};
use uuid::Uuid;

use crate::problem::Problem;

/// Parameters not looked at so far.
#[derive(Clone, Debug, Default)]
pub struct Query(Vec<(String, String)>);

const DEFAULT_PAGE: i64 = 50;
const MAX_PAGE: i64 = 200;

impl Query {
    pub fn parse(raw: &str) -> Result<Self, Problem> {
        let uri: Uri = format!("/?{raw}").parse().map_err(|_| unreadable("", "not a query"))?;
        let Raw(pairs) = Raw::<Vec<(String, String)>>::try_from_uri(&uri)
            .map_err(|error| unreadable("", &error.to_string()))?;
        for (index, (key, _)) in pairs.iter().enumerate() {
            if pairs.iter().skip(index + 1).any(|(other, _)| other == key) {
                return Err(unreadable(key, "given twice"));
            }
        }
        Ok(Self(pairs))
    }

    fn text(&mut self, name: &str) -> Option<String> {
        let at = self.0.iter().position(|(key, _)| key == name)?;
        Some(self.0.swap_remove(at).1)
    }

    /// A parameter of any type that is one word in JSON: an id, a status, a name.
    pub fn take<T: DeserializeOwned>(&mut self, name: &str) -> Result<Option<T>, Problem> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let words: StrDeserializer<'_, Error> = text.as_str().into_deserializer();
        T::deserialize(words).map(Some).map_err(|error| unreadable(name, &error.to_string()))
    }

    pub fn take_tenant(&mut self) -> Result<Option<TenantId>, Problem> {
        self.take("tenant_id")
    }

    /// The page asked for. A token is good for the same list with the same filters only.
    pub fn page(&mut self, list: &str) -> Result<PageOf, Problem> {
        let list = format!("{list}?{}", self.filters());
        let size = match self.text("page_size") {
            None => DEFAULT_PAGE,
            Some(text) => match text.parse::<i64>() {
                Ok(size) if size >= 1 => size.min(MAX_PAGE),
                _ => return Err(unreadable("page_size", "1 to 200")),
            },
        };
        let after = self.text("page_token").map(|token| open(&token, &list)).transpose()?;
        Ok(PageOf { size, after, list })
    }

    /// What makes two lists the same list: every parameter but the page's.
    fn filters(&self) -> String {
        let mut kept: Vec<String> = self
            .0
            .iter()
            .filter(|(key, _)| !key.starts_with("page_"))
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        kept.sort();
        kept.join("&")
    }

    /// A parameter nobody knows is a typing error, and silence about it would be a wrong answer.
    pub fn check(&self, known: &[&str]) -> Result<(), Problem> {
        match self.0.iter().find(|(key, _)| !known.contains(&key.as_str())) {
            None => Ok(()),
            Some((key, _)) => Err(Problem::unreadable(
                "unknown_parameter",
                format!("there is no query parameter '{key}' here"),
            )),
        }
    }
}

/// A page of a list.
pub struct PageOf {
    size: i64,
    after: Option<Uuid>,
    list: String,
}

impl PageOf {
    /// One more than asked for, to see whether there is a next page.
    pub fn to_fetch(&self) -> Page {
        Page { after: self.after, limit: self.size + 1 }
    }

    /// Cuts the extra item off and names the next page, if there is one.
    pub fn cut<T>(&self, items: &mut Vec<T>, id: impl Fn(&T) -> Uuid) -> Option<String> {
        let size = usize::try_from(self.size).unwrap_or(usize::MAX);
        if items.len() <= size {
            return None;
        }
        items.truncate(size);
        items.last().map(|last| close(id(last), &self.list))
    }
}

/// Position and a mark of the list it belongs to.
fn close(after: Uuid, list: &str) -> String {
    BASE64.encode([after.as_bytes().as_slice(), &mark(list)].concat())
}

fn open(token: &str, list: &str) -> Result<Uuid, Problem> {
    let wrong = || {
        let detail = "this page_token is not one of this list with these filters";
        Problem::unreadable("invalid_page_token", detail)
    };
    let bytes = BASE64.decode(token).map_err(|_| wrong())?;
    let (id, seal) = bytes.split_at_checked(16).ok_or_else(wrong)?;
    if seal != mark(list) {
        return Err(wrong());
    }
    Uuid::from_slice(id).map_err(|_| wrong())
}

fn mark(list: &str) -> Vec<u8> {
    SecretHash::of(list).0.iter().take(8).copied().collect()
}

fn unreadable(name: &str, why: &str) -> Problem {
    Problem::unreadable("invalid_parameter", format!("query parameter {name}: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_token_opens_its_own_list_only() {
        let id = Uuid::now_v7();
        let token = close(id, "plans?a=1");
        assert_eq!(open(&token, "plans?a=1").ok(), Some(id));
        assert!(open(&token, "plans?a=2").is_err());
        assert!(open("x", "plans?a=1").is_err());
        assert!(open("", "plans?a=1").is_err());
    }

    #[test]
    fn a_parameter_given_twice_is_refused() {
        assert!(Query::parse("a=1&a=2").is_err());
        assert!(Query::parse("a=1&b=2").is_ok());
    }
}
