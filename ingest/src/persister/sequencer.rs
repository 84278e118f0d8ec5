//! Decides commands in the order of their log: which get a `seq`, what rows they make, what their senders are told.
//!
//! Pure: everything it knows is in the [`Book`], the clock's time included. The same commands on the same book give
//! the same decisions, and a command changes nothing but its own chat.

use std::collections::HashMap;

use schemas::wire::{Answer, Code, Rejection};
use schemas::{ChatCommand, ChatState, Membership, MessageState, command_type, event_type};
use uuid::Uuid;

use super::book::{Book, Change, Chat, Key, Message, Settings, Stay};
use super::roles::Role;

/// Most people in one membership command, so that no event grows without bound.
pub(crate) const MAX_MEMBERS: usize = 500;

/// A row of `message` to insert.
#[derive(Debug, Clone)]
pub(crate) struct NewMessage {
    pub(crate) message_id: Uuid,
    pub(crate) chat_id: String,
    pub(crate) sender_id: String,
    pub(crate) content: String,
    pub(crate) parent_message_id: Option<Uuid>,
    pub(crate) parent_seq: Option<i64>,
    pub(crate) seq: i64,
    pub(crate) app_data: Option<String>,
    pub(crate) created_at_ms: i64,
    pub(crate) body_hash: Vec<u8>,
}

/// A row of `chat_change` to insert.
#[derive(Debug, Clone)]
pub(crate) struct NewChange {
    pub(crate) chat_id: String,
    pub(crate) seq: i64,
    pub(crate) event_type: &'static str,
    pub(crate) actor_id: String,
    pub(crate) occurred_at_ms: i64,
    pub(crate) message_seq: Option<i64>,
    pub(crate) content: Option<String>,
    pub(crate) message: Option<MessageState>,
    pub(crate) memberships: Option<Vec<Membership>>,
    pub(crate) chat: Option<ChatState>,
}

/// State beside the rows, changed in the same transaction and never published. In the order in which it must happen.
#[derive(Debug, Clone)]
pub(crate) enum Effect {
    ChatMade { chat_id: String, settings: Settings },
    ChatChanged { chat_id: String, settings: Settings },
    StayOpened { chat_id: String, user_id: String, stay: Stay, at_ms: i64 },
    StayChanged { chat_id: String, user_id: String, stay: Stay, at_ms: i64 },
    MessageEdited { chat_id: String, message_seq: i64, edited: Change },
    MessageDeleted { chat_id: String, message_seq: i64, at_ms: i64 },
}

/// The rows of one round. A round's messages are written before its changes, so that a chat's rows enter the log in
/// the order of their `seq`: a send after a change goes to the next round.
#[derive(Debug, Default)]
pub(crate) struct Round {
    pub(crate) messages: Vec<NewMessage>,
    pub(crate) changes: Vec<NewChange>,
}

/// What a batch comes to.
#[derive(Debug, Default)]
pub(crate) struct Decisions {
    pub(crate) rounds: Vec<Round>,
    pub(crate) effects: Vec<Effect>,
    /// One for each command, in their order; `true` where the answer must be kept in `command_result`.
    pub(crate) answers: Vec<(Answer, bool)>,
    chat_round: HashMap<String, (usize, bool)>,
}

impl Decisions {
    fn message(&mut self, message: NewMessage) {
        let (round, has_change) = self.chat_round.entry(message.chat_id.clone()).or_default();
        if *has_change {
            (*round, *has_change) = (*round + 1, false);
        }
        let round = *round;
        self.round(round).messages.push(message);
    }

    fn change(&mut self, change: NewChange) {
        let (round, has_change) = self.chat_round.entry(change.chat_id.clone()).or_default();
        *has_change = true;
        let round = *round;
        self.round(round).changes.push(change);
    }

    fn round(&mut self, number: usize) -> &mut Round {
        while self.rounds.len() <= number {
            self.rounds.push(Round::default());
        }
        &mut self.rounds[number]
    }
}

/// A command and the hash of its body.
pub(crate) struct Candidate {
    pub(crate) command: ChatCommand,
    pub(crate) body_hash: Vec<u8>,
}

type Decision = Result<Option<i64>, Rejection>;

/// Decides a batch.
pub(crate) fn decide(book: &mut Book, batch: &[&Candidate]) -> Decisions {
    let mut decisions = Decisions::default();
    for candidate in batch {
        let command = &candidate.command;
        let decision = decide_one(book, candidate, &mut decisions);
        // A send that was taken can be found by its message_id; everything else needs its result kept.
        let is_kept = decision.is_err() || command.command_type != command_type::MESSAGE_SEND;
        let (seq, rejection) = match decision {
            Ok(seq) => (seq, None),
            Err(rejection) => (None, Some(rejection)),
        };
        decisions.answers.push((Answer { command_id: command.command_id.clone(), seq, rejection }, is_kept));
    }
    decisions
}

