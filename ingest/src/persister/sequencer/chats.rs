//! New chats and changes of their settings.

use schemas::wire::{Code, Rejection};
use schemas::{ChatCommand, ChatState, event_type, ids};

use super::members::{actor, check_members, open_stay};
use super::{Decision, Decisions, Effect, NewChange, forbidden, new_change, stale};
use crate::persister::book::{Change, Chat, Settings, Stay};
use crate::persister::roles::Role;

pub(super) fn create(chat: &mut Chat, now_ms: i64, command: &ChatCommand, decisions: &mut Decisions) -> Decision {
    let wish = command.chat.clone().unwrap_or_default();
    let is_group = wish.is_group.unwrap_or(true);
    if let Some(settings) = &chat.settings {
        // A 1:1 chat is one, whoever makes it: both sides are told of the first.
        let is_theirs = command.user_id == ids::SYSTEM || chat.member(&command.user_id).is_some();
        return if is_theirs && !is_group && !settings.state.is_group {
            Ok(Some(1))
        } else {
            Err(Rejection::new(Code::ChatExists, "This chat_id is taken: choose another, or leave it out.")
                .at("chat_id"))
        };
    }
    check_members(command)?;
    let (seq, at_ms) = chat.next(now_ms);
    let changed = Change { seq, session: command.session_id.clone() };
    let state = ChatState {
        chat_name: wish.chat_name,
        is_group,
        created_at: at_ms,
        app_data: wish.app_data,
        avatar_url: wish.avatar_url,
        deleted_shown_as: wish.deleted_shown_as.unwrap_or_else(|| "tombstone".into()),
        history_for_new_members: wish.history_for_new_members.unwrap_or(true),
    };
    let settings = Settings { state: state.clone(), changed: changed.clone() };
    chat.settings = Some(settings.clone());
    decisions.effects.push(Effect::ChatMade { chat_id: command.chat_id.clone(), settings });
    let own_role = if is_group { Role::Owner } else { Role::Member };
    let others = command.members.iter().filter(|member| member.user_id != command.user_id).map(|member| {
        let role = member.member_role.as_deref().and_then(Role::parse).filter(|_| is_group).unwrap_or(Role::Member);
        (member.user_id.clone(), role)
    });
    // The system sender makes chats for others and is in none.
    let maker = (command.user_id != ids::SYSTEM).then(|| (command.user_id.clone(), own_role));
    let people: Vec<(String, Role)> = maker.into_iter().chain(others).collect();
    let mut memberships = Vec::new();
    for (user_id, role) in people {
        let stay = Stay { role, joined_seq: seq, left_seq: None, visible_from_seq: 1, changed: changed.clone() };
        memberships.push(open_stay(chat, command, user_id, stay, at_ms, decisions));
    }
    decisions.change(NewChange {
        memberships: Some(memberships),
        chat: Some(state),
        ..new_change(command, seq, at_ms, event_type::CHAT_CREATED)
    });
    Ok(Some(seq))
}

pub(super) fn update(chat: &mut Chat, now_ms: i64, command: &ChatCommand, decisions: &mut Decisions) -> Decision {
    let (role, is_group) = actor(chat, command)?;
    if !is_group || !role.may_change_chat() {
        return Err(forbidden("Only owners and admins of a group change its settings."));
    }
    let wish = command.chat.clone().unwrap_or_default();
    let Some(mut settings) = chat.settings.clone() else { return Err(Rejection::chat_not_found()) };
    if settings.changed.outdates(command.based_on_seq, &command.session_id) {
        return Err(stale("The chat's settings were changed meanwhile; look at them and change again."));
    }
    let before = settings.state.clone();
    let state = &mut settings.state;
    state.chat_name = wish.chat_name.or(state.chat_name.take());
    state.app_data = wish.app_data.or(state.app_data.take());
    state.avatar_url = wish.avatar_url.or(state.avatar_url.take());
    if let Some(shown_as) = wish.deleted_shown_as {
        state.deleted_shown_as = shown_as;
    }
    state.history_for_new_members = wish.history_for_new_members.unwrap_or(state.history_for_new_members);
    if *state == before {
        return Ok(None);
    }
    let (seq, at_ms) = chat.next(now_ms);
    settings.changed = Change { seq, session: command.session_id.clone() };
    let state = settings.state.clone();
    chat.settings = Some(settings.clone());
    decisions.effects.push(Effect::ChatChanged { chat_id: command.chat_id.clone(), settings });
    decisions.change(NewChange { chat: Some(state), ..new_change(command, seq, at_ms, event_type::CHAT_UPDATED) });
    Ok(Some(seq))
}
