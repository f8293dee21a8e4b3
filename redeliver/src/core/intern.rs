//! Interned strings, which many jobs share.

use crate::Whom;

use std::{collections::HashSet, sync::Arc};

/// The number of strings at which unused ones are first removed.
const FIRST_SWEEP: usize = 256;

/// Methods, hosts and identities that jobs share.
#[derive(Debug)]
pub(super) struct Strings {
    texts: HashSet<Arc<str>>,
    whoms: HashSet<Arc<Whom>>,
    sweep_at: usize,
}

impl Default for Strings {
    fn default() -> Self {
        Self { texts: HashSet::new(), whoms: HashSet::new(), sweep_at: FIRST_SWEEP }
    }
}

impl Strings {
    /// The one string with this text.
    pub(super) fn text(&mut self, text: Arc<str>) -> Arc<str> {
        if let Some(known) = self.texts.get(&text) {
            return known.clone();
        }
        self.sweep();
        self.texts.insert(text.clone());
        text
    }

    /// The one identity that is equal to this.
    pub(super) fn whom(&mut self, whom: Whom) -> Arc<Whom> {
        if let Some(known) = self.whoms.get(&whom) {
            return known.clone();
        }
        self.sweep();
        let whom = Arc::new(whom);
        self.whoms.insert(whom.clone());
        whom
    }

    /// Drops unused strings whenever the number has doubled, because clients choose hosts.
    fn sweep(&mut self) {
        if self.texts.len() + self.whoms.len() < self.sweep_at {
            return;
        }
        self.texts.retain(|text| Arc::strong_count(text) > 1);
        self.whoms.retain(|whom| Arc::strong_count(whom) > 1);
        self.sweep_at = FIRST_SWEEP.max(2 * (self.texts.len() + self.whoms.len()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_shared_and_those_that_nobody_uses_go() {
        let mut strings = Strings::default();
        let kept = strings.text("kept".into());
        assert!(Arc::ptr_eq(&kept, &strings.text("kept".into())));
        for number in 0..10 * FIRST_SWEEP {
            strings.text(format!("host-{number}").into());
        }
        assert!(strings.texts.len() <= FIRST_SWEEP);
        assert!(Arc::ptr_eq(&kept, &strings.text("kept".into())));
    }
}
