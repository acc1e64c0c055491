//! Values that all connections of a source share.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use smallvec::SmallVec;

use crate::model::Source;

/// The connections that share a value: those of a source, or those of the site of an IPv6 source. The first network of a
/// site is a source with the same address, so the two are different groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Group {
    Source(Source),
    Site(Source),
}

/// One value for each source, and one for each site of IPv6 sources. A value is kept as long as a connection of its group is
/// open, so the table is not larger than the number of connections.
#[derive(Debug, Default)]
pub struct PerSource<T>(Mutex<HashMap<Group, Weak<T>>>);

/// The values of one connection: that of its source, and for IPv6 that of its site.
#[derive(Debug)]
pub struct SourceShare<T> {
    table: Arc<PerSource<T>>,
    levels: SmallVec<[(Group, Arc<T>); 2]>,
}

impl<T: Default> PerSource<T> {
    /// The values for one more connection of `source`. They begin at their default for the first one.
    pub fn share(self: &Arc<Self>, source: Source) -> SourceShare<T> {
        let groups = [
            Some(Group::Source(source)),
            source.is_ipv6().then(|| Group::Site(source.site())),
        ];
        let mut values = self.0.lock();
        let levels = groups.into_iter().flatten().map(|group| {
            let value = values.get(&group).and_then(Weak::upgrade).unwrap_or_default();
            values.insert(group, Arc::downgrade(&value));
            (group, value)
        });
        SourceShare {
            table: Arc::clone(self),
            levels: levels.collect(),
        }
    }
}

impl<T> PerSource<T> {
    /// The number of groups with an open connection.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.lock().len()
    }

    /// Whether no connection is open.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T> SourceShare<T> {
    /// Whether both are of connections of one source.
    #[must_use]
    pub fn is_same_source(&self, other: &Self) -> bool {
        self.levels.first().map(|(group, _)| group) == other.levels.first().map(|(group, _)| group)
    }

    /// The values: of the source, then of its site.
    pub fn levels(&self) -> impl Iterator<Item = &T> {
        self.levels.iter().map(|(_, value)| &**value)
    }
}

impl<T> Drop for SourceShare<T> {
    fn drop(&mut self) {
        let mut values = self.table.0.lock();
        for (group, value) in self.levels.drain(..) {
            // Dropped under the lock, so that of two connections that end together one finds the value unused.
            drop(value);
            if values.get(&group).is_some_and(|value| value.strong_count() == 0) {
                values.remove(&group);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn connections_of_a_source_share_a_value_until_the_last_one_ends() {
        let table = Arc::new(PerSource::<AtomicUsize>::default());
        let share = |text: &str| table.share(Source::parse(text).unwrap());
        let add = |share: &SourceShare<AtomicUsize>| -> Vec<usize> {
            share
                .levels()
                .map(|count| count.fetch_add(1, Ordering::Relaxed) + 1)
                .collect()
        };
        let (first, second, other) = (share("192.0.2.1"), share("::ffff:192.0.2.1"), share("192.0.2.2"));
        assert_eq!((add(&first), add(&second), add(&other)), (vec![1], vec![2], vec![1]));
        drop((first, other));
        assert_eq!((add(&second), table.len()), (vec![3], 1));
        drop(second);
        assert!(table.is_empty());
        assert_eq!(add(&share("192.0.2.1")), [1], "a new value");

        // The first network of a site, and another one.
        let (first, second) = (share("2001:db8:1::1"), share("2001:db8:1:2::1"));
        assert_eq!((add(&first), add(&second)), (vec![1, 1], vec![1, 2]));
        drop((first, second));
        assert!(table.is_empty());
    }
}
