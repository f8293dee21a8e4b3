//! What changed between two snapshots, at a cost that follows the change where the two share their past.

use std::sync::Arc;

use imbl::ordmap::DiffItem;

use crate::{Cluster, Snapshot};

/// The clusters in which two snapshots differ, each list ordered by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diff {
    /// Only in the newer one.
    pub added: Vec<Arc<Cluster>>,
    /// In both, but different: old, new.
    pub changed: Vec<(Arc<Cluster>, Arc<Cluster>)>,
    /// Only in the older one.
    pub removed: Vec<Arc<Cluster>>,
}

impl Diff {
    /// Compares two snapshots.
    #[must_use]
    pub fn between(old: &Snapshot, new: &Snapshot) -> Self {
        let mut diff = Self::default();
        for item in old.clusters.diff(&new.clusters) {
            match item {
                DiffItem::Add(_, cluster) => diff.added.push(cluster.clone()),
                DiffItem::Update { old: (_, old), new: (_, new) } => diff.changed.push((old.clone(), new.clone())),
                DiffItem::Remove(_, cluster) => diff.removed.push(cluster.clone()),
            }
        }
        diff
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::{Change, ClusterName, Endpoint, channel};

    fn changes(of: &BTreeMap<u8, u16>) -> Vec<Change> {
        let endpoint = |port: &u16| vec![Endpoint::ready(([192, 0, 2, 1], *port).into())];
        let name = |n: &u8| ClusterName::new(format!("c{n}")).unwrap();
        of.iter().map(|(n, p)| Change::Set(Arc::new(Cluster::new(name(n), endpoint(p))))).collect()
    }

    proptest! {
        #[test]
        fn a_diff_is_exactly_what_differs(a: BTreeMap<u8, u16>, b: BTreeMap<u8, u16>) {
            let ((pa, ra), (pb, rb)) = (channel(), channel());
            pa.apply(changes(&a));
            pb.apply(changes(&b));
            let diff = Diff::between(&ra.load(), &rb.load());
            prop_assert_eq!(diff.added.len(), b.keys().filter(|k| !a.contains_key(k)).count());
            prop_assert_eq!(diff.removed.len(), a.keys().filter(|k| !b.contains_key(k)).count());
            prop_assert_eq!(diff.changed.len(), a.iter().filter(|(k, v)| b.get(k).is_some_and(|w| w != *v)).count());
        }
    }
}
