//! The connected members of one chat, by id.
//!
//! A node follows very many small chats, and a hash table holds half as much room again for members who never come. So few are
//! kept in order, in a list that grows by a few places; a crowd gets a table.

use std::collections::HashMap;
use std::sync::Arc;

use super::chat::Member;

/// More are a crowd.
const FEW: usize = 64;
/// Places that a list of few grows by.
const GROWTH: usize = 4;

/// One of both holds everybody.
#[derive(Default)]
pub(crate) struct Members {
    few: Vec<(Arc<str>, Member)>,
    crowd: HashMap<Arc<str>, Member>,
}

impl Members {
    pub(crate) fn is_empty(&self) -> bool {
        self.few.is_empty() && self.crowd.is_empty()
    }

    fn place(&self, user_id: &str) -> Result<usize, usize> {
        self.few.binary_search_by(|(id, _)| (**id).cmp(user_id))
    }

    pub(crate) fn get(&self, user_id: &str) -> Option<&Member> {
        match self.place(user_id) {
            Ok(place) => Some(&self.few[place].1),
            Err(_) => self.crowd.get(user_id),
        }
    }

    pub(crate) fn get_mut(&mut self, user_id: &str) -> Option<&mut Member> {
        match self.place(user_id) {
            Ok(place) => Some(&mut self.few[place].1),
            Err(_) => self.crowd.get_mut(user_id),
        }
    }

    /// The member, made where there was none.
    pub(crate) fn get_or_make(&mut self, user_id: &Arc<str>, make: impl FnOnce() -> Member) -> &mut Member {
        if self.crowd.is_empty() && self.few.len() == FEW && self.place(user_id).is_err() {
            self.crowd = std::mem::take(&mut self.few).into_iter().collect();
        }
        if !self.crowd.is_empty() {
            return self.crowd.entry(Arc::clone(user_id)).or_insert_with(make);
        }
        let place = self.place(user_id).unwrap_or_else(|place| {
            if self.few.len() == self.few.capacity() {
                self.few.reserve_exact(GROWTH);
            }
            self.few.insert(place, (Arc::clone(user_id), make()));
            place
        });
        &mut self.few[place].1
    }

    pub(crate) fn remove(&mut self, user_id: &str) {
        match self.place(user_id) {
            Ok(place) => drop(self.few.remove(place)),
            Err(_) => drop(self.crowd.remove(user_id)),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Member)> {
        self.few.iter().map(|(user_id, member)| (user_id, member)).chain(&self.crowd)
    }

    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut Member> {
        self.few.iter_mut().map(|(_, member)| member).chain(self.crowd.values_mut())
    }
}

#[cfg(test)]
mod tests {
    use smallvec::SmallVec;

    use super::super::entitlement::Stays;
    use super::*;

    #[test]
    fn few_and_a_crowd_hold_the_same() {
        let mut members = Members::default();
        let make = |loaded_at| Member { stays: Stays::default(), loaded_at, links: SmallVec::new() };
        let id = |number: i64| Arc::<str>::from(format!("user-{number}"));
        for number in 0..FEW as i64 * 2 {
            assert!(members.get(&id(number)).is_none());
            members.get_or_make(&id(number), || make(number));
            // Whoever is there already stays as they are.
            assert_eq!(members.get_or_make(&id(number), || make(-1)).loaded_at, number);
            assert_eq!(members.iter().count() as i64, number + 1);
            assert!(
                (0..=number).all(|number| members.get(&id(number)).is_some_and(|member| member.loaded_at == number))
            );
        }
        members.values_mut().for_each(|member| member.loaded_at += 1);
        for number in 0..FEW as i64 * 2 {
            assert_eq!(members.get_mut(&id(number)).map(|member| member.loaded_at), Some(number + 1));
            members.remove(&id(number));
            assert!(members.get(&id(number)).is_none());
        }
        assert!(members.is_empty() && members.iter().next().is_none());
    }
}
