//! Decodes content codings (RFC 9110, section 8.4.1).

use std::io::Read as _;

use bytes::Bytes;
use flate2::read::{MultiGzDecoder, ZlibDecoder};

use super::store::MAX_BYTES;

/// The decoded content. `codings` is the value of the field `Content-Encoding`.
///
/// # Errors
/// Why it cannot be decoded.
pub(super) async fn decoded(codings: Option<&str>, bytes: Bytes) -> Result<Bytes, String> {
    let codings = codings.unwrap_or_default().split(',').map(|coding| coding.trim().to_ascii_lowercase());
    let codings: Vec<String> = codings.filter(|coding| !matches!(coding.as_str(), "" | "identity")).collect();
    if codings.is_empty() {
        return Ok(bytes);
    }
    // Decoding a large file takes a while, so it does not run on a worker.
    let unpacked = tokio::task::spawn_blocking(move || unpacked(&codings, bytes)).await;
    unpacked.map_err(|error| format!("it could not be unpacked: {error}"))?
}

fn unpacked(codings: &[String], bytes: Bytes) -> Result<Bytes, String> {
    let mut bytes = bytes;
    // They were applied in the listed order, and are undone in the opposite one.
    for coding in codings.iter().rev() {
        let mut plain = Vec::new();
        let limit = MAX_BYTES + 1;
        let read = match coding.as_str() {
            "gzip" | "x-gzip" => MultiGzDecoder::new(&*bytes).take(limit).read_to_end(&mut plain),
            "deflate" => ZlibDecoder::new(&*bytes).take(limit).read_to_end(&mut plain),
            other => return Err(format!("its content coding {other:?} is not supported: use gzip or deflate")),
        };
        read.map_err(|error| format!("it is said to be packed with {coding}, and is not: {error}"))?;
        if plain.len() as u64 > MAX_BYTES {
            return Err(format!("unpacked it has more than the {MAX_BYTES} bytes that are read"));
        }
        bytes = plain.into();
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    fn packed(bytes: &[u8]) -> Bytes {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).expect("memory takes it");
        encoder.finish().expect("memory takes it").into()
    }

    #[tokio::test]
    async fn encoded_bodies_are_decoded_in_order_and_within_bounds() {
        let once = packed(b"text");
        assert_eq!(decoded(None, once.clone()).await, Ok(once.clone()));
        assert_eq!(decoded(Some("identity"), once.clone()).await, Ok(once.clone()));
        assert_eq!(decoded(Some("GZIP"), once.clone()).await.as_deref(), Ok(&b"text"[..]));
        assert_eq!(decoded(Some("gzip, x-gzip"), packed(&once)).await.as_deref(), Ok(&b"text"[..]));
        assert!(decoded(Some("br"), once.clone()).await.is_err_and(|why| why.contains("\"br\"")));
        assert!(decoded(Some("gzip"), Bytes::from_static(b"text")).await.is_err());
        assert!(decoded(Some("gzip"), once.slice(..once.len() - 3)).await.is_err(), "it was cut");
        let bomb = packed(&vec![0; usize::try_from(MAX_BYTES).expect("it fits") + 1]);
        assert!(decoded(Some("gzip"), bomb).await.is_err_and(|why| why.contains("more than")));
    }
}
