//! The tokens of a file, by name: lines `name:token` or `name:sha256:<hex>`; comments begin with `#`.
//!
//! Only hashes are kept. The token of a request is hashed and compared with every one of them in constant time. No error and no log
//! line shows a token.

mod file;

use std::{collections::HashMap, fmt};

use ring::digest::{SHA256, digest};
use subtle::{Choice, ConditionallySelectable as _, ConstantTimeEq as _};

use crate::{bearer, identity::Identity};

pub use file::{TokenFile, UnusableFile};

/// The most tokens of a file: each request is compared with all of them.
pub const MAX_TOKENS: usize = 10_000;

/// The fewest characters of a token: a shorter one can be guessed.
pub const MIN_CHARACTERS: usize = 6;

/// Tokens with fewer characters than this cause a warning.
pub const FEW_CHARACTERS: usize = 16;

/// The most bytes of a file.
const MAX_BYTES: usize = 4 << 20;

type Hash = [u8; 32];

/// The tokens of a file and their holders.
#[derive(Clone, PartialEq, Eq)]
pub struct Tokens {
    hashes: Box<[Hash]>,
    /// In the order of the hashes.
    holders: Box<[Identity]>,
    /// The names of tokens that are short.
    short: Box<[Identity]>,
}

/// Why the content of a file is no list of tokens; shows none of them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTokens {
    /// Larger than any sensible file.
    #[error("it has more than {MAX_BYTES} bytes")]
    TooLong,
    /// Not text.
    #[error("it is not UTF-8 text")]
    NotText,
    /// No token: probably an incomplete write, so it is an error.
    #[error("it has no token: write lines of the form name:token")]
    Empty,
    /// Too many tokens.
    #[error("it has more than {MAX_TOKENS} tokens")]
    TooMany,
    /// A faulty line.
    #[error("line {line}: {fault}")]
    Line {
        /// The line, counted from 1.
        line: usize,
        /// What is wrong with it.
        fault: Fault,
    },
}

/// What is wrong with a line of a token file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// No colon.
    #[error("there is no colon: write name:token or name:sha256:<64 hexadecimal digits>")]
    Form,
    /// Not a name in front of the colon.
    #[error("what stands in front of the colon is not a name: use 1 to 64 letters, digits, '-', '_' and '.'")]
    Name,
    /// Nothing behind the colon.
    #[error("the token of {0:?} is empty")]
    Empty(String),
    /// Too short.
    #[error(
        "the token of {0:?} has fewer than {MIN_CHARACTERS} characters and can be guessed: make one with openssl rand -hex 32"
    )]
    Weak(String),
    /// No request may have one of this length.
    #[error("the token of {0:?} has more than {max} bytes: make a shorter one with openssl rand -hex 32", max = bearer::MAX_BYTES)]
    Long(String),
    /// A request could not carry it.
    #[error("the token of {0:?} has characters that no Authorization field can carry: use letters, digits and -._~+/")]
    Characters(String),
    /// Not a hash.
    #[error("the hash of {0:?} is not 64 hexadecimal digits: make one with printf %s TOKEN | sha256sum")]
    Hash(String),
    /// The hash of nothing.
    #[error("the hash of {0:?} is that of an empty token")]
    HashOfNothing(String),
    /// The name is used by another line.
    #[error(
        "{name:?} is the name of the token in line {line} too: each needs a name of its own, for instance {name}-2"
    )]
    SameName {
        /// The name.
        name: String,
        /// The other line.
        line: usize,
    },
    /// The token is used by another line.
    #[error("the token of {name:?} is that of line {line} too")]
    SameToken {
        /// Its name.
        name: String,
        /// The other line.
        line: usize,
    },
}

// === impl Tokens ===

