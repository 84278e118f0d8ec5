//! Rows of one table in memory: what a batch loaded, and what it changed.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;

/// Rows by key. Many changes of one row in a batch come down to its last value.
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
    pub fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.rows.get(key).map(|row| &row.value)
    }

    /// Gives the row a value, which is a change only if it has another.
    pub fn set(&mut self, key: K, value: V) {
        if self.get(&key) != Some(&value) {
            self.rows.insert(key, Row { value, is_changed: true });
        }
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
        assert_eq!(rows.changed(), [(&"0".to_owned(), &5), (&"b".to_owned(), &4)]);
        rows.settle();
        assert!(rows.changed().is_empty() && rows.len() == 3);
    }
}
