//! Finds the end of a head as its bytes come in, and refuses what no head may hold before anything else looks at it:
//! a line that does not end in CRLF, more lines or bytes than allowed.

/// Scans a head piece by piece; no byte is looked at twice, however slowly the head drips in.
#[derive(Clone, Copy, Debug, Default)]
pub struct HeadScanner {
    scanned: usize,
    line_start: usize,
    lines: usize,
}

/// What a scan found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scan {
    /// The head has this many bytes, the empty line included.
    Complete(usize),
    /// More bytes are needed.
    Partial,
}

/// Why the bytes are no head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overrun {
    /// The first line is longer than allowed.
    FirstLine,
    /// The head has more bytes than allowed.
    Bytes,
    /// The head has more fields than allowed.
    Fields,
    /// A line feed without a carriage return before it (RFC 9112 section 2.2).
    BareLineFeed,
}

/// What a head may hold at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of the first line, CRLF included.
    pub first_line: usize,
    /// Bytes of the whole head.
    pub bytes: usize,
    /// Header fields.
    pub fields: usize,
}

impl HeadScanner {
    /// Whether nothing has been scanned yet.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        self.scanned == 0
    }

    /// Goes on with the scan; `buffer` begins with the first byte of the head and only grows between calls.
    ///
    /// # Errors
    /// [`Overrun`] as soon as the bytes cannot become an acceptable head, whether or not it is complete.
    pub fn scan(&mut self, buffer: &[u8], bounds: &Bounds) -> Result<Scan, Overrun> {
        while let Some(found) = memchr::memchr(b'\n', &buffer[self.scanned..]) {
            let line_feed = self.scanned + found;
            if line_feed == self.line_start || buffer[line_feed - 1] != b'\r' {
                return Err(Overrun::BareLineFeed);
            }
            let empty = line_feed - 1 == self.line_start;
            self.scanned = line_feed + 1;
            self.check(self.scanned, bounds)?;
            if empty {
                return Ok(Scan::Complete(self.scanned));
            }
            self.line_start = self.scanned;
            self.lines += 1;
        }
        self.scanned = buffer.len();
        self.check(buffer.len(), bounds)?;
        Ok(Scan::Partial)
    }

    fn check(&self, seen: usize, bounds: &Bounds) -> Result<(), Overrun> {
        if self.lines == 0 && seen > bounds.first_line {
            Err(Overrun::FirstLine)
        } else if seen > bounds.bytes {
            Err(Overrun::Bytes)
        } else if self.lines > bounds.fields && seen > self.line_start + 2 {
            // The first line and all the fields allowed are complete, and this is not the empty line.
            Err(Overrun::Fields)
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan_all(input: &[u8], first_line: usize, bytes: usize, fields: usize) -> Result<Scan, Overrun> {
        let bounds = Bounds { first_line, bytes, fields };
        let whole = HeadScanner::default().scan(input, &bounds);
        let mut scanner = HeadScanner::default();
        let mut dripped = Ok(Scan::Partial);
        for end in 1..=input.len() {
            dripped = scanner.scan(&input[..end], &bounds);
            if dripped != Ok(Scan::Partial) {
                break;
            }
        }
        assert_eq!(whole.is_ok(), dripped.is_ok(), "in one piece and dripped in agree");
        whole
    }

    #[test]
    fn the_end_is_found_however_the_bytes_come() {
        assert_eq!(scan_all(b"GET / HTTP/1.1\r\na: b\r\n\r\nrest", 99, 99, 9), Ok(Scan::Complete(24)));
        assert_eq!(scan_all(b"GET / HTTP/1.1\r\na: b\r\n\r", 99, 99, 9), Ok(Scan::Partial));
        assert_eq!(scan_all(b"\r\n", 99, 99, 9), Ok(Scan::Complete(2)));
    }

    #[test]
    fn bounds_hold_before_the_head_is_complete() {
        assert_eq!(scan_all(b"GET /aaaaaaaaaaaaaaaaaaaaaaaa", 16, 99, 9), Err(Overrun::FirstLine));
        assert_eq!(scan_all(b"GET / HTTP/1.1\r\naaaaaaaaaaa", 16, 20, 9), Err(Overrun::Bytes));
        assert_eq!(scan_all(b"G\r\na: b\r\nc: d\r\ne", 99, 99, 2), Ok(Scan::Partial));
        assert_eq!(scan_all(b"G\r\na: b\r\nc: d\r\ne: f\r\n\r\n", 99, 99, 2), Err(Overrun::Fields));
        assert_eq!(scan_all(b"G\r\na: b\r\nc: d\r\n\r\n", 99, 99, 2), Ok(Scan::Complete(17)));
    }

    #[test]
    fn a_line_feed_alone_ends_no_line() {
        assert_eq!(scan_all(b"GET / HTTP/1.1\n\n", 99, 99, 9), Err(Overrun::BareLineFeed));
        assert_eq!(scan_all(b"\n", 99, 99, 9), Err(Overrun::BareLineFeed));
    }
}
