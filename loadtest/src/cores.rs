//! The placement of processes on cores: all on one, for the most repeatable CPU per request, or the subject apart from the others.

use std::fmt;

use anyhow::Context as _;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The placement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placement {
    /// All on one core, so that the CPU usage does not depend on whether another core is awake.
    Together,
    /// The subject has cores of its own, so that its speed does not depend on endpoints and load.
    Apart,
    /// The scheduler decides.
    Anywhere,
}

/// The cores of each part of a turn; an empty list means any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cores {
    /// The proxy under test.
    pub(crate) subject: Vec<usize>,
    /// The endpoints.
    pub(crate) endpoints: Vec<usize>,
    /// The load.
    pub(crate) load: Vec<usize>,
}

impl Cores {
    /// Distributes the cores that this process may use; `threads` is the number for a subject apart.
    pub(crate) fn deal(available: &[usize], placement: Placement, threads: usize) -> Self {
        match (placement, available) {
            // The first core often has the interrupts of the devices.
            (Placement::Together, [.., last]) => {
                let one = vec![*last];
                return Self { subject: one.clone(), endpoints: one.clone(), load: one };
            }
            (Placement::Apart, _) if available.len() > threads => {}
            // With fewer, sharing is up to the scheduler.
            _ => return Self::default(),
        }
        let (subject, rest) = available.split_at(threads);
        let (endpoints, load) = if rest.len() >= 2 { rest.split_at(rest.len() / 2) } else { (rest, rest) };
        Self { subject: subject.to_vec(), endpoints: endpoints.to_vec(), load: load.to_vec() }
    }
}

impl fmt::Display for Cores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |cores: &[usize]| cores.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let (subject, endpoints, load) = (list(&self.subject), list(&self.endpoints), list(&self.load));
        match () {
            () if *self == Self::default() => f.write_str("not pinned"),
            () if subject == endpoints && subject == load => write!(f, "subject, endpoints and load on core {subject}"),
            () => write!(f, "subject on core {subject}, endpoints on {endpoints}, load on {load}"),
        }
    }
}

/// The cores that this process may use.
pub(crate) fn available() -> Vec<usize> {
    let Ok(set) = sched_getaffinity(None) else { return Vec::new() };
    (0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect()
}

/// Runs a closure on these cores; processes that it starts stay there.
pub(crate) fn on<T>(cores: &[usize], start: impl FnOnce() -> T) -> anyhow::Result<T> {
    if cores.is_empty() {
        return Ok(start());
    }
    let before = sched_getaffinity(None).context("cannot tell which cores may be used")?;
    let mut set = CpuSet::new();
    cores.iter().for_each(|cpu| set.set(*cpu));
    sched_setaffinity(None, &set).context("cannot choose the cores of a child: use --cores any")?;
    let started = start();
    sched_setaffinity(None, &before).context("cannot go back to all cores")?;
    Ok(started)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_subject_has_its_cores_for_itself_where_there_are_enough() {
        let lists = |cores: Cores| (cores.subject, cores.endpoints, cores.load);
        assert_eq!(lists(Cores::deal(&[0, 1], Placement::Apart, 1)), (vec![0], vec![1], vec![1]));
        assert_eq!(lists(Cores::deal(&[2, 3, 5, 7], Placement::Apart, 2)), (vec![2, 3], vec![5], vec![7]));
        assert_eq!(Cores::deal(&[0, 1], Placement::Apart, 2), Cores::default(), "too few to keep apart");
        assert_eq!(lists(Cores::deal(&[0, 1], Placement::Together, 1)), (vec![1], vec![1], vec![1]));
        assert_eq!(Cores::deal(&[0, 1], Placement::Anywhere, 1).to_string(), "not pinned");
    }

    #[test]
    fn a_process_runs_on_its_core_and_others_are_not_moved() {
        let all = available();
        let first = all[0];
        let seen = on(&[first], available).unwrap();
        assert_eq!((seen, available()), (vec![first], all));
    }
}
