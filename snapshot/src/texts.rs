//! Texts that many endpoints have in common, such as zones, nodes and namespaces: each is in memory once.

use std::{
    collections::HashSet,
    sync::{Arc, LazyLock},
};

use parking_lot::Mutex;

/// The number of texts from which on those that nobody uses any more are dropped.
const FIRST_SWEEP: usize = 1024;

static TEXTS: LazyLock<Mutex<Texts>> = LazyLock::new(|| Mutex::new(Texts::new()));

/// The texts in use, and some that no longer are.
struct Texts {
    known: HashSet<Arc<str>>,
    /// The number of texts at the next sweep.
    sweep_at: usize,
}

/// The text, shared with everybody who has the same.
#[must_use]
pub fn shared_text(text: &str) -> Arc<str> {
    TEXTS.lock().get(text)
}

// === impl Texts ===

impl Texts {
    fn new() -> Self {
        Self { known: HashSet::new(), sweep_at: FIRST_SWEEP }
    }

    fn get(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.known.get(text) {
            return known.clone();
        }
        if self.known.len() >= self.sweep_at {
            self.known.retain(|text| Arc::strong_count(text) > 1);
            // At twice as many as are in use, so that the sweeps of many new texts cost little for each.
            self.sweep_at = FIRST_SWEEP.max(2 * self.known.len());
        }
        let text = Arc::<str>::from(text);
        self.known.insert(text.clone());
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_are_one_as_long_as_somebody_has_it() {
        let mut texts = Texts::new();
        let one = texts.get("zone-a");
        assert!(Arc::ptr_eq(&one, &texts.get("zone-a")) && !Arc::ptr_eq(&one, &texts.get("zone-b")));
        for number in 0..10 * FIRST_SWEEP {
            drop(texts.get(&format!("node-{number}")));
        }
        assert!(texts.known.len() <= FIRST_SWEEP, "{}", texts.known.len());
        assert!(Arc::ptr_eq(&one, &texts.get("zone-a")), "what is in use stays");
    }

    #[test]
    fn texts_in_use_are_never_dropped() {
        let mut texts = Texts::new();
        let held: Vec<_> = (0..4 * FIRST_SWEEP).map(|number| texts.get(&number.to_string())).collect();
        for (number, text) in held.iter().enumerate() {
            assert!(Arc::ptr_eq(text, &texts.get(&number.to_string())));
        }
    }
}
