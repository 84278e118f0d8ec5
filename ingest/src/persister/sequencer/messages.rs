//! Sends, edits and deletes.

use std::collections::HashMap;

use schemas::wire::{Code, Rejection};
use schemas::{Attachment, ChatCommand, MessageState, event_type};
use uuid::Uuid;

use super::members::actor;
use super::{Candidate, Decision, Decisions, Effect, NewChange, NewMessage, new_change, stale};
use crate::persister::book::{Change, Chat, Key, Media, Message};
use crate::persister::roles::Role;

fn message_id_of(command: &ChatCommand) -> Result<Uuid, Rejection> {
    let id = command.message_id.as_deref().and_then(|id| Uuid::try_parse(id).ok());
    id.ok_or_else(|| Rejection::new(Code::BadUuid, "message_id is not a UUID.").at("message_id"))
}

pub(super) fn send(
    chat: &mut Chat,
    (keys, media): (&mut HashMap<Uuid, Key>, &mut HashMap<String, Media>),
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
    actor(chat, command)?;
    let parent = match &command.parent_message_id {
        None => None,
        Some(id) => {
            let id = Uuid::try_parse(id).ok();
            let parent = id.and_then(|id| Some((id, chat.messages.get(&id)?)));
            let found = parent.filter(|(_, parent)| chat.may_see(&command.user_id, parent.seq));
            Some(found.map(|(id, parent)| (id, parent.seq)).ok_or_else(|| {
                Rejection::new(Code::MessageNotFound, "There is no such message to answer in this chat.")
                    .at("parent_message_id")
            })?)
        }
    };
    let attachments = attachments_of(media, command)?;
    let (seq, at_ms) = chat.next(now_ms);
    for media_id in &command.media_ids {
        if let Some(media) = media.get_mut(media_id) {
            media.uses += 1;
        }
        let (chat_id, media_id) = (command.chat_id.clone(), media_id.clone());
        decisions.effects.push(Effect::MediaPosted { chat_id, message_seq: seq, media_id });
    }
    let attachments = (!attachments.is_empty()).then_some(attachments);
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
            attachments: attachments.as_ref().and_then(|attachments| serde_json::to_string(attachments).ok()),
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
        attachments,
        created_at_ms: at_ms,
        body_hash: candidate.body_hash.clone(),
    });
    Ok(Some(seq))
}

/// What the message shows of its files: completed uploads of the sender's own, for this chat, that nobody has begun to
/// remove.
fn attachments_of(media: &HashMap<String, Media>, command: &ChatCommand) -> Result<Vec<Attachment>, Rejection> {
    let of = |media_id: &String| {
        let own = media.get(media_id).filter(|media| media.user_id == command.user_id);
        let own = own.filter(|media| media.chat_id == command.chat_id && !media.is_lost);
        let own = own.ok_or_else(|| Rejection::media_not_found().at("attachments"))?;
        own.attachment.clone().ok_or_else(|| {
            let rule = "The file is not completed yet: upload it and call complete, then send the message.";
            Rejection::new(Code::MediaNotReady, rule).at("attachments")
        })
    };
    command.media_ids.iter().map(of).collect()
}

/// The message of a command, if its sender may see it.
fn visible_message<'a>(chat: &'a mut Chat, command: &ChatCommand) -> Result<(Uuid, Role, &'a mut Message), Rejection> {
    let message_id = message_id_of(command)?;
    let (role, _) = actor(chat, command)?;
    let is_seen = chat.messages.get(&message_id).is_some_and(|message| chat.may_see(&command.user_id, message.seq));
    let message = chat.messages.get_mut(&message_id).filter(|_| is_seen);
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

pub(super) fn edit(chat: &mut Chat, now_ms: i64, command: &ChatCommand, decisions: &mut Decisions) -> Decision {
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

pub(super) fn delete(
    chat: &mut Chat,
    media: &mut HashMap<String, Media>,
    now_ms: i64,
    command: &ChatCommand,
    decisions: &mut Decisions,
) -> Decision {
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
    for attachment in state_of(message_id, message).attachments {
        // With the last message that names it a file goes too. Files that no send of this batch names aren't in the book.
        if let Some(media) = media.get_mut(&attachment.media_id) {
            media.uses -= 1;
            media.is_lost = media.is_lost || media.uses <= 0;
        }
    }
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
