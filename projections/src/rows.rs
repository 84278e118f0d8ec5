//! Rows of one table in memory: what a batch loaded, and what it changed.

use std::hash::Hash;

use hashbrown::hash_map::EntryRef;
use hashbrown::{Equivalent, HashMap};

/// Rows by key, hashed by foldhash with a seed of the process' own: quick, and weaker than SipHash against keys that are chosen
/// to collide, which a batch bounds. Many changes of one row in a batch come down to its last value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rows<K: Hash + Eq, V> {
    rows: HashMap<K, Row<V>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Row<V> {
    value: V,
    is_changed: bool,
}

impl<K: Hash + Eq, V> Default for Rows<K, V> {
    fn default() -> Self {
        Self { rows: HashMap::new() }
    }
}

impl<K: Hash + Eq + Ord, V: PartialEq> Rows<K, V> {
    /// Takes a row as it is in the table.
    pub fn loaded(&mut self, key: K, value: V) {
        self.rows.insert(key, Row { value, is_changed: false });
    }

    /// The row's present value.
    pub fn get<Q: Hash + Equivalent<K> + ?Sized>(&self, key: &Q) -> Option<&V> {
        self.rows.get(key).map(|row| &row.value)
    }

    /// The row's present value, for a change that is none of the table's.
    pub fn get_mut<Q: Hash + Equivalent<K> + ?Sized>(&mut self, key: &Q) -> Option<&mut V> {
        self.rows.get_mut(key).map(|row| &mut row.value)
    }

    /// Gives the row a value, which is a change only if it has another.
    pub fn set(&mut self, key: K, value: V) {
        if self.get(&key) != Some(&value) {
            self.rows.insert(key, Row { value, is_changed: true });
        }
    }

    /// The row's value to change; an empty one where there is none. It counts as changed whatever becomes of it.
    pub fn change<Q: Hash + Equivalent<K> + ?Sized>(&mut self, key: &Q) -> &mut V
    where
        K: for<'a> From<&'a Q>,
        V: Default,
    {
        let row = match self.rows.entry_ref(key) {
            EntryRef::Occupied(row) => row.into_mut(),
            EntryRef::Vacant(place) => place.insert(Row { value: V::default(), is_changed: true }),
        };
        row.is_changed = true;
        &mut row.value
    }

    /// Rows held.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether none is held.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The rows' values, for changes that are none of the table's.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.rows.values_mut().map(|row| &mut row.value)
    }

    /// What changed is in the table by now.
    pub fn settle(&mut self) {
        self.rows.values_mut().for_each(|row| row.is_changed = false);
    }

    /// Every row.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.rows.iter().map(|(key, row)| (key, &row.value))
    }

    /// The change set, by key: two transactions that lock the same rows do it in the same order.
    pub fn changed(&self) -> Vec<(&K, &V)> {
        let mut changed: Vec<_> =
            self.rows.iter().filter(|(_, row)| row.is_changed).map(|(key, row)| (key, &row.value)).collect();
        changed.sort_unstable_by(|left, right| left.0.cmp(right.0));
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_changed_is_written_and_only_once() {
        let mut rows = Rows::<String, i32>::default();
        rows.loaded("a".into(), 1);
        rows.loaded("b".into(), 2);
        rows.set("a".into(), 1);
        assert!(rows.changed().is_empty());
        rows.set("b".into(), 3);
        rows.set("b".into(), 4);
        rows.set("0".into(), 5);
        *rows.change("c") += 6;
        let (zero, b, c) = ("0".to_owned(), "b".to_owned(), "c".to_owned());
        assert_eq!(rows.changed(), [(&zero, &5), (&b, &4), (&c, &6)]);
        rows.settle();
        assert!(rows.changed().is_empty() && rows.len() == 4);
    }
}
