//! The report of a dry run: the planned action for each local name, one per line.

use std::{collections::BTreeMap, fmt};

use controlplane::index::ServiceKey;

use crate::{
    plan::{self, Removal, ServiceStep, SliceStep},
    world::{Goal, World},
};

/// The planned actions, and the unknowns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The actions by local name, without mirrors in their desired state.
    pub entries: Vec<Entry>,
    /// Facts that could not be determined.
    pub problems: Vec<String>,
    /// How many mirrors are in their desired state.
    pub unchanged: usize,
}

/// The planned action for one local name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What would be done.
    pub verb: Verb,
    /// The Service, by its local namespace and name.
    pub service: String,
    /// Details.
    pub detail: String,
}

/// What would be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    /// A mirror would be made.
    Create,
    /// An older tool's mirror would become ours.
    Adopt,
    /// A mirror would be changed.
    Change,
    /// A mirror would be deleted.
    Delete,
    /// The deletion of a mirror would be held back, because there are too many at once.
    Hold,
    /// A Service is not mirrored.
    Refuse,
    /// It is not known yet.
    Wait,
}

impl Report {
    /// The report for the known state.
    pub(crate) fn of(world: &mut World, problems: Vec<String>) -> Self {
        let mut report = Self { problems, ..Self::default() };
        for (remote, service, problem) in world.nameless() {
            let detail = format!("Service {service} of {}: {problem}", remote.name);
            report.entries.push(Entry { verb: Verb::Refuse, service: service.to_string(), detail });
        }
        for key in world.names() {
            report.add(world, &key);
        }
        report
    }

    fn add(&mut self, world: &mut World, key: &ServiceKey) {
        let input = world.input(key);
        let mut entry = |verb, detail: String| self.entries.push(Entry { verb, service: key.to_string(), detail });
        for refusal in &input.refusals {
            entry(Verb::Refuse, refusal.to_string());
        }
        let owner = input.whose.map(|whose| world.owner(whose));
        let removal = || match owner {
            Some(owner) => plan::removal(&input.live, owner, input.written.as_deref()),
            None => plan::removal_unmarked(&input.live, input.written.as_deref()),
        };
        match &input.goal {
            Goal::Nothing => {}
            Goal::Wait(what) => entry(Verb::Wait, what.clone()),
            Goal::Hold => entry(Verb::Hold, "its Service is gone, like those of too many others".into()),
            Goal::Dim => entry(Verb::Change, "no endpoint is ready while its remote is away".into()),
            Goal::Remove(why) => match removal() {
                Removal::Nothing => {}
                Removal::Service(_) => entry(Verb::Delete, (*why).into()),
                Removal::Slices(slices) => entry(Verb::Delete, format!("{} slices without a Service", slices.len())),
            },
            Goal::Mirror(desired) => {
                // A Service that is to be mirrored has an owner.
                let Some(owner) = owner else { return };
                let live = input.live.service.as_ref();
                let step = plan::service(desired, key, live, owner, input.written.as_deref());
                let uid = live.map(|live| live.at().uid).unwrap_or_default();
                let steps = match &step {
                    ServiceStep::Refuse(_) | ServiceStep::Going => Vec::new(),
                    _ => plan::slices(desired, &input.live.slices, key, &uid, owner.prefix),
                };
                for step in &steps {
                    if let SliceStep::Refuse(refusal) = step {
                        entry(Verb::Refuse, refusal.to_string());
                    }
                }
                let slices = count(&steps);
                match step {
                    ServiceStep::Keep if slices.is_empty() => self.unchanged += 1,
                    ServiceStep::Keep => entry(Verb::Change, slices),
                    ServiceStep::Create(_) => entry(Verb::Create, slices),
                    ServiceStep::Adopt(_, what) => entry(Verb::Adopt, format!("{} {slices}", what.join(", "))),
                    ServiceStep::Update(_, what) => entry(Verb::Change, format!("{} {slices}", what.join(", "))),
                    ServiceStep::Recreate { why, .. } => entry(Verb::Change, format!("recreated: {why} {slices}")),
                    ServiceStep::Going => entry(Verb::Wait, "it is being deleted".into()),
                    ServiceStep::Refuse(refusal) => entry(Verb::Refuse, refusal.to_string()),
                }
            }
        }
    }
}

/// `(2 slices to create, 1 to delete)`.
fn count(steps: &[SliceStep]) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for step in steps {
        let verb = match step {
            SliceStep::Create(_) => "to create",
            SliceStep::Update(_) => "to change",
            SliceStep::Delete(..) => "to delete",
            SliceStep::Refuse(_) => continue,
        };
        *counts.entry(verb).or_default() += 1;
    }
    if counts.is_empty() {
        return String::new();
    }
    let parts: Vec<String> = counts.into_iter().map(|(verb, count)| format!("{count} {verb}")).collect();
    format!("(slices: {})", parts.join(", "))
}

impl Verb {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Adopt => "adopt",
            Self::Change => "change",
            Self::Delete => "delete",
            Self::Hold => "hold",
            Self::Refuse => "refuse",
            Self::Wait => "wait",
        }
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.verb.as_str(), self.service, self.detail.trim())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for entry in &self.entries {
            writeln!(f, "{entry}")?;
        }
        for problem in &self.problems {
            writeln!(f, "problem {problem}")?;
        }
        writeln!(f, "unchanged {}", self.unchanged)
    }
}