fn decide_one(book: &mut Book, candidate: &Candidate, decisions: &mut Decisions) -> Decision {
    let command = &candidate.command;
    let now_ms = book.now_ms;
    let Book { chats, keys, .. } = book;
    let chat = chats.entry(command.chat_id.clone()).or_default();
    match command.command_type.as_str() {
        command_type::MESSAGE_SEND => send(chat, keys, now_ms, candidate, decisions),
        command_type::MESSAGE_EDIT => edit(chat, now_ms, command, decisions),
        command_type::MESSAGE_DELETE => delete(chat, now_ms, command, decisions),
        command_type::CHAT_CREATE => create(chat, now_ms, command, decisions),
        command_type::CHAT_UPDATE => update(chat, now_ms, command, decisions),
        command_type::MEMBERS_ADD => add(chat, now_ms, command, decisions),
        command_type::MEMBERS_REMOVE => remove(chat, now_ms, command, decisions),
        command_type::MEMBERS_UPDATE => change_roles(chat, now_ms, command, decisions),
        other => {
            Err(Rejection::new(Code::NotSupported, format!("This version doesn't know commands of type {other}.")))
        }
    }
}

fn message_id_of(command: &ChatCommand) -> Result<Uuid, Rejection> {
    let id = command.message_id.as_deref().and_then(|id| Uuid::try_parse(id).ok());
    id.ok_or_else(|| Rejection::new(Code::BadUuid, "message_id is not a UUID.").at("message_id"))
}

fn send(
    chat: &mut Chat,
    keys: &mut HashMap<Uuid, Key>,
    now_ms: i64,
    candidate: &Candidate,
    decisions: &mut Decisions,
) -> Decision {
    let command = &candidate.command;
    let message_id = message_id_of(command)?;
    // A repeated send is answered before anything else is asked: also after an edit, a delete or the sender's removal.
    if let Some(key) = keys.get(&message_id) {
        let is_same =
            key.chat_id == command.chat_id && key.sender_id == command.user_id && key.body_hash == candidate.body_hash;
        return if is_same {
            Ok(Some(key.seq))
        } else {
            Err(Rejection::new(
                Code::MessageIdConflict,
                "This message_id was used before for something else: send with a new one.",
            )
            .at("message_id"))
        };
    }
    let stay = chat.member(&command.user_id).ok_or_else(Rejection::chat_not_found)?;
    let visible_from_seq = stay.visible_from_seq;
    let parent = match &command.parent_message_id {
        None => None,
        Some(id) => {
            let id = Uuid::try_parse(id).ok();
            let parent = id.and_then(|id| Some((id, chat.messages.get(&id)?)));
            let found = parent.filter(|(_, parent)| parent.seq >= visible_from_seq);
            Some(found.map(|(id, parent)| (id, parent.seq)).ok_or_else(|| {
                Rejection::new(Code::MessageNotFound, "There is no such message to answer in this chat.")
                    .at("parent_message_id")
            })?)
        }
    };
    let (seq, at_ms) = chat.next(now_ms);
    let (parent_message_id, parent_seq) = parent.unzip();
    keys.insert(
        message_id,
        Key {
            chat_id: command.chat_id.clone(),
            sender_id: command.user_id.clone(),
            seq,
            body_hash: candidate.body_hash.clone(),
        },
    );
    chat.messages.insert(
        message_id,
        Message {
            seq,
            sender_id: command.user_id.clone(),
            parent_message_id,
            parent_seq,
            app_data: command.app_data.clone(),
            created_at_ms: at_ms,
            ..Message::default()
        },
    );
    decisions.message(NewMessage {
        message_id,
        chat_id: command.chat_id.clone(),
        sender_id: command.user_id.clone(),
        content: command.content.clone().unwrap_or_default(),
        parent_message_id,
        parent_seq,
        seq,
        app_data: command.app_data.clone(),
        created_at_ms: at_ms,
        body_hash: candidate.body_hash.clone(),
    });
    Ok(Some(seq))
}

/// The message of a command, if its sender may see it.
fn visible_message<'a>(chat: &'a mut Chat, command: &ChatCommand) -> Result<(Uuid, Role, &'a mut Message), Rejection> {
    let message_id = message_id_of(command)?;
    let stay = chat.member(&command.user_id).ok_or_else(Rejection::chat_not_found)?;
    let (role, visible_from_seq) = (stay.role, stay.visible_from_seq);
    let message = chat.messages.get_mut(&message_id).filter(|message| message.seq >= visible_from_seq);
    Ok((message_id, role, message.ok_or_else(Rejection::message_not_found)?))
}

fn state_of(message_id: Uuid, message: &Message) -> MessageState {
    let attachments =
        message.attachments.as_deref().and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default();
    MessageState {
        message_id: message_id.to_string(),
        message_seq: message.seq,
        sender_id: message.sender_id.clone(),
        content: None,
        parent_message_id: message.parent_message_id.map(|id| id.to_string()),
        parent_seq: message.parent_seq,
        created_at: message.created_at_ms,
        edited_at: message.edited_at_ms,
        deleted_at: None,
        app_data: message.app_data.clone(),
        attachments,
    }
}

