//! Query parameters: each at most once, none unknown, with the two paging parameters of every list.

use std::collections::HashSet;

use axum::extract::Query as Raw;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use http::Uri;
use imp_core::TenantId;
use imp_core::secret::SecretHash;
use imp_grammar::caps;
use imp_store::Page;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde::de::IntoDeserializer as _;
use serde::de::value::{Error, StrDeserializer};
use uuid::Uuid;

use crate::problem::Problem;
use crate::rest::param::Param;
use crate::rest::reply::Reply;

/// The parameters not yet taken.
#[derive(Clone, Debug, Default)]
pub struct Query(Vec<(String, String)>);

pub const DEFAULT_PAGE: usize = 50;

impl Query {
    pub fn parse(raw: &str) -> Result<Self, Problem> {
        // Counted on the raw text, so that nothing is decoded if there are too many.
        if !caps::QUERY_PARAMETERS.admits(raw.split('&').filter(|part| !part.is_empty()).count()) {
            let detail = format!("at most {} query parameters", caps::QUERY_PARAMETERS.value);
            return Err(Problem::unreadable("too_many_parameters", detail));
        }
        let uri: Uri = format!("/?{raw}").parse().map_err(|_| unreadable("", "not a query"))?;
        let Raw(pairs) = Raw::<Vec<(String, String)>>::try_from_uri(&uri)
            .map_err(|error| unreadable("", &error.to_string()))?;
        let mut seen = HashSet::with_capacity(pairs.len());
        match pairs.iter().find(|(key, _)| !seen.insert(key.as_str())) {
            Some((key, _)) => Err(unreadable(key, "given twice")),
            None => Ok(Self(pairs)),
        }
    }

    fn text(&mut self, name: &str) -> Option<String> {
        let at = self.0.iter().position(|(key, _)| key == name)?;
        Some(self.0.swap_remove(at).1)
    }

    /// Takes a parameter of any type that is one string in JSON: an id, a status, a name.
    pub fn take<T: DeserializeOwned>(&mut self, name: &str) -> Result<Option<T>, Problem> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let words: StrDeserializer<'_, Error> = text.as_str().into_deserializer();
        T::deserialize(words).map(Some).map_err(|error| unreadable(name, &error.to_string()))
    }

    pub fn take_tenant(&mut self) -> Result<Option<TenantId>, Problem> {
        self.take("tenant_id")
    }

    /// Takes the paging parameters. A page token is valid only for the same list with the same
    /// filters.
    pub fn page(&mut self, list: &str) -> Result<PageOf, Problem> {
        let list = format!("{list}?{}", self.filters());
        let size = match self.text("page_size") {
            None => DEFAULT_PAGE,
            Some(text) => match text.parse::<usize>() {
                Ok(size) if size >= 1 => size.min(caps::PAGE_ITEMS.size()),
                _ => return Err(unreadable("page_size", "1 to 200")),
            },
        };
        let after = self.text("page_token").map(|token| open(&token, &list)).transpose()?;
        Ok(PageOf { size, after, list })
    }

    /// Identifies the list: every parameter but the paging ones.
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

    /// Refuses unknown parameters: they are typing errors, and ignoring them would give a wrong
    /// answer.
    pub fn check(&self, known: &[Param]) -> Result<(), Problem> {
        match self.0.iter().find(|(key, _)| !known.iter().any(|param| param.name == key)) {
            None => Ok(()),
            Some((key, _)) => Err(Problem::unreadable(
                "unknown_parameter",
                format!("there is no query parameter '{key}' here"),
            )),
        }
    }
}

/// The page of a list that is asked for.
pub struct PageOf {
    size: usize,
    after: Option<Uuid>,
    list: String,
}

impl PageOf {
    /// The id after which the page begins.
    pub fn after(&self) -> Option<Uuid> {
        self.after
    }

    /// The token of the page that begins after this id.
    pub fn token_behind(&self, id: Uuid) -> String {
        close(id, &self.list)
    }

    /// Begins writing the page.
    pub fn sheet(self) -> Sheet {
        let body = b"{\"items\":[".to_vec();
        Sheet { after: self.after, page: self, count: 0, body, state: Progress::Open }
    }
}

/// A page being written: it ends when it has the requested number of items, or before the item that
/// would make it too large.
pub struct Sheet {
    page: PageOf,
    after: Option<Uuid>,
    count: usize,
    body: Vec<u8>,
    state: Progress,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    Open,
    /// There are no more items.
    Last,
    /// There are more items.
    Full,
}

impl Sheet {
    /// What to read next, at most `portion` items; `None` when the page is complete.
    pub fn to_fetch(&self, portion: i64) -> Option<Page> {
        // One more than fits, to see whether there is a next page.
        let left = i64::try_from(self.page.size + 1 - self.count).unwrap_or(i64::MAX);
        (self.state == Progress::Open).then(|| Page { after: self.after, limit: left.min(portion) })
    }

    /// Adds the items of a portion.
    pub fn add<'a, T: Serialize + 'a>(
        &mut self,
        portion: Page,
        items: impl Iterator<Item = (Uuid, &'a T)>,
    ) -> Result<(), Problem> {
        let mut came = 0;
        for (id, item) in items {
            came += 1;
            let text = serde_json::to_vec(item).map_err(Problem::internal)?;
            let fits = caps::PAGE_BYTES.admits(self.body.len() + text.len());
            if self.count == self.page.size || (self.count > 0 && !fits) {
                self.state = Progress::Full;
                return Ok(());
            }
            if self.count > 0 {
                self.body.push(b',');
            }
            self.body.extend(text);
            self.count += 1;
            self.after = Some(id);
        }
        if came < portion.limit {
            self.state = Progress::Last;
        }
        Ok(())
    }

    /// The page, with the token of the next one if there is one.
    pub fn reply(self) -> Reply {
        let Self { page, after, mut body, state, .. } = self;
        body.push(b']');
        if let (Progress::Full, Some(last)) = (state, after) {
            let token = page.token_behind(last);
            body.extend(format!(",\"next_page_token\":\"{token}\"").into_bytes());
        }
        body.push(b'}');
        Reply::json(body)
    }
}

/// Encodes the position with a hash of the list it belongs to.
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
