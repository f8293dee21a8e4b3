//! Hides the passwords of URLs in logs, answers and output.

/// The text in place of credentials.
pub const HIDDEN: &str = "***";

/// What ends a URL within a text, besides white space.
const ENDS: &[char] = &['"', '<', '>', '`'];

/// The text, with `***` in place of the password in every URL within it: `https://user:***@host/path`. A user name without a
/// password is hidden as well, because it may be a token.
#[must_use]
pub fn urls(text: &str) -> String {
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

/// How many bytes in front of the host are credentials, given what follows `://`.
fn credentials(text: &str) -> Option<usize> {
    let url = &text[..text.find(|c: char| c.is_whitespace() || ENDS.contains(&c)).unwrap_or(text.len())];
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
            ("no URL, but a@b", "no URL, but a@b"),
            ("://@", "://***@"),
            ("", ""),
        ] {
            assert_eq!(urls(text), shown, "{text}");
        }
    }
}
