//! Go durations: what `time.ParseDuration` reads and `Duration.String` prints.

use std::time::Duration;

/// The longest duration Go can hold: 2^63 - 1 nanoseconds, a little over 292 years.
pub const MAX: Duration = Duration::from_nanos(i64::MAX as u64);

/// Why a text is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// The text does not follow the grammar.
    #[error("{0:?} is not a duration: write a number and a unit, such as 10s, 1m30s or 300ms")]
    Malformed(String),
    /// A number stands without its unit.
    #[error("{text:?} is not a duration: the unit is missing, did you mean {text}s? (units: ns, us, ms, s, m, h)")]
    MissingUnit {
        /// The whole text.
        text: String,
    },
    /// The unit is none of Go's.
    #[error("{text:?} is not a duration: unknown unit {unit:?} (units: ns, us, ms, s, m, h)")]
    UnknownUnit {
        /// The whole text.
        text: String,
        /// The unit as written.
        unit: String,
    },
    /// The value does not fit 63 bits of nanoseconds.
    #[error("{0:?} is too long: the longest duration is about 292 years")]
    TooLong(String),
    /// The value is below zero.
    #[error("{0:?} is negative: a duration must be zero or more")]
    Negative(String),
}

/// Parses a duration by the exact grammar of Go's `time.ParseDuration`: an optional sign, then one or more decimal numbers, each
/// with an optional fraction and a unit of `ns`, `us` (or `µs`), `ms`, `s`, `m`, `h`; a bare `0` needs no unit. What is below a nanosecond is cut off.
///
/// # Errors
/// Text outside the grammar, values beyond [`MAX`], and, unlike Go, negative values.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let malformed = || DurationError::Malformed(text.to_owned());
    let too_long = || DurationError::TooLong(text.to_owned());
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(malformed());
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let (whole, after_whole) = digits(rest);
        let (fraction, after_number) = match after_whole.strip_prefix('.') {
            Some(after_point) => digits(after_point),
            None => ("", after_whole),
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(malformed());
        }
        let unit_end = after_number.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after_number.len());
        let (unit, after_unit) = after_number.split_at(unit_end);
        let scale = match unit {
            "" => return Err(DurationError::MissingUnit { text: text.to_owned() }),
            "ns" => 1,
            // U+00B5 is the micro sign, U+03BC the Greek letter: Go takes both.
            "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000_u64,
            _ => {
                return Err(DurationError::UnknownUnit { text: text.to_owned(), unit: unit.to_owned() });
            }
        };
        let whole = match whole {
            "" => 0,
            digits => digits.parse::<u64>().map_err(|_| too_long())?,
        };
        total = whole
            .checked_mul(scale)
            .and_then(|v| v.checked_add(fraction_of(fraction, scale)))
            .and_then(|v| v.checked_add(total))
            .filter(|v| *v <= i64::MAX as u64)
            .ok_or_else(too_long)?;
        rest = after_unit;
    }
    if negative && total > 0 {
        return Err(DurationError::Negative(text.to_owned()));
    }
    Ok(Duration::from_nanos(total))
}

/// Prints a duration as Go's `Duration.String` does: `0s`, `1.5s`, `300ms`, `1h0m0s`.
#[must_use]
pub fn format(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    match nanos {
        0 => "0s".to_owned(),
        1..1_000 => format!("{nanos}ns"),
        1_000..1_000_000 => format!("{}\u{b5}s", decimal(nanos, 1_000)),
        1_000_000..1_000_000_000 => format!("{}ms", decimal(nanos, 1_000_000)),
        _ => {
            let minutes = nanos / 60_000_000_000;
            let seconds = decimal(nanos % 60_000_000_000, 1_000_000_000);
            match (minutes / 60, minutes % 60) {
                (0, 0) => format!("{seconds}s"),
                (0, m) => format!("{m}m{seconds}s"),
                (h, m) => format!("{h}h{m}m{seconds}s"),
            }
        }
    }
}

/// Splits off the leading ASCII digits.
fn digits(text: &str) -> (&str, &str) {
    let end = text.bytes().position(|b| !b.is_ascii_digit()).unwrap_or(text.len());
    text.split_at(end)
}

/// The nanoseconds of the fraction `0.<digits>` of a unit, cut off below one nanosecond. Go ignores the digits that overflow 63 bits.
fn fraction_of(digits: &str, unit: u64) -> u64 {
    let mut value: u64 = 0;
    let mut scale: f64 = 1.0;
    for digit in digits.bytes() {
        let next = value
            .checked_mul(10)
            .and_then(|v| v.checked_add(u64::from(digit - b'0')))
            .filter(|v| *v <= i64::MAX as u64);
        let Some(next) = next else { break };
        value = next;
        scale *= 10.0;
    }
    // The same floating point steps as Go's, so that the same text is the same number of nanoseconds.
    (value as f64 * (unit as f64 / scale)) as u64
}

