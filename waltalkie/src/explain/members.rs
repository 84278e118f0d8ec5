//! How far each member has come with a message, and why.

use anyhow::{Context, Result};
use tokio_postgres::Client;

use super::Stored;

/// Members that are told of, those who haven't got it first. Of a crowd the rest is left out.
const SHOWN: usize = 1_000;

const STAYS: &str = "
    SELECT user_id, joined_seq, left_seq, visible_from_seq FROM chat_member WHERE chat_id = $1
     ORDER BY user_id, joined_seq";
const OPEN: &str = "SELECT count(*) FROM chat_member WHERE chat_id = $1 AND left_seq IS NULL";
const CURSORS: &str = "SELECT user_id, delivered_seq, read_seq FROM chat_cursor WHERE chat_id = $1";
const PENDING: &str = "SELECT user_id FROM inbox WHERE chat_id = $1 AND sequence_number = $2 AND NOT is_delivered";

/// A member's standing towards one message.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) user_id: String,
    pub(super) state: State,
    pub(super) delivered_seq: i64,
    pub(super) read_seq: i64,
    pub(super) why: &'static str,
}

/// In the order in which they are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum State {
    Waits,
    Delivered,
    Read,
    Sender,
    NotShown,
}

/// One stay of a person, each end a `seq`.
#[derive(Debug, Clone, Copy)]
struct Stay {
    joined: i64,
    left: Option<i64>,
    visible_from: i64,
}

/// The members, those who wait first, and how many there are.
pub(super) async fn of(
    truth: &Client,
    read: &Client,
    stored: &Stored,
    inbox_members: usize,
) -> Result<(Vec<Member>, usize)> {
    let reading = async {
        let stays = truth.query(STAYS, &[&stored.chat_id]).await?;
        let open: i64 = truth.query_one(OPEN, &[&stored.chat_id]).await?.get(0);
        let cursors = read.query(CURSORS, &[&stored.chat_id]).await?;
        let pending = read.query(PENDING, &[&stored.chat_id, &stored.seq]).await?;
        Ok::<_, tokio_postgres::Error>((stays, open, cursors, pending))
    };
    let (stays, open, cursors, pending) = reading.await.context("reading members and cursors")?;
    let cursors: std::collections::HashMap<String, (i64, i64)> =
        cursors.iter().map(|row| (row.get(0), (row.get(1), row.get(2)))).collect();
    let pending: std::collections::HashSet<String> = pending.iter().map(|row| row.get(0)).collect();
    let mut people = std::collections::BTreeMap::<String, Vec<Stay>>::new();
    for row in &stays {
        let stay = Stay { joined: row.get(1), left: row.get(2), visible_from: row.get(3) };
        people.entry(row.get(0)).or_default().push(stay);
    }
    let is_crowd = open as usize > inbox_members;
    let mut members: Vec<Member> = people
        .into_iter()
        .map(|(user_id, stays)| {
            let (delivered_seq, read_seq) = cursors.get(&user_id).copied().unwrap_or_default();
            let is_pending = pending.contains(&user_id);
            let (state, why) = if user_id == stored.sender_id {
                (State::Sender, "sent it")
            } else {
                standing(&stays, stored.seq, (delivered_seq, read_seq), is_pending, is_crowd)
            };
            Member { user_id, state, delivered_seq, read_seq, why }
        })
        .collect();
    members.sort_by(|left, right| (left.state, &left.user_id).cmp(&(right.state, &right.user_id)));
    let count = members.len();
    members.truncate(SHOWN);
    Ok((members, count))
}

/// Pure.
fn standing(
    stays: &[Stay],
    seq: i64,
    (delivered_seq, read_seq): (i64, i64),
    is_pending: bool,
    is_crowd: bool,
) -> (State, &'static str) {
    let is_shown = |stay: &&Stay| stay.visible_from <= seq && stay.left.is_none_or(|left| seq <= left);
    let Some(stay) = stays.iter().find(is_shown) else {
        let came_later = stays.iter().all(|stay| seq < stay.joined);
        let why = if came_later { "came later, and history from before isn't shown" } else { "wasn't there: had left" };
        return (State::NotShown, why);
    };
    if read_seq >= seq {
        return (State::Read, "has read it");
    }
    if delivered_seq >= seq {
        return (State::Delivered, "a device has it");
    }
    let why = match (stay.left, is_pending, is_crowd) {
        (Some(_), ..) => "left before a device had it",
        (None, true, _) => "no device has confirmed it; it waits in the inbox",
        (None, false, true) => {
            "no device has confirmed it; the chat is too large for rows in the inbox, the cursor says it"
        }
        (None, false, false) => "no device has confirmed it; the inbox hasn't come to it, or is about to mark it",
    };
    (State::Waits, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_standing_has_its_reason() {
        let stay = |joined, left| Stay { joined, left, visible_from: joined };
        let of = |stays: &[Stay], cursors, is_pending| standing(stays, 10, cursors, is_pending, false).0;
        assert_eq!(of(&[stay(1, None)], (10, 10), false), State::Read);
        assert_eq!(of(&[stay(1, None)], (10, 9), false), State::Delivered);
        assert_eq!(of(&[stay(1, None)], (9, 9), true), State::Waits);
        assert_eq!(of(&[stay(11, None)], (12, 12), false), State::NotShown);
        assert_eq!(of(&[stay(1, Some(9)), stay(12, None)], (12, 12), false), State::NotShown);
        assert_eq!(standing(&[stay(1, Some(9))], 10, (0, 0), false, false).1, "wasn't there: had left");
        assert!(standing(&[stay(1, Some(11))], 10, (0, 0), false, false).1.starts_with("left before"));
        assert!(standing(&[stay(1, None)], 10, (0, 0), false, true).1.contains("too large"));
        // History from before the joining is shown where the chat says so.
        let shown = Stay { joined: 11, left: None, visible_from: 1 };
        assert_eq!(of(&[shown], (11, 0), false), State::Delivered);
    }
}
