//! URLs as they may be shown: without a password.

/// The text, with `***` in place of the password in every URL that is in it: `https://user:***@host/path`. Who has no
/// password may have a token for a name, which is not shown either.
pub fn hidden(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("://") {
        shown.push_str(before);
        shown.push_str("://");
        let ends =
            |c: char| c.is_whitespace() || matches!(c, '/' | '?' | '#' | '"' | '\'' | '`' | '<' | '>' | '(' | ')');
        let (authority, behind) = after.split_at(after.find(ends).unwrap_or(after.len()));
        match authority.rsplit_once('@') {
            Some((user, host)) => {
                if let Some((name, _password)) = user.split_once(':') {
                    shown.push_str(name);
                    shown.push(':');
                }
                shown.push_str("***@");
                shown.push_str(host);
            }
            None => shown.push_str(authority),
        }
        rest = behind;
    }
    shown.push_str(rest);
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_password_is_shown() {
        for (text, shown) in [
            ("https://u:p@host:1/x@y", "https://u:***@host:1/x@y"),
            ("http://host/", "http://host/"),
            ("PUT http://a:b@c@host/x in 3ms - https://t@other", "PUT http://a:***@host/x in 3ms - https://***@other"),
            ("error for url (http://u:p@host)", "error for url (http://u:***@host)"),
            ("s3://bucket/key", "s3://bucket/key"),
            ("://@", "://***@"),
            ("no URL, but a@b", "no URL, but a@b"),
        ] {
            assert_eq!(hidden(text), shown);
        }
    }
}
