//! Byte sizes: `256KiB`, `64KB`, `1.5MiB`, `10M`, or a plain number of bytes.

use std::fmt;
use std::str::FromStr;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A number of bytes, written with a unit in configuration files and JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ByteSize(pub u64);

/// Why a text is not a size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SizeError {
    /// The text is not a number with an optional unit.
    #[error("{0:?} is not a size: write bytes or a number and a unit, such as 65536, 256KiB or 10MB")]
    Malformed(String),
    /// The unit is unknown.
    #[error(
        "{text:?} is not a size: unknown unit {unit:?} (K, M, G, T are powers of 1000, Ki, Mi, Gi, Ti powers of 1024, each with or without B)"
    )]
    UnknownUnit {
        /// The whole text.
        text: String,
        /// The unit as written.
        unit: String,
    },
    /// A fraction that does not end on a whole byte.
    #[error("{0:?} is not a whole number of bytes")]
    NotWhole(String),
    /// The value does not fit 64 bits.
    #[error("{0:?} is too large: the largest size is 2^64 - 1 bytes")]
    TooLarge(String),
}

/// Units from the largest down, each with its name when printed. `M` is a million and `Mi` is 2^20, as in Kubernetes quantities.
const UNITS: [(&str, u64); 8] = [
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("KB", 1_000),
];

/// Parses a size. `K`, `M`, `G`, `T` (with or without `B`) are powers of 1000, `Ki`, `Mi`, `Gi`, `Ti` (with or without `B`) powers of 1024; the
/// case of letters does not matter, and a number without a unit is bytes. A fraction is fine where it ends on a whole byte (`1.5KiB`).
///
/// # Errors
/// Text that is not such a number, an unknown unit, a fraction of a byte, and values beyond 64 bits.
pub fn parse(text: &str) -> Result<u64, SizeError> {
    let end = text.bytes().position(|b| !b.is_ascii_digit() && b != b'.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit = unit.trim_start_matches(' ');
    let scale = scale(unit).ok_or_else(|| match number {
        "" => SizeError::Malformed(text.to_owned()),
        _ => SizeError::UnknownUnit { text: text.to_owned(), unit: unit.to_owned() },
    })?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let pointless = number.contains('.') && fraction.is_empty();
    if whole.is_empty() || pointless || fraction.contains('.') {
        return Err(SizeError::Malformed(text.to_owned()));
    }
    let too_large = || SizeError::TooLarge(text.to_owned());
    let whole = whole.parse::<u64>().map_err(|_| too_large())?;
    let bytes = whole.checked_mul(scale).ok_or_else(too_large)?;
    let fraction = fraction.trim_end_matches('0');
    if fraction.is_empty() {
        return Ok(bytes);
    }
    // Twelve digits after the point tell single bytes of a terabyte apart, and keep the product within 128 bits.
    if fraction.len() > 12 {
        return Err(SizeError::NotWhole(text.to_owned()));
    }
    let ten = 10_u128.pow(fraction.len() as u32);
    let digits = fraction.parse::<u128>().map_err(|_| SizeError::Malformed(text.to_owned()))?;
    let scaled = digits * u128::from(scale);
    if scaled % ten != 0 {
        return Err(SizeError::NotWhole(text.to_owned()));
    }
    let part = u64::try_from(scaled / ten).map_err(|_| too_large())?;
    bytes.checked_add(part).ok_or_else(too_large)
}

/// Prints a size in the largest unit that needs no fraction: `256KiB`, `64KB`, `1001`.
#[must_use]
pub fn format(bytes: u64) -> String {
    UNITS
        .iter()
        .find(|(_, scale)| bytes > 0 && bytes.is_multiple_of(*scale))
        .map_or_else(|| bytes.to_string(), |(name, scale)| format!("{}{name}", bytes / scale))
}

fn scale(unit: &str) -> Option<u64> {
    let unit = unit.to_ascii_uppercase();
    Some(match unit.as_str() {
        "" | "B" => 1,
        "K" | "KB" => 1_000,
        "M" | "MB" => 1_000_000,
        "G" | "GB" => 1_000_000_000,
        "T" | "TB" => 1_000_000_000_000,
        "KI" | "KIB" => 1 << 10,
        "MI" | "MIB" => 1 << 20,
        "GI" | "GIB" => 1 << 30,
        "TI" | "TIB" => 1 << 40,
        _ => return None,
    })
}

// === impl ByteSize ===

impl From<u64> for ByteSize {
    fn from(bytes: u64) -> Self {
        Self(bytes)
    }
}

impl From<ByteSize> for u64 {
    fn from(size: ByteSize) -> Self {
        size.0
    }
}

impl FromStr for ByteSize {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        parse(text).map(Self)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format(self.0))
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format(self.0))
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = ByteSize;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size such as 65536, 256KiB or 10MB")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<ByteSize, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<ByteSize, E> {
                Ok(ByteSize(bytes))
            }
        }

        deserializer.deserialize_any(Text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parses_units_of_both_kinds() {
        let table = [
            ("0", 0),
            ("65536", 65_536),
            ("12B", 12),
            ("256KiB", 262_144),
            ("256Ki", 262_144),
            ("256kib", 262_144),
            ("64KB", 64_000),
            ("10M", 10_000_000),
            ("1MiB", 1_048_576),
            ("1.5KiB", 1_536),
            ("0.25GiB", 268_435_456),
            ("1.0", 1),
            ("2 MB", 2_000_000),
            ("1Ti", 1 << 40),
            ("18446744073709551615", u64::MAX),
        ];
        for (text, expected) in table {
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_not_a_size() {
        for text in [
            "",
            "K",
            "KiB",
            "-1",
            "+1",
            "1.",
            ".5K",
            "1..5K",
            "1.2.3K",
            "1 K B",
            "10Q",
            "0.3B",
            "1.0001KB1",
            "\u{b5}",
            "1\u{663}",
        ] {
            assert!(parse(text).is_err(), "{text:?} must be refused");
        }
        for text in ["18446744073709551616", "16777216TiB", "18446744073709.6TB"] {
            assert_eq!(parse(text), Err(SizeError::TooLarge(text.into())));
        }
        assert_eq!(parse("1.0001KB"), Err(SizeError::NotWhole("1.0001KB".into())));
    }

    #[test]
    fn serde_reads_numbers_and_text() {
        assert_eq!(serde_json::from_str::<ByteSize>("4096").expect("number"), ByteSize(4096));
        assert_eq!(serde_json::from_str::<ByteSize>("\"4KiB\"").expect("text"), ByteSize(4096));
        assert!(serde_json::from_str::<ByteSize>("-1").is_err());
        assert!(serde_json::from_str::<ByteSize>("1.5").is_err());
        assert_eq!(serde_json::to_string(&ByteSize(64_000)).expect("writes"), "\"64KB\"");
    }

    proptest! {
        #[test]
        fn printed_sizes_read_back(bytes: u64, unit in 0..UNITS.len()) {
            let round = bytes - bytes % UNITS[unit].1;
            prop_assert_eq!(parse(&format(bytes)), Ok(bytes));
            prop_assert_eq!(parse(&format(round)), Ok(round));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,30}", near in "[0-9]{0,25}\\.?[0-9]{0,25} ?[kmgtKMGTiIbB]{0,3}") {
            let _ = parse(&text);
            let _ = parse(&near);
        }
    }
}
