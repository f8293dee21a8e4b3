//! The static table (RFC 7541 appendix A).

/// Name and value of every entry; the first one has the index 1.
pub(super) const ENTRIES: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

/// The index of the entry with the name of a field of a request, if there is one that saves more than it costs to find.
pub(super) fn index_of(name: &[u8]) -> Option<u32> {
    Some(match name {
        b"accept" => 19,
        b"accept-encoding" => 16,
        b"accept-language" => 17,
        b"authorization" => 23,
        b"cache-control" => 24,
        b"content-encoding" => 26,
        b"content-length" => 28,
        b"content-type" => 31,
        b"cookie" => 32,
        b"date" => 33,
        b"etag" => 34,
        b"if-match" => 39,
        b"if-none-match" => 41,
        b"link" => 45,
        b"location" => 46,
        b"range" => 50,
        b"referer" => 51,
        b"user-agent" => 58,
        b"via" => 60,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_are_those_of_the_table() {
        assert_eq!((ENTRIES[1].1, ENTRIES[7], ENTRIES[60].0), ("GET", (":status", "200"), "www-authenticate"));
        let mut found = 0;
        for (place, (name, _)) in ENTRIES.iter().enumerate() {
            if let Some(index) = index_of(name.as_bytes()) {
                assert_eq!(index as usize, place + 1, "{name}");
                found += 1;
            }
        }
        assert_eq!(found, 19);
    }
}
