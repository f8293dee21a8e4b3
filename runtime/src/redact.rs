//! Hides the credentials of URLs in logs, answers and output: passwords, and the signatures of presigned ones.

/// The text in place of credentials.
pub const HIDDEN: &str = "***";

/// The parameters of presigned URLs: those that OpenTelemetry's conventions for URLs redact by default.
pub const SIGNATURES: [&str; 7] = [
    "AWSAccessKeyId",
    "Signature",
    "X-Amz-Credential",
    "X-Amz-Security-Token",
    "X-Amz-Signature",
    "X-Goog-Signature",
    "sig",
];

/// What ends a URL within a text, besides white space.
const ENDS: &[char] = &['"', '<', '>', '`'];

/// The text, with `***` in place of the password in every URL within it: `https://user:***@host/path`. A user name without a
/// password is hidden as well, because it may be a token, and so are the values of [`SIGNATURES`].
#[must_use]
pub fn urls(text: &str) -> String {
    signatures(&passwords(text))
}

fn signatures(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("://") {
        let (url, behind) = after.split_at(length(after));
        shown.push_str(before);
        shown.push_str("://");
        for (place, part) in url.split_inclusive(['?', '&']).enumerate() {
            let end = part.len() - usize::from(part.ends_with(['?', '&']));
            let value = part[..end].split_once('=').filter(|(name, _)| place > 0 && SIGNATURES.contains(name));
            match value {
                Some((name, _)) => shown.extend([name, "=", HIDDEN, &part[end..]]),
                None => shown.push_str(part),
            }
        }
        rest = behind;
    }
    shown.push_str(rest);
    shown
}

fn passwords(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("://") {
        shown.push_str(before);
        shown.push_str("://");
        rest = match credentials(after) {
            Some(length) => {
                if let Some((user, _password)) = after[..length].split_once(':') {
                    shown.push_str(user);
                    shown.push(':');
                }
                shown.push_str(HIDDEN);
                &after[length..]
            }
            None => after,
        };
    }
    shown.push_str(rest);
    shown
}

/// The length of the URL with which the text begins, given what follows `://`.
fn length(text: &str) -> usize {
    text.find(|c: char| c.is_whitespace() || ENDS.contains(&c)).unwrap_or(text.len())
}

/// How many bytes in front of the host are credentials, given what follows `://`.
fn credentials(text: &str) -> Option<usize> {
    let url = &text[..length(text)];
    let authority = &url[..url.find(['/', '?', '#', '\\']).unwrap_or(url.len())];
    if let Some(at) = authority.rfind('@') {
        return Some(at);
    }
    // A password with a slash makes the URL invalid, and errors show such URLs. It is recognised by a port that is no number.
    let no_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.contains(|c: char| !c.is_ascii_digit()));
    url.rfind('@').filter(|_| no_port && !authority.ends_with(']'))
}

#[cfg(test)]
mod tests {
    use super::urls;

    #[test]
    fn no_password_is_shown_and_all_else_is() {
        for (text, shown) in [
            ("http://user:s3cret@proxy:3128/", "http://user:***@proxy:3128/"),
            ("socks5://t0ken@proxy", "socks5://***@proxy"),
            ("http://user:p@ss@proxy", "http://user:***@proxy"),
            ("https://user:s3/cr?t@host/path", "https://user:***@host/path"),
            ("PUT http://a:b@c@host/x in 3ms - https://t@other", "PUT http://a:***@host/x in 3ms - https://***@other"),
            ("error for url (http://u:p@host)", "error for url (http://u:***@host)"),
            ("http://u:***@host", "http://u:***@host"),
            ("https://host:9000/a@b", "https://host:9000/a@b"),
            ("https://[2001:db8::1]/a@b", "https://[2001:db8::1]/a@b"),
            (r#"{"url":"http://host","to":"a@b"}"#, r#"{"url":"http://host","to":"a@b"}"#),
            (r#"{"url":"http://u:p@host"}"#, r#"{"url":"http://u:***@host"}"#),
            ("s3://bucket/key", "s3://bucket/key"),
            ("https://host/a?sv=1&sig=s3%3Dcret&se=2", "https://host/a?sv=1&sig=***&se=2"),
            ("https://u:p@host/a?X-Amz-Signature=s3cret: 403", "https://u:***@host/a?X-Amz-Signature=*** 403"),
            (r#"{"url":"http://host/?Signature=s"}"#, r#"{"url":"http://host/?Signature=***"}"#),
            ("GET http://a/?sig=s - http://b/sig=1?signal=2&c", "GET http://a/?sig=*** - http://b/sig=1?signal=2&c"),
            ("no URL, but a?sig=b", "no URL, but a?sig=b"),
            ("no URL, but a@b", "no URL, but a@b"),
            ("://@", "://***@"),
            ("", ""),
        ] {
            assert_eq!(urls(text), shown, "{text}");
        }
    }
}
