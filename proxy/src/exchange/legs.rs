//! The legs of an exchange in snapshot order, and how many bytes of their answers are held and kept together.

use std::ops::{Deref, DerefMut, Index};

use super::leg::Leg;

/// The legs of one exchange.
#[derive(Debug, Default)]
pub(super) struct Legs {
    legs: Vec<Leg>,
    /// The sum of their held bytes.
    held: usize,
    /// What they keep together to compare or show it.
    kept: usize,
}

/// Mutable access to one leg; its held bytes are counted again when this is dropped.
pub(super) struct LegMut<'a> {
    leg: &'a mut Leg,
    held: &'a mut usize,
    kept: &'a mut usize,
    before: (usize, usize),
}

// === impl Legs ===

impl Legs {
    /// Takes the list for another exchange, whose legs hold nothing yet.
    pub(super) fn begin(legs: Vec<Leg>) -> Self {
        Self { legs, held: 0, kept: 0 }
    }

    /// Gives the list back, to be used by another exchange.
    pub(super) fn end(&mut self) -> Vec<Leg> {
        (self.held, self.kept) = (0, 0);
        std::mem::take(&mut self.legs)
    }

    /// A leg, to change it.
    pub(super) fn get_mut(&mut self, index: usize) -> LegMut<'_> {
        let leg = &mut self.legs[index];
        LegMut { before: (leg.held_bytes(), leg.kept_bytes()), held: &mut self.held, kept: &mut self.kept, leg }
    }

    /// What all of them hold.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// What all of them keep besides.
    pub(super) fn kept(&self) -> usize {
        self.kept
    }
}

impl Deref for Legs {
    type Target = [Leg];

    fn deref(&self) -> &[Leg] {
        &self.legs
    }
}

impl Index<usize> for Legs {
    type Output = Leg;

    fn index(&self, index: usize) -> &Leg {
        &self.legs[index]
    }
}

// === impl LegMut ===

impl Deref for LegMut<'_> {
    type Target = Leg;

    fn deref(&self) -> &Leg {
        self.leg
    }
}

impl DerefMut for LegMut<'_> {
    fn deref_mut(&mut self) -> &mut Leg {
        self.leg
    }
}

impl Drop for LegMut<'_> {
    fn drop(&mut self) {
        let (held, kept) = self.before;
        *self.held = *self.held - held + self.leg.held_bytes();
        *self.kept = *self.kept - kept + self.leg.kept_bytes();
    }
}