/// `value / unit` in decimal without trailing zeros.
fn decimal(value: u128, unit: u128) -> String {
    let width = unit.ilog10() as usize;
    let fraction = format!("{:0width$}", value % unit);
    match fraction.trim_end_matches('0') {
        "" => format!("{}", value / unit),
        fraction => format!("{}.{fraction}", value / unit),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn nanos(text: &str) -> Option<u64> {
        parse(text).ok().map(|d| d.as_nanos() as u64)
    }

    #[test]
    fn parses_what_go_parses() {
        const S: u64 = 1_000_000_000;
        let table = [
            ("0", 0),
            ("+0", 0),
            ("-0", 0),
            ("-0s", 0),
            ("5s", 5 * S),
            ("30s", 30 * S),
            ("1478s", 1478 * S),
            ("+5s", 5 * S),
            ("5.0s", 5 * S),
            ("5.6s", 5 * S + S / 10 * 6),
            ("5.s", 5 * S),
            (".5s", S / 2),
            ("1.0s", S),
            ("1.004s", S + 4_000_000),
            ("100.00100s", 100 * S + 1_000_000),
            ("10ns", 10),
            ("11us", 11_000),
            ("12\u{b5}s", 12_000),
            ("12\u{3bc}s", 12_000),
            ("13ms", 13_000_000),
            ("15m", 900 * S),
            ("16h", 16 * 3600 * S),
            ("3h30m", 12_600 * S),
            ("10.5s4m", 250 * S + S / 2),
            ("1h2m3s4ms5us6ns", 3_723_004_005_006),
            ("39h9m14.425s", 140_954_425_000_000),
            ("52763797000ns", 52_763_797_000),
            ("0.3333333333333333333h", 20 * 60 * S),
            ("9007199254740993ns", 9_007_199_254_740_993),
            ("9223372036854775807ns", i64::MAX as u64),
            ("9223372036854775.807us", i64::MAX as u64),
            ("9223372036s854ms775us807ns", i64::MAX as u64),
            ("0.100000000000000000000h", 360 * S),
            ("0.830103483285477580700h", 2_988_372_539_827),
        ];
        for (text, expected) in table {
            assert_eq!(nanos(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn refuses_what_go_refuses_and_what_is_negative() {
        for text in [
            "",
            "3",
            "-",
            "s",
            ".",
            "-.",
            ".s",
            "+.s",
            "1d",
            "10 s",
            " 10s",
            "10s ",
            "1.2.3s",
            "1e3s",
            "10S",
            "\u{85}\u{85}",
            "\u{ffff}",
            "hello \u{ffff} world",
            "9223372036854775810ns",
            "9223372036854775808ns",
            "3000000h",
            "9223372036854775.808us",
            "18446744073709551616s",
            "10000000000000000000000s",
        ] {
            assert!(parse(text).is_err(), "{text:?} must be refused");
        }
        assert_eq!(parse("-10s"), Err(DurationError::Negative("-10s".into())));
        assert!(parse("10").expect_err("no unit").to_string().contains("did you mean 10s?"));
    }

    #[test]
    fn prints_what_go_prints() {
        let table = [
            (0, "0s"),
            (1, "1ns"),
            (1_100, "1.1\u{b5}s"),
            (2_200_000, "2.2ms"),
            (3_300_000_000, "3.3s"),
            (245_000_000_000, "4m5s"),
            (245_001_000_000, "4m5.001s"),
            (18_367_001_000_000, "5h6m7.001s"),
            (480_000_000_001, "8m0.000000001s"),
            (3_600_000_000_000, "1h0m0s"),
            (i64::MAX as u64, "2562047h47m16.854775807s"),
        ];
        for (nanos, expected) in table {
            assert_eq!(format(Duration::from_nanos(nanos)), expected);
        }
    }

    proptest! {
        #[test]
        fn printed_durations_read_back(nanos in 0..=(i64::MAX as u64)) {
            let duration = Duration::from_nanos(nanos);
            prop_assert_eq!(parse(&format(duration)), Ok(duration));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,40}") {
            let _ = parse(&text);
        }

        #[test]
        fn no_near_miss_panics(text in "[-+]?([0-9]{0,22}\\.?[0-9]{0,22}(ns|us|\u{b5}s|ms|s|m|h|x)?){0,4}") {
            if let Ok(duration) = parse(&text) {
                prop_assert!(duration <= MAX);
            }
        }
    }
}
