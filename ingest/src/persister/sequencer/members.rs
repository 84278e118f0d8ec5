//! People who come, go and change roles.

use schemas::wire::{Code, Rejection};
use schemas::{ChatCommand, Membership, event_type, ids};

use super::{Decision, Decisions, Effect, MAX_MEMBERS, NewChange, forbidden, new_change, stale};
use crate::persister::book::{Change, Chat, Stay};
use crate::persister::roles::Role;

pub(super) fn add(chat: &mut Chat, now_ms: i64, command: &ChatCommand, decisions: &mut Decisions) -> Decision {
    check_members(command)?;
    let (role, is_group) = actor(chat, command)?;
    let wishes: Vec<(String, Role)> = command
        .members
        .iter()
        .map(|member| {
            let role = member.member_role.as_deref().and_then(Role::parse).unwrap_or(Role::Member);
            (member.user_id.clone(), role)
        })
        .collect();
    if !is_group || !wishes.iter().all(|(_, wish)| role.may_add(*wish)) {
        return Err(forbidden("Only owners and admins of a group add people, with a role up to their own."));
    }
    refuse_stale_members(chat, command)?;
    let fresh: Vec<(String, Role)> = wishes.into_iter().filter(|(user_id, _)| chat.member(user_id).is_none()).collect();
    if fresh.is_empty() {
        return Ok(None);
    }
    let shows_history = chat.settings.as_ref().is_some_and(|settings| settings.state.history_for_new_members);
    let (seq, at_ms) = chat.next(now_ms);
    let changed = Change { seq, session: command.session_id.clone() };
    let visible_from_seq = if shows_history { 1 } else { seq };
    let mut memberships = Vec::new();
    for (user_id, role) in fresh {
        let stay = Stay { role, joined_seq: seq, left_seq: None, visible_from_seq, changed: changed.clone() };
        memberships.push(open_stay(chat, command, user_id, stay, at_ms, decisions));
    }
    decisions.change(NewChange {
        memberships: Some(memberships),
        ..new_change(command, seq, at_ms, event_type::MEMBER_JOINED)
    });
    Ok(Some(seq))
}

pub(super) fn remove(chat: &mut Chat, now_ms: i64, command: &ChatCommand, decisions: &mut Decisions) -> Decision {
    check_members(command)?;
    let (role, is_group) = actor(chat, command)?;
    if !is_group {
        return Err(forbidden("Nobody leaves or is removed from a 1:1 chat."));
    }
    refuse_stale_members(chat, command)?;
    let leaving: Vec<(String, Stay)> = command
        .members
        .iter()
        .filter_map(|member| Some((member.user_id.clone(), chat.member(&member.user_id)?.clone())))
        .collect();
    if leaving.iter().any(|(user_id, stay)| *user_id != command.user_id && !role.may_remove(stay.role)) {
        return Err(forbidden("Owners remove anybody, admins remove members, members remove nobody but themselves."));
    }
    if leaving.is_empty() {
        return Ok(None);
    }
    let owners_leaving = leaving.iter().filter(|(_, stay)| stay.role == Role::Owner).count();
    if owners_leaving == chat.open_owners() && chat.open_stays > leaving.len() as i64 {
        return Err(last_owner());
    }
    let (seq, at_ms) = chat.next(now_ms);
    let changed = Change { seq, session: command.session_id.clone() };
    let mut memberships = Vec::new();
    for (user_id, stay) in leaving {
        let stay = Stay { left_seq: Some(seq), changed: changed.clone(), ..stay };
        chat.open_stays -= 1;
        chat.seen_before.entry(user_id.clone()).or_default().push((stay.visible_from_seq, seq));
        memberships.push(change_stay(chat, command, user_id, stay, at_ms, decisions));
    }
    decisions.change(NewChange {
        memberships: Some(memberships),
        ..new_change(command, seq, at_ms, event_type::MEMBER_LEFT)
    });
    Ok(Some(seq))
}

