//! How many mirrors may be deleted on the strength of one complete list.
//!
//! Rule: a deletion that a watch has reported is believed at once; one that is inferred from a list is believed up to a limit. A
//! selector that was changed by mistake, and an API server that was restored from an old backup or belongs to the wrong cluster, look
//! as if everything had been deleted.

use crate::config::MaxDelete;

/// Whether `lost` of `known` mirrors may be deleted at once.
pub(crate) fn permits(limit: MaxDelete, lost: usize, known: usize) -> bool {
    match limit {
        MaxDelete::Unlimited => true,
        MaxDelete::Count(most) => lost <= most,
        MaxDelete::Share { count, percent } => {
            lost <= count || lost.saturating_mul(100) <= known.saturating_mul(percent.into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_limits_have_to_be_exceeded() {
        let limit = MaxDelete::default();
        for (lost, known, permitted) in
            [(0, 0, true), (10, 10, true), (11, 11, false), (30, 100, true), (31, 100, false), (11, 1000, true)]
        {
            assert_eq!(permits(limit, lost, known), permitted, "{lost} of {known}");
        }
    }

    #[test]
    fn a_number_is_a_limit_of_its_own() {
        assert!(permits(MaxDelete::Count(5), 5, 5));
        assert!(!permits(MaxDelete::Count(5), 6, 1000));
        assert!(!permits(MaxDelete::Count(0), 1, 1000));
        assert!(permits(MaxDelete::Unlimited, usize::MAX, 1));
    }
}
