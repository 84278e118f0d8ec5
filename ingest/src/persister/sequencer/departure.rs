//! Somebody was removed from everywhere: their stay in a chat ends, whatever their role, in groups and 1:1 chats alike.

use schemas::wire::{Code, Rejection};
use schemas::{ChatCommand, event_type, ids};

use super::members::change_stay;
use super::{Decision, Decisions, NewChange, new_change};
use crate::persister::book::{Change, Chat, Stay};
use crate::persister::roles::Role;

/// Ends the stay. A group that would be left without an owner gets one first, by an event of its own: of the admins, else
/// of the members, who has been there longest.
pub(super) fn depart(chat: &mut Chat, now_ms: i64, command: &ChatCommand, decisions: &mut Decisions) -> Decision {
    let [person] = command.members.as_slice() else {
        return Err(Rejection::new(Code::BadField, "One person at a time.").at("members"));
    };
    if command.user_id != ids::SYSTEM {
        return Err(Rejection::chat_not_found());
    }
    let Some(leaving) = chat.member(&person.user_id).cloned() else { return Ok(None) };
    if leaving.role == Role::Owner && chat.open_owners() == 1 {
        hand_over(chat, now_ms, command, &person.user_id, decisions);
    }
    let (seq, at_ms) = chat.next(now_ms);
    let changed = Change { seq, session: command.session_id.clone() };
    let stay = Stay { left_seq: Some(seq), changed, ..leaving };
    chat.open_stays -= 1;
    let membership = change_stay(chat, command, person.user_id.clone(), stay, at_ms, decisions);
    decisions.change(NewChange {
        memberships: Some(vec![membership]),
        ..new_change(command, seq, at_ms, event_type::MEMBER_LEFT)
    });
    Ok(Some(seq))
}

fn hand_over(chat: &mut Chat, now_ms: i64, command: &ChatCommand, leaving: &str, decisions: &mut Decisions) {
    let heir = chat
        .stays
        .iter()
        .filter(|(user_id, stay)| stay.left_seq.is_none() && user_id.as_str() != leaving)
        .min_by_key(|(user_id, stay)| (std::cmp::Reverse(stay.role), stay.joined_seq, user_id.as_str()))
        .map(|(user_id, stay)| (user_id.clone(), stay.clone()));
    // Nobody is left to own it.
    let Some((user_id, stay)) = heir else { return };
    let (seq, at_ms) = chat.next(now_ms);
    let changed = Change { seq, session: command.session_id.clone() };
    let stay = Stay { role: Role::Owner, changed, ..stay };
    let membership = change_stay(chat, command, user_id, stay, at_ms, decisions);
    decisions.change(NewChange {
        memberships: Some(vec![membership]),
        ..new_change(command, seq, at_ms, event_type::MEMBER_UPDATED)
    });
}
