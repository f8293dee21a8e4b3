//! The URL of a list of endpoints, whose credentials are never shown.

use std::fmt;
use std::str::FromStr;

use reqwest::Url;
use runtime::redact;

/// An `http` or `https` URL. A user and a password in it are sent as `Basic` credentials.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ListUrl(Url);

/// Why a text is not the URL of a list. Credentials in it are not shown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{shown:?} is not the URL of a list of endpoints: {why}")]
pub struct InvalidListUrl {
    shown: String,
    why: String,
}

// === impl ListUrl ===

impl ListUrl {
    pub(super) fn url(&self) -> &Url {
        &self.0
    }

    pub(super) fn is_protected(&self) -> bool {
        self.0.scheme() == "https"
    }
}

impl FromStr for ListUrl {
    type Err = InvalidListUrl;

    fn from_str(text: &str) -> Result<Self, InvalidListUrl> {
        let invalid = |why: &str| {
            let bare = text.rsplit_once('@').filter(|_| !text.contains("://"));
            let shown = bare.map_or_else(|| redact::urls(text), |(_, host)| format!("{}@{host}", redact::HIDDEN));
            InvalidListUrl { shown, why: why.to_owned() }
        };
        const EXPECTED: &str = "write http://host:port/path or https://host/path";
        if !text.contains("://") {
            return Err(invalid(EXPECTED));
        }
        let mut url = Url::parse(text).map_err(|error| invalid(&format!("{error}; {EXPECTED}")))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(invalid(EXPECTED));
        }
        url.set_fragment(None);
        Ok(Self(url))
    }
}

impl fmt::Display for ListUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&redact::urls(self.0.as_str()))
    }
}

impl fmt::Debug for ListUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_http_or_https_and_shows_no_credentials() {
        for (text, shown) in [
            ("http://a.example:8080/targets?job=cache#top", "http://a.example:8080/targets?job=cache"),
            ("https://user:s3cret@a.example", "https://user:***@a.example/"),
            ("https://s3cret@a.example/x", "https://***@a.example/x"),
            ("http://user:s3%2Fcret@[2001:db8::1]/", "http://user:***@[2001:db8::1]/"),
        ] {
            let url: ListUrl = text.parse().expect(text);
            assert_eq!((url.to_string(), format!("{url:?}")), (shown.to_owned(), shown.to_owned()));
        }
        for text in [
            "",
            "a.example/targets",
            "user:s3cret@a.example/targets",
            "file:///etc/s3cret",
            "ftp://user:s3cret@a.example/",
            "http://",
            "http://user:s3cret@a.example:99999/",
            "http://user:s3cret@a b/",
        ] {
            let error = text.parse::<ListUrl>().expect_err(text).to_string();
            assert!(error.contains("http://host:port/path"), "{error}");
            assert!(!error.contains("user:s3cret"), "{error}");
        }
    }
}
