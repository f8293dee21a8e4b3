//! URLs as they may be shown: without a user and a password.

/// The text, with `***` in place of whatever stands before the `@` of a URL's authority, in every URL that is in it.
pub(crate) fn hidden(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("://") {
        shown.push_str(before);
        shown.push_str("://");
        let ends =
            |c: char| c.is_whitespace() || matches!(c, '/' | '?' | '#' | '"' | '\'' | '`' | '<' | '>' | '(' | ')');
        let (authority, behind) = after.split_at(after.find(ends).unwrap_or(after.len()));
        match authority.rsplit_once('@') {
            Some((_user, host)) => {
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
    fn nothing_of_who_asks_is_shown() {
        for (text, shown) in [
            ("https://u:p@host:1/x@y", "https://***@host:1/x@y"),
            ("http://host/", "http://host/"),
            ("PUT http://a:b@c@host/x in 3ms - https://t@other", "PUT http://***@host/x in 3ms - https://***@other"),
            ("error for url (http://u:p@host)", "error for url (http://***@host)"),
            ("s3://bucket/key", "s3://bucket/key"),
            ("://@", "://***@"),
            ("no URL, but a@b", "no URL, but a@b"),
        ] {
            assert_eq!(hidden(text), shown);
        }
    }
}
