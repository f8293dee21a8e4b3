//! Writes lines of a head.

use bytes::BufMut;

/// Writes a status line.
pub fn put_status(out: &mut impl BufMut, status: u16, reason: &[u8]) {
    out.put_slice(b"HTTP/1.1 ");
    // Always three digits, whatever the number is.
    out.put_slice(&[status / 100 % 10, status / 10 % 10, status % 10].map(|digit| b'0' + digit as u8));
    out.put_slice(b" ");
    out.put_slice(reason);
    out.put_slice(b"\r\n");
}

/// Writes one field. Its parts must be free of line ends.
pub fn put_text(out: &mut impl BufMut, name: &str, value: &[&str]) {
    out.put_slice(name.as_bytes());
    out.put_slice(b": ");
    value.iter().for_each(|part| out.put_slice(part.as_bytes()));
    out.put_slice(b"\r\n");
}

/// Writes a number in decimal.
pub fn put_number(out: &mut impl BufMut, mut number: u64) {
    // Most numbers are short, and bytes of a fixed number are written without a call.
    let digit = |unit| b'0' + (number / unit % 10) as u8;
    match number {
        0..10 => return out.put_slice(&[digit(1)]),
        10..100 => return out.put_slice(&[digit(10), digit(1)]),
        100..1000 => return out.put_slice(&[digit(100), digit(10), digit(1)]),
        _ => {}
    }
    let (mut digits, mut first) = ([0; 20], 20);
    loop {
        first -= 1;
        digits[first] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return out.put_slice(&digits[first..]);
        }
    }
}

pub(super) fn put(out: &mut impl BufMut, name: &[u8], value: &[u8]) {
    out.put_slice(name);
    out.put_slice(b": ");
    out.put_slice(value);
    out.put_slice(b"\r\n");
}

pub(super) fn put_length(out: &mut impl BufMut, length: u64) {
    out.put_slice(b"Content-Length: ");
    put_number(out, length);
    out.put_slice(b"\r\n");
}
