//! Projection `membership`: stays of people in chats, one row a stay.
//!
//! Events carry the full state of each stay that they change, so a row is what the newest event says. A stay that has
//! ended stays ended: whoever comes back begins another one, with another `joined_seq`.

use std::sync::Arc;

use deadpool_postgres::Transaction;
use schemas::{ChatEvent, Membership};
use tokio_postgres::Error;

use crate::metrics;
use crate::projection::{Applied, Input, Projection, Refusal};
use crate::rebuild::{Pass, Replay};
use crate::rows::Rows;

const LOAD: &str = "
    SELECT m.chat_id, m.user_id, m.joined_seq, m.left_seq, m.visible_from_seq, m.member_role FROM membership m
      JOIN unnest($1::text[], $2::text[], $3::bigint[]) AS k (chat_id, user_id, joined_seq)
        ON m.chat_id = k.chat_id AND m.user_id = k.user_id AND m.joined_seq = k.joined_seq";
const STORE: &str = "
    INSERT INTO membership (chat_id, user_id, joined_seq, left_seq, visible_from_seq, member_role)
    SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::text[])
    ON CONFLICT (chat_id, user_id, joined_seq) DO UPDATE
       SET left_seq = excluded.left_seq, visible_from_seq = excluded.visible_from_seq,
           member_role = excluded.member_role";

/// The projection.
#[derive(Debug, Clone, Copy)]
pub struct MembershipProjection;

/// Chat, person, and the `seq` at which the stay began.
pub type StayKey = (String, String, i64);

/// A stay.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the columns of the table")]
pub struct Stay {
    pub left_seq: Option<i64>,
    pub visible_from_seq: i64,
    pub member_role: String,
}

impl Projection for MembershipProjection {
    const NAME: &'static str = "membership";
    const VERSION: u32 = 1;
    const TABLES: &'static [&'static str] = &["membership"];
}

impl Input<ChatEvent> for MembershipProjection {
    const LOOP: &'static str = "membership";
    const LAG_METRIC: &'static str = metrics::MEMBERSHIP_LAG;
    type State = Rows<StayKey, Stay>;

    fn state(&self) -> Self::State {
        Rows::default()
    }

    async fn load(
        &self,
        transaction: &Transaction<'_>,
        events: &[ChatEvent],
        state: &mut Self::State,
    ) -> Result<(), Error> {
        let (mut chats, mut users, mut joined) = (Vec::new(), Vec::new(), Vec::new());
        for (event, stay) in events.iter().flat_map(|event| event.memberships.iter().map(move |stay| (event, stay))) {
            if state.get(&(event.chat_id.clone(), stay.user_id.clone(), stay.joined_seq)).is_none() {
                chats.push(event.chat_id.as_str());
                users.push(stay.user_id.as_str());
                joined.push(stay.joined_seq);
            }
        }
        if chats.is_empty() {
            return Ok(());
        }
        let statement = transaction.prepare_cached(LOAD).await?;
        for row in transaction.query(&statement, &[&chats, &users, &joined]).await? {
            let stay =
                Stay { left_seq: row.try_get(3)?, visible_from_seq: row.try_get(4)?, member_role: row.try_get(5)? };
            state.loaded((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?), stay);
        }
        Ok(())
    }

    fn apply(state: &mut Self::State, event: &ChatEvent) -> Result<Applied, Refusal> {
        for Membership { user_id, member_role, joined_seq, left_seq, visible_from_seq } in &event.memberships {
            let key = (event.chat_id.clone(), user_id.clone(), *joined_seq);
            let ended = state.get(&key).and_then(|stay| stay.left_seq);
            let stay = Stay {
                left_seq: ended.or(*left_seq),
                visible_from_seq: *visible_from_seq,
                member_role: member_role.clone(),
            };
            state.set(key, stay);
        }
        Ok(Applied::of(event))
    }

    async fn store(&self, transaction: &Transaction<'_>, state: &Self::State) -> Result<(), Error> {
        let changed = state.changed();
        if changed.is_empty() {
            return Ok(());
        }
        let chats: Vec<&str> = changed.iter().map(|((chat, _, _), _)| chat.as_str()).collect();
        let users: Vec<&str> = changed.iter().map(|((_, user, _), _)| user.as_str()).collect();
        let joined: Vec<i64> = changed.iter().map(|((_, _, joined), _)| *joined).collect();
        let left: Vec<Option<i64>> = changed.iter().map(|(_, stay)| stay.left_seq).collect();
        let visible: Vec<i64> = changed.iter().map(|(_, stay)| stay.visible_from_seq).collect();
        let roles: Vec<&str> = changed.iter().map(|(_, stay)| stay.member_role.as_str()).collect();
        let statement = transaction.prepare_cached(STORE).await?;
        transaction.execute(&statement, &[&chats, &users, &joined, &left, &visible, &roles]).await?;
        Ok(())
    }

    fn size(state: &Self::State) -> usize {
        state.len()
    }

    fn settle(state: &mut Self::State) {
        state.settle();
    }
}

impl Replay for MembershipProjection {
    async fn replay(self: Arc<Self>, pass: Arc<Pass>) -> Result<(), crate::Error> {
        pass.input::<Self, ChatEvent>(&self).await
    }
}

#[cfg(test)]
#[path = "membership_tests.rs"]
mod tests;