pub(super) fn change_roles(chat: &mut Chat, now_ms: i64, command: &ChatCommand, decisions: &mut Decisions) -> Decision {
    check_members(command)?;
    let (role, is_group) = actor(chat, command)?;
    if !is_group || !role.may_change_roles() {
        return Err(forbidden("Only owners of a group change roles."));
    }
    refuse_stale_members(chat, command)?;
    let mut changing = Vec::new();
    for member in &command.members {
        let stay = chat
            .member(&member.user_id)
            .ok_or_else(|| Rejection::new(Code::UserNotFound, "There is no such member.").at("user_id"))?;
        if let Some(role) = member.member_role.as_deref().and_then(Role::parse).filter(|role| *role != stay.role) {
            changing.push((member.user_id.clone(), Stay { role, ..stay.clone() }));
        }
    }
    if changing.is_empty() {
        return Ok(None);
    }
    let is_owner = |user_id: &str| chat.member(user_id).is_some_and(|stay| stay.role == Role::Owner);
    let demoted = changing.iter().filter(|(user_id, stay)| is_owner(user_id) && stay.role != Role::Owner).count();
    let promoted = changing.iter().filter(|(user_id, stay)| !is_owner(user_id) && stay.role == Role::Owner).count();
    if demoted == chat.open_owners() && promoted == 0 {
        return Err(last_owner());
    }
    let (seq, at_ms) = chat.next(now_ms);
    let changed = Change { seq, session: command.session_id.clone() };
    let mut memberships = Vec::new();
    for (user_id, stay) in changing {
        let stay = Stay { changed: changed.clone(), ..stay };
        memberships.push(change_stay(chat, command, user_id, stay, at_ms, decisions));
    }
    decisions.change(NewChange {
        memberships: Some(memberships),
        ..new_change(command, seq, at_ms, event_type::MEMBER_UPDATED)
    });
    Ok(Some(seq))
}

pub(super) fn actor(chat: &Chat, command: &ChatCommand) -> Result<(Role, bool), Rejection> {
    // The system sender is in no chat and may in each what its owners may. Gateways let no person be it.
    if command.user_id == ids::SYSTEM {
        let settings = chat.settings.as_ref().ok_or_else(Rejection::chat_not_found)?;
        return Ok((Role::Owner, settings.state.is_group));
    }
    let stay = chat.member(&command.user_id).ok_or_else(Rejection::chat_not_found)?;
    Ok((stay.role, chat.settings.as_ref().is_some_and(|settings| settings.state.is_group)))
}

/// The gateway checks the same; what comes another way must not get further than here.
pub(super) fn check_members(command: &ChatCommand) -> Result<(), Rejection> {
    let people = &command.members;
    let mut ids: Vec<&str> = people.iter().map(|member| member.user_id.as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    let are_valid = people.len() <= MAX_MEMBERS
        && ids.len() == people.len()
        && people.iter().all(|member| {
            schemas::ids::is_valid(&member.user_id)
                && member.member_role.as_deref().is_none_or(|role| Role::parse(role).is_some())
        });
    if are_valid {
        Ok(())
    } else {
        let rule = format!("At most {MAX_MEMBERS} different people at once, with role owner, admin or member.");
        Err(Rejection::new(Code::BadField, rule).at("members"))
    }
}

/// A membership command that was under way while another session changed one of its people must not undo that.
fn refuse_stale_members(chat: &Chat, command: &ChatCommand) -> Result<(), Rejection> {
    let is_stale = command.members.iter().any(|member| {
        let stay = chat.stays.get(&member.user_id);
        stay.is_some_and(|stay| stay.changed.outdates(command.based_on_seq, &command.session_id))
    });
    if is_stale {
        return Err(stale("A member was changed meanwhile; look at the members and try again.").at("members"));
    }
    Ok(())
}

pub(super) fn open_stay(
    chat: &mut Chat,
    command: &ChatCommand,
    user_id: String,
    stay: Stay,
    at_ms: i64,
    decisions: &mut Decisions,
) -> Membership {
    chat.open_stays += 1;
    chat.stays.insert(user_id.clone(), stay.clone());
    let membership = membership_of(&user_id, &stay);
    decisions.effects.push(Effect::StayOpened { chat_id: command.chat_id.clone(), user_id, stay, at_ms });
    membership
}

pub(super) fn change_stay(
    chat: &mut Chat,
    command: &ChatCommand,
    user_id: String,
    stay: Stay,
    at_ms: i64,
    decisions: &mut Decisions,
) -> Membership {
    chat.stays.insert(user_id.clone(), stay.clone());
    let membership = membership_of(&user_id, &stay);
    decisions.effects.push(Effect::StayChanged { chat_id: command.chat_id.clone(), user_id, stay, at_ms });
    membership
}

fn membership_of(user_id: &str, stay: &Stay) -> Membership {
    Membership {
        user_id: user_id.to_owned(),
        member_role: stay.role.name().to_owned(),
        joined_seq: stay.joined_seq,
        left_seq: stay.left_seq,
        visible_from_seq: stay.visible_from_seq,
    }
}

fn last_owner() -> Rejection {
    Rejection::new(Code::LastOwner, "A group needs an owner: make somebody else an owner first.")
}