impl Tokens {
    /// Reads the content of a file.
    ///
    /// # Errors
    /// [`InvalidTokens`] for the first fault.
    pub fn parse(content: &[u8]) -> Result<Self, InvalidTokens> {
        if content.len() > MAX_BYTES {
            return Err(InvalidTokens::TooLong);
        }
        let text = std::str::from_utf8(content).map_err(|_| InvalidTokens::NotText)?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let (mut names, mut hashes) = (HashMap::new(), HashMap::new());
        let mut tokens = (Vec::new(), Vec::new(), Vec::new());
        for (n, line) in text.lines().enumerate() {
            let (n, line) = (n + 1, line.trim());
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let at = |fault| InvalidTokens::Line { line: n, fault };
            let Entry { name, hash, short } = Entry::parse(line).map_err(at)?;
            if let Some(line) = names.insert(name, n) {
                return Err(at(Fault::SameName { name: name.to_owned(), line }));
            }
            if let Some(line) = hashes.insert(hash, n) {
                return Err(at(Fault::SameToken { name: name.to_owned(), line }));
            }
            if tokens.0.len() == MAX_TOKENS {
                return Err(InvalidTokens::TooMany);
            }
            let holder = Identity::token(name);
            tokens.2.extend(short.then(|| holder.clone()));
            tokens.0.push(hash);
            tokens.1.push(holder);
        }
        let (hashes, holders, short) = tokens;
        if hashes.is_empty() {
            return Err(InvalidTokens::Empty);
        }
        Ok(Self { hashes: hashes.into(), holders: holders.into(), short: short.into() })
    }

    /// The holder of this token.
    #[must_use]
    pub fn holder(&self, token: &str) -> Option<&Identity> {
        let hash = hash(token);
        // Constant time: every hash is compared, and the place is kept without a branch.
        let (mut found, mut place) = (Choice::from(0), 0_u64);
        for (n, known) in (0_u64..).zip(&self.hashes) {
            let equal = known.ct_eq(&hash);
            place.conditional_assign(&n, equal);
            found |= equal;
        }
        let place = usize::try_from(place).ok().filter(|_| bool::from(found))?;
        self.holders.get(place)
    }

    /// The holders of all tokens.
    #[must_use]
    pub fn holders(&self) -> &[Identity] {
        &self.holders
    }

    /// The holders of short tokens.
    #[must_use]
    pub fn short(&self) -> &[Identity] {
        &self.short
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Hashes are not shown either, because those of short tokens can be reversed.
        f.debug_list().entries(&self.holders).finish()
    }
}

/// A line with a token.
struct Entry<'a> {
    name: &'a str,
    hash: Hash,
    short: bool,
}

impl<'a> Entry<'a> {
    fn parse(line: &'a str) -> Result<Self, Fault> {
        let (name, token) = line.split_once(':').ok_or(Fault::Form)?;
        let (name, token) = (name.trim_end(), token.trim_start());
        if !is_name(name) {
            return Err(Fault::Name);
        }
        let named = || name.to_owned();
        if let Some(digits) = token.strip_prefix("sha256:") {
            let known = from_hex(digits.trim()).ok_or_else(|| Fault::Hash(named()))?;
            if known == hash("") {
                return Err(Fault::HashOfNothing(named()));
            }
            return Ok(Self { name, hash: known, short: false });
        }
        if token.is_empty() {
            return Err(Fault::Empty(named()));
        }
        if token.len() > bearer::MAX_BYTES {
            return Err(Fault::Long(named()));
        }
        if !bearer::is_token(token) {
            return Err(Fault::Characters(named()));
        }
        if token.len() < MIN_CHARACTERS {
            return Err(Fault::Weak(named()));
        }
        Ok(Self { name, hash: hash(token), short: token.len() < FEW_CHARACTERS })
    }
}

