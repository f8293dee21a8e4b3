//! Seeds of random tests: each is printed, and `FANFARE_SEED` sets it to repeat a run.

/// The environment variable that sets the seed of every random test.
const VARIABLE: &str = "FANFARE_SEED";

/// A new seed for each run, unless the variable gives one. It is printed, so that a failure shows how to repeat the run.
#[must_use]
pub fn random() -> u64 {
    print(parse(std::env::var(VARIABLE).ok()).unwrap_or_else(|| fastrand::u64(..)))
}

/// The same seed in each run, unless the variable gives another. It is printed as well.
#[must_use]
pub fn fixed(seed: u64) -> u64 {
    print(parse(std::env::var(VARIABLE).ok()).unwrap_or(seed))
}

fn print(seed: u64) -> u64 {
    println!("{VARIABLE}={seed}");
    seed
}

fn parse(text: Option<String>) -> Option<u64> {
    text.map(|text| text.parse().unwrap_or_else(|_| panic!("{VARIABLE}={text} is no number from 0 to {}", u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_that_is_given_is_taken() {
        assert_eq!(parse(Some("7".into())), Some(7));
        assert_eq!(parse(None), None);
    }

    #[test]
    #[should_panic = "FANFARE_SEED=seven is no number"]
    fn a_seed_that_is_no_number_fails_the_test() {
        parse(Some("seven".into()));
    }
}
