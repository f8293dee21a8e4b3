//! The client's frames against the examples of the specifications.

use super::frame::{Frame, block, flag, status};

#[test]
fn a_block_is_a_literal_as_in_the_specification() {
    // RFC 7541 appendix C.2.2, but with its name spelt out.
    assert_eq!(block(&[(":path", "/sample/path")]), b"\0\x05:path\x0c/sample/path");
    let long = "x".repeat(300);
    let bytes = block(&[("a", &long)]);
    assert_eq!((&bytes[..6], bytes.len()), (&b"\0\x01a\x7f\xad\x01"[..], 306));
}

#[test]
fn a_status_is_read_however_it_is_written() {
    assert_eq!(status(&[0x88]), Some(200));
    assert_eq!(status(&[0x20, 0x8c]), Some(400));
    // RFC 7541 appendix C.6.1: 302, packed.
    assert_eq!(status(&[0x48, 0x82, 0x64, 0x02]), Some(302));
    assert_eq!(status(b"\x48\x03431"), Some(431));
    assert_eq!(status(b"\x48\x03100"), None);
    // RFC 7541 appendix B: `5` is 011011, `0` is 00000, `1` is 00001.
    assert_eq!(status(&[0x48, 0x82, 0b0110_1100, 0b0000_0001]), Some(501));
}

#[test]
fn a_frame_comes_back_as_it_was_written() {
    let frame = Frame::headers(7, flag::END_STREAM, b"abc");
    let bytes = frame.bytes();
    assert_eq!(bytes, b"\0\0\x03\x01\x05\0\0\0\x07abc");
    assert_eq!(Frame::length(&bytes), 3);
    assert_eq!(Frame::of(&bytes[..Frame::HEADER], bytes[Frame::HEADER..].to_vec()), frame);
}
