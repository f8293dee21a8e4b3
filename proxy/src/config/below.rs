//! Checks whether a path stays below a prefix for every server, however that server decodes, splits and resolves it.
//!
//! Servers disagree about a path that holds dot segments: some resolve them as they stand, some after decoding (once or more often,
//! with overlong UTF-8 or `%uXXXX` too), some take an encoded slash or a backslash for a slash, some cut the parameters behind a
//! `;`, some drop empty segments. No single normal form covers them all. So this computes the interpretation that goes up furthest:
//! the least number of segments below the prefix, at each point of the path.

/// Whether no interpretation of `rest`, which follows the last slash of a prefix, leaves the prefix.
///
/// `partial`: the prefix goes on after its last slash (`/cach`), so that the first segment must stay as well.
pub(super) fn stays_below(rest: &[u8], partial: bool) -> bool {
    if is_plain(rest, partial) {
        return true;
    }
    let floor = i64::from(partial);
    let mut depth = 0;
    let mut decoded = Vec::with_capacity(rest.len());
    // Literal slashes separate segments for every server.
    for segment in rest.split(|b| *b == b'/') {
        decoded.clear();
        segment.iter().for_each(|b| push_decoded(&mut decoded, *b));
        let Some(after) = depth_after(&decoded, depth, floor) else { return false };
        depth = after;
    }
    true
}

/// Whether a segment of the path is one that some server resolves: `.` or `..`, in any encoding.
pub(super) fn has_dot_segment(path: &[u8]) -> bool {
    let mut decoded = Vec::new();
    path.split(|b| *b == b'/').any(|segment| {
        decoded.clear();
        segment.iter().for_each(|b| push_decoded(&mut decoded, *b));
        decoded.split(|b| is_slash(*b)).any(|part| part.contains(&b'.') && Effect::of(part).alone <= 0)
    })
}

/// The fast path: whether nothing in the path can be read as `..`, which nearly always holds.
fn is_plain(rest: &[u8], partial: bool) -> bool {
    let first_stays = !partial || rest.first().is_some_and(u8::is_ascii_alphanumeric);
    if !first_stays || rest.windows(2).any(|pair| pair == b"..") {
        return false;
    }
    memchr::memchr_iter(b'%', rest).all(|at| {
        let byte = rest.get(at + 1..at + 3).and_then(hexadecimal);
        // A dot, what becomes one when it is decoded once more, what some leave out, and how overlong forms begin.
        byte.is_some_and(|byte| byte >= b' ' && !matches!(byte, b'.' | b'%' | 0x7f | 0xc0 | 0xc1 | 0xe0 | 0xf0))
    })
}

/// The least number of segments after one segment, which encoded slashes and backslashes may or may not split further.
/// None where it falls below the floor on the way.
fn depth_after(segment: &[u8], before: i64, floor: i64) -> Option<i64> {
    let mut depth = before;
    // The least where the parts so far, from one of them on, are read as one.
    let mut unsplit = i64::MAX;
    for part in segment.split(|b| is_slash(*b)) {
        let effect = Effect::of(part);
        let start = depth;
        depth = (start + effect.alone).min(unsplit);
        unsplit = unsplit.min(start + effect.continued);
        if depth < floor {
            return None;
        }
    }
    Some(depth)
}

/// The least effect of a segment on the number of segments: -1 goes up, 0 stays, 1 goes down.
struct Effect {
    /// Where it ends as it does.
    alone: i64,
    /// Where a slash that is none, and more text, follow.
    continued: i64,
}

impl Effect {
    fn of(part: &[u8]) -> Self {
        let of_dots = |dots: usize| match dots {
            0 | 1 => 0,
            2 => -1,
            _ => 1,
        };
        let (mut dots, mut cut) = (0, 1);
        for byte in part {
            match byte {
                b'.' => dots += 1,
                // What some servers cut off, and with it all that follows, or take for a path's end.
                b';' | b'?' | b'#' | b' ' => {
                    let cut = cut.min(of_dots(dots));
                    return Self { alone: cut, continued: cut };
                }
                // What some cut off, and others leave out.
                0..=0x1f | 0x7f => cut = cut.min(of_dots(dots)),
                _ => return Self { alone: cut, continued: cut },
            }
        }
        Self { alone: cut.min(of_dots(dots)), continued: cut }
    }
}

fn is_slash(byte: u8) -> bool {
    matches!(byte, b'/' | b'\\')
}

/// Adds a byte to what is decoded, and decodes what it completes, again and again: `%25%32e` ends as `.` too.
fn push_decoded(decoded: &mut Vec<u8>, byte: u8) {
    decoded.push(byte);
    while let Some((length, byte)) = escape_at_end(decoded) {
        decoded.truncate(decoded.len() - length);
        decoded.push(byte);
    }
}

/// The escape that the bytes end in: its length, and what it stands for.
fn escape_at_end(bytes: &[u8]) -> Option<(usize, u8)> {
    let low = |byte: u8| byte & 0x3f;
    match bytes {
        [.., b'%', a, b] => Some((3, hexadecimal(&[*a, *b])?)),
        [.., b'%', b'u' | b'U', a, b, c, d] => {
            let (high, low) = (hexadecimal(&[*a, *b])?, hexadecimal(&[*c, *d])?);
            Some((6, if high == 0 { low } else { b'x' }))
        }
        // Overlong forms of ASCII in UTF-8.
        [.., a @ (0xc0 | 0xc1), b @ 0x80..=0xbf] => Some((2, (a & 1) << 6 | low(*b))),
        [.., 0xe0, a @ (0x80 | 0x81), b @ 0x80..=0xbf] => Some((3, (a & 1) << 6 | low(*b))),
        [.., 0xf0, 0x80, a @ (0x80 | 0x81), b @ 0x80..=0xbf] => Some((4, (a & 1) << 6 | low(*b))),
        _ => None,
    }
}

/// The number that two digits stand for.
fn hexadecimal(digits: &[u8]) -> Option<u8> {
    let digit = |at: usize| char::from(*digits.get(at)?).to_digit(16);
    Some((digit(0)? << 4 | digit(1)?) as u8)
}

#[cfg(test)]
mod tests;