fn edit(chat: &mut Chat, now_ms: i64, command: &ChatCommand, decisions: &mut Decisions) -> Decision {
    let (message_id, _, message) = visible_message(chat, command)?;
    if message.is_deleted || message.sender_id != command.user_id {
        return Err(Rejection::message_not_found());
    }
    if message.edited.outdates(command.based_on_seq, &command.session_id) {
        return Err(stale("The message was edited meanwhile; look at it and edit again.").at("message_id"));
    }
    let (seq, at_ms) = chat.next(now_ms);
    let edited = Change { seq, session: command.session_id.clone() };
    let Some(message) = chat.messages.get_mut(&message_id) else { return Err(Rejection::message_not_found()) };
    message.edited = edited.clone();
    message.edited_at_ms = Some(at_ms);
    let message_seq = message.seq;
    let state = state_of(message_id, message);
    decisions.effects.push(Effect::MessageEdited { chat_id: command.chat_id.clone(), message_seq, edited });
    decisions.change(NewChange {
        message_seq: Some(message_seq),
        content: command.content.clone(),
        message: Some(state),
        ..new_change(command, seq, at_ms, event_type::MESSAGE_EDITED)
    });
    Ok(Some(seq))
}

fn delete(chat: &mut Chat, now_ms: i64, command: &ChatCommand, decisions: &mut Decisions) -> Decision {
    let is_group = chat.settings.as_ref().is_some_and(|settings| settings.state.is_group);
    let (message_id, role, message) = visible_message(chat, command)?;
    let may = message.sender_id == command.user_id || (is_group && role.may_delete_others_messages());
    if !may {
        return Err(Rejection::message_not_found());
    }
    if message.is_deleted {
        return Ok(None);
    }
    let (seq, at_ms) = chat.next(now_ms);
    let Some(message) = chat.messages.get_mut(&message_id) else { return Err(Rejection::message_not_found()) };
    message.is_deleted = true;
    (message.app_data, message.attachments) = (None, None);
    let message_seq = message.seq;
    let state = MessageState { deleted_at: Some(at_ms), ..state_of(message_id, message) };
    decisions.effects.push(Effect::MessageDeleted { chat_id: command.chat_id.clone(), message_seq, at_ms });
    decisions.change(NewChange {
        message_seq: Some(message_seq),
        message: Some(state),
        ..new_change(command, seq, at_ms, event_type::MESSAGE_DELETED)
    });
    Ok(Some(seq))
}

fn create(chat: &mut Chat, now_ms: i64, command: &ChatCommand, decisions: &mut Decisions) -> Decision {
    let wish = command.chat.clone().unwrap_or_default();
    let is_group = wish.is_group.unwrap_or(true);
    if let Some(settings) = &chat.settings {
        // A 1:1 chat is one, whoever makes it: both sides are told of the first.
        let is_theirs = chat.member(&command.user_id).is_some();
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
    let people: Vec<(String, Role)> = std::iter::once((command.user_id.clone(), own_role)).chain(others).collect();
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

fn update(chat: &mut Chat, now_ms: i64, command: &ChatCommand, decisions: &mut Decisions) -> Decision {
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

fn add(chat: &mut Chat, now_ms: i64, command: &ChatCommand, decisions: &mut Decisions) -> Decision {
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

fn remove(chat: &mut Chat, now_ms: i64, command: &ChatCommand, decisions: &mut Decisions) -> Decision {
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
        memberships.push(change_stay(chat, command, user_id, stay, at_ms, decisions));
    }
    decisions.change(NewChange {
        memberships: Some(memberships),
        ..new_change(command, seq, at_ms, event_type::MEMBER_LEFT)
    });
    Ok(Some(seq))
}

fn change_roles(chat: &mut Chat, now_ms: i64, command: &ChatCommand, decisions: &mut Decisions) -> Decision {
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

fn actor(chat: &Chat, command: &ChatCommand) -> Result<(Role, bool), Rejection> {
    let stay = chat.member(&command.user_id).ok_or_else(Rejection::chat_not_found)?;
    Ok((stay.role, chat.settings.as_ref().is_some_and(|settings| settings.state.is_group)))
}

/// The gateway checks the same; what comes another way must not get further than here.
fn check_members(command: &ChatCommand) -> Result<(), Rejection> {
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

fn open_stay(
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

fn change_stay(
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

fn new_change(command: &ChatCommand, seq: i64, at_ms: i64, event_type: &'static str) -> NewChange {
    NewChange {
        chat_id: command.chat_id.clone(),
        seq,
        event_type,
        actor_id: command.user_id.clone(),
        occurred_at_ms: at_ms,
        message_seq: None,
        content: None,
        message: None,
        memberships: None,
        chat: None,
    }
}

fn forbidden(text: &str) -> Rejection {
    Rejection::new(Code::Forbidden, text)
}

fn stale(text: &str) -> Rejection {
    Rejection::new(Code::Conflict, text)
}

fn last_owner() -> Rejection {
    Rejection::new(Code::LastOwner, "A group needs an owner: make somebody else an owner first.")
}

#[cfg(test)]
#[path = "sequencer_tests.rs"]
mod tests;
