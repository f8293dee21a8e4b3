//! The limit of body bytes in memory over all requests.

use std::{
    hint::cold_path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

/// Bytes of bodies in memory, over all requests and workers.
#[derive(Debug)]
pub struct Budget {
    used: AtomicUsize,
    cap: usize,
}

/// The share of one request, which is returned when it is dropped.
#[derive(Debug)]
pub struct Share {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Budget {
    /// A budget of `cap` bytes.
    #[must_use]
    pub fn new(cap: usize) -> Arc<Self> {
        Arc::new(Self { used: AtomicUsize::new(0), cap })
    }

    /// Bytes in memory now.
    #[must_use]
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }
}

impl Share {
    /// An empty share.
    #[must_use]
    pub fn of(budget: &Arc<Budget>) -> Self {
        Self { budget: budget.clone(), bytes: 0 }
    }

    /// Moves it to this budget, empty.
    pub fn be_of(&mut self, budget: &Arc<Budget>) {
        self.set(0);
        if !Arc::ptr_eq(&self.budget, budget) {
            cold_path();
            self.budget = budget.clone();
        }
    }

    /// Sets the bytes that the request keeps.
    pub fn set(&mut self, bytes: usize) {
        if bytes > self.bytes {
            self.budget.used.fetch_add(bytes - self.bytes, Ordering::Relaxed);
        } else if bytes < self.bytes {
            self.budget.used.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
        }
        self.bytes = bytes;
    }

    /// Whether the request may keep more. A request that keeps nothing always may, so that every request makes progress.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.bytes == 0 || self.budget.used() < self.budget.cap
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spent_budget_leaves_everyone_one_piece() {
        let budget = Budget::new(100);
        let (mut a, mut b) = (Share::of(&budget), Share::of(&budget));
        a.set(120);
        assert!(!a.has_room() && b.has_room());
        b.set(10);
        assert!(!b.has_room());
        a.set(50);
        assert!(a.has_room() && b.has_room());
        drop(a);
        b.set(0);
        assert_eq!(budget.used(), 0);
    }
}
