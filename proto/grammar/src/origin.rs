//! Origins of web pages (RFC 6454), as used by CORS policies.

/// Any origin.
pub const ANY: &str = "*";

/// A set of origins.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// All origins.
    Any,
    /// This origin.
    Exact(String),
    /// The origins of all names below a domain.
    Below {
        /// `https://`
        scheme: String,
        /// `.example.com`, followed by `:8443` if there is a port.
        domain: String,
    },
}

/// Parses `https://app.example.com`, `http://localhost:3000`, `https://*.example.com` or `*`: in
/// lower case, as browsers write them, without a path and without the scheme's default port.
pub fn parse(text: &str) -> Result<Origin, &'static str> {
    const FORM: &str = "an origin such as https://app.example.com or https://*.example.com, or '*'";
    if text == ANY {
        return Ok(Origin::Any);
    }
    let (scheme, rest) = text.split_once("://").ok_or(FORM)?;
    let default_port = match scheme {
        "https" => "443",
        "http" => "80",
        _ => return Err("the scheme is http or https"),
    };
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (rest, None),
    };
    if let Some(port) = port {
        let number = port.parse::<u16>().ok().filter(|number| number.to_string() == port);
        match number {
            Some(0) | None => return Err("the port is 1 to 65535"),
            Some(_) if port == default_port => return Err("browsers leave this port out"),
            Some(_) => {}
        }
    }
    let (name, below) = match host.strip_prefix("*.") {
        Some(name) => (name, true),
        None => (host, false),
    };
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if name.len() > 253 || !name.split('.').all(label) {
        return Err(FORM);
    }
    if !below {
        return Ok(Origin::Exact(text.to_owned()));
    }
    let (scheme, domain) = (format!("{scheme}://"), rest.trim_start_matches('*').to_owned());
    Ok(Origin::Below { scheme, domain })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_what_browsers_send() {
        for good in ["https://a.example", "http://localhost:3000", "http://127.0.0.1:8080"] {
            assert_eq!(parse(good), Ok(Origin::Exact(good.to_owned())));
        }
        assert_eq!(parse("*"), Ok(Origin::Any));
        let below = |scheme: &str, domain: &str| {
            Ok(Origin::Below { scheme: scheme.to_owned(), domain: domain.to_owned() })
        };
        assert_eq!(parse("https://*.example.com"), below("https://", ".example.com"));
        assert_eq!(parse("http://*.test:81"), below("http://", ".test:81"));
        for bad in [
            "",
            "null",
            "example.com",
            "https://",
            "https://A.example",
            "https://a.example/",
            "https://a.example:443",
            "http://a.example:80",
            "https://a.example:0",
            "https://a.example:080",
            "https://a..example",
            "https://*",
            "https://*.",
            "https://a*.b",
            "ftp://a.example",
            "https://u@a.example",
            "https://**.example",
            "https://a.example:x",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
