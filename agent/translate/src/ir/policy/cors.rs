//! `cors`.

use imp_grammar::origin::{self, Origin};
use imp_proto::config as pb;

use crate::ir::error::{ParseError, each};
use crate::ir::grammar::{self, Fault};

/// What pages of other origins may do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Cors {
    /// At least one.
    pub origins: Vec<Origin>,
    /// At least one.
    pub methods: Vec<String>,
    /// In lower case.
    pub headers: Vec<String>,
    /// In lower case.
    pub exposed: Vec<String>,
    /// Seconds that a browser may cache a preflight's answer; the browser's default when absent.
    pub max_age_seconds: Option<u32>,
    /// Whether cookies may be sent.
    pub credentials: bool,
}

pub(super) fn parse(message: &pb::Cors) -> Result<Cors, ParseError> {
    let of = |text: &str| origin::parse(text).map_err(|_| Fault::Text(grammar::short(text)));
    let origins = each("allow_origins", &message.allow_origins, of)?;
    if origins.is_empty() {
        return Err(ParseError::new("allow_origins", Fault::Missing));
    }
    if message.allow_credentials && origins.contains(&Origin::Any) {
        let fault = Fault::Unsupported("credentials from any origin");
        return Err(ParseError::new("allow_credentials", fault));
    }
    let mut methods = each("allow_methods", &message.allow_methods, grammar::method)?;
    if methods.is_empty() {
        methods = grammar::METHODS.map(str::to_owned).to_vec();
    }
    Ok(Cors {
        origins,
        methods,
        headers: each("allow_headers", &message.allow_headers, grammar::header_name)?,
        exposed: each("expose_headers", &message.expose_headers, grammar::header_name)?,
        max_age_seconds: message.max_age_seconds,
        credentials: message.allow_credentials,
    })
}
