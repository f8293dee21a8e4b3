//! The limit of losses that may be inferred at once from a complete list.
//!
//! Deletions that a watch reports apply at once; objects that are only missing from a list count as deleted up to a limit. A
//! selector changed by mistake, an API server restored from an old backup, and a client pointed at the wrong cluster all look as if
//! everything had been deleted.

/// A number of losses that is always permitted, and the share of all that is permitted beyond it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LossLimit {
    /// The number that is always permitted, because small sets change by large shares.
    pub count: usize,
    /// The share, 0 to 1; 1 permits everything.
    pub share: f64,
}

impl LossLimit {
    /// The default limit.
    pub const DEFAULT: Self = Self { count: 10, share: 0.3 };

    /// Whether `lost` of `known` may vanish at once.
    pub fn permits(self, lost: usize, known: usize) -> bool {
        #[expect(clippy::cast_precision_loss, reason = "both are far fewer than 2^52")]
        let share = lost as f64 / known.max(1) as f64;
        lost <= self.count || share <= self.share
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_limits_have_to_be_exceeded() {
        for (lost, known, permitted) in [
            (0, 0, true),
            (10, 10, true),
            (11, 11, false),
            (30, 100, true),
            (31, 100, false),
            (11, 1000, true),
            (300_000, 1_000_000, true),
            (300_001, 1_000_000, false),
        ] {
            assert_eq!(LossLimit::DEFAULT.permits(lost, known), permitted, "{lost} of {known}");
        }
    }

    #[test]
    fn a_share_of_one_permits_everything_and_none_nothing_beyond_the_number() {
        assert!(LossLimit { count: 0, share: 1.0 }.permits(1000, 1000));
        assert!(!LossLimit { count: 5, share: 0.0 }.permits(6, 1_000_000));
        // Every percentage is met exactly where the share is the same, whatever the numbers.
        for percent in 0..=100_u32 {
            let limit = LossLimit { count: 0, share: f64::from(percent) / 100.0 };
            for hundreds in [1, 2, 3, 7, 1000] {
                let (lost, known) = (percent as usize * hundreds, 100 * hundreds);
                assert!(limit.permits(lost, known), "{lost} of {known}");
                assert!(percent == 100 || !limit.permits(lost + 1, known), "{} of {known}", lost + 1);
            }
        }
    }
}