/// Whether this is a valid name of a token, which appears in rules, logs and metrics.
#[must_use]
pub fn is_name(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

fn hash(token: &str) -> Hash {
    let mut hash = Hash::default();
    hash.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
    hash
}

fn from_hex(digits: &str) -> Option<Hash> {
    let mut hash = Hash::default();
    if digits.len() != 2 * hash.len() || !digits.is_ascii() {
        return None;
    }
    for (byte, digits) in hash.iter_mut().zip(digits.as_bytes().chunks(2)) {
        let digit = |at: usize| char::from(digits[at]).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        *byte = digit(0)? << 4 | digit(1)?;
    }
    Some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `printf %s correct-horse-battery | sha256sum`
    const HASH: &str = "d1d0a0ac5e36f5c4b4bb3b9a1fba8bf3a2b0ee8bdc3f6b5e7a2e5b9a2f0d3c11";

    fn holder(file: &str, token: &str) -> Option<String> {
        let tokens = Tokens::parse(file.as_bytes()).unwrap_or_else(|error| panic!("{error}"));
        tokens.holder(token).map(Identity::to_string)
    }

    fn hex(token: &str) -> String {
        hash(token).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn a_token_is_its_holders_in_clear_and_hashed() {
        let file = format!(
            "# for the pipeline\n\nci:a-token-of-the-pipeline\n  ops : sha256:{}  \r\nbase64:YWJj+/ZGVmZ2hp==\n",
            hex("correct-horse-battery").to_uppercase()
        );
        assert_eq!(holder(&file, "a-token-of-the-pipeline"), Some("token:ci".into()));
        assert_eq!(holder(&file, "correct-horse-battery"), Some("token:ops".into()));
        assert_eq!(holder(&file, "YWJj+/ZGVmZ2hp=="), Some("token:base64".into()));
        for other in ["", "a-token-of-the-pipelin", "a-token-of-the-pipeline2", "A-token-of-the-pipeline", HASH] {
            assert_eq!(holder(&file, other), None, "{other:?}");
        }
        assert_eq!(holder(&file, &hex("correct-horse-battery")), None, "the hash is no token");
    }

    #[test]
    fn a_hash_of_the_standard_is_what_it_says() {
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(holder(&format!("a:sha256:{abc}"), "abc"), Some("token:a".into()));
    }

    #[test]
    fn faults_name_the_line_and_show_no_token() {
        let (digits, nothing) = (hex("another-secret"), hex(""));
        let secret = "s3cret-of-the-file";
        let long = format!("a:{}", "s3cret".repeat(4_000));
        for (line, part) in [
            (secret, "there is no colon"),
            (":s3cret-of-the-file", "in front of the colon is not a name"),
            ("a b:s3cret-of-the-file", "in front of the colon is not a name"),
            ("a:", "the token of \"a\" is empty"),
            ("a:  ", "the token of \"a\" is empty"),
            ("a:s3cre", "fewer than 6 characters"),
            ("a:s3cret of-the-file", "characters that no Authorization field can carry"),
            ("a:s3cret:of-the-file", "characters that no Authorization field can carry"),
            ("a:\u{fc}s3cret-of-the-file", "characters that no Authorization field can carry"),
            (long.as_str(), "has more than 16384 bytes"),
            ("a:sha256:", "not 64 hexadecimal digits"),
            ("a:sha256:s3cret", "not 64 hexadecimal digits"),
            ("first:s3cret-of-the-file-2", "\"first\" is the name of the token in line 1 too"),
            ("a:the-first-token", "the token of \"a\" is that of line 1 too"),
        ] {
            let error = Tokens::parse(format!("first:the-first-token\n# a comment\n{line}\n").as_bytes());
            let error = error.expect_err(line).to_string();
            assert!(error.starts_with("line 3: ") && error.contains(part), "{line:?}: {error}");
            assert!(!error.contains("s3cre"), "{line:?}: {error}");
        }
        let error = |content: &str| Tokens::parse(content.as_bytes()).expect_err(content).to_string();
        assert!(error(&format!("a:sha256:{nothing}")).contains("empty token"));
        assert!(error(&format!("a:sha256:{digits}\nb:another-secret")).contains("that of line 1 too"));
        assert!(error("# only a comment\n\n").contains("no token"));
        assert!(Tokens::parse(b"a:\xff\xff\xff\xff\xff\xff").expect_err("no text").to_string().contains("UTF-8"));
    }

    #[test]
    fn short_tokens_are_named_and_nothing_shows_a_hash() {
        let tokens = Tokens::parse(b"a:s3cret\nb:a-token-that-is-long-enough").unwrap();
        assert_eq!(tokens.short(), [Identity::token("a")]);
        assert_eq!(format!("{tokens:?}"), "[token:a, token:b]");
    }

    #[test]
    fn there_is_a_most_of_tokens() {
        let file = |count: usize| (0..count).map(|n| format!("t{n}:token-number-{n}\n")).collect::<String>();
        let tokens = Tokens::parse(file(MAX_TOKENS).as_bytes()).unwrap();
        assert_eq!(tokens.holder("token-number-9999"), Some(&Identity::token("t9999")));
        assert_eq!(Tokens::parse(file(MAX_TOKENS + 1).as_bytes()), Err(InvalidTokens::TooMany));
    }

    proptest::proptest! {
        #[test]
        fn no_content_panics(content in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let _ = Tokens::parse(&content);
        }
    }
}
