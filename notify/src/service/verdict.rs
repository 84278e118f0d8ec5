//! Decisions about many people and one message, sorted by what follows from them.

use std::collections::{BTreeMap, HashMap, HashSet};

use runtime::clock;
use schemas::Notification;

use super::decider::message_of;
use super::error::Error;
use super::messages::Sent;
use super::people::{Cursors, Member};
use super::{Notifier, metrics};
use crate::decide::{
    Cause, Decision, Look, Mail, Mentions, Message, Policy, Presence, Push, Reason, Recipient, decide,
};
use crate::quiet::QuietHours;

/// What follows from the decisions about one message.
#[derive(Debug, Default)]
pub(crate) struct Verdicts {
    /// Who is pushed to, and why.
    pub(crate) push: Vec<(String, Cause)>,
    /// Who is looked at again, by time.
    pub(crate) look: BTreeMap<i64, Vec<String>>,
    /// Who may get a mail, when, and their hours of silence.
    pub(crate) mail: Vec<(String, i64, Option<QuietHours>)>,
}

/// What is known beside the message and its possible recipients.
pub(crate) struct Known<'a> {
    pub(crate) cursors: &'a Cursors,
    pub(crate) presences: &'a HashMap<String, Presence>,
    /// Whether anything is mailed at all.
    pub(crate) has_mail: bool,
}

/// A message, and members whom it may concern.
pub(crate) struct Question<'a> {
    pub(crate) chat_id: &'a str,
    pub(crate) sent: &'a Sent,
    pub(crate) members: &'a [Member],
}

/// Decides about messages by what is known now; gives for each what follows, and the pushes as they are written down, too.
pub(crate) async fn judge(
    notifier: &Notifier,
    questions: &[Question<'_>],
    look: Look,
) -> Result<Vec<(Verdicts, Vec<Notification>)>, Error> {
    let (mut chats, mut users, mut asked) = (Vec::new(), Vec::new(), HashSet::new());
    for Question { chat_id, sent, members } in questions {
        for member in *members {
            chats.push(*chat_id);
            users.push(member.stay.user_id.as_str());
            if is_asked(member, &sent.sender_id) {
                asked.insert(member.stay.user_id.as_str());
            }
        }
    }
    let asked: Vec<&str> = asked.into_iter().collect();
    let of_chats: Vec<&str> = questions.iter().map(|question| question.chat_id).collect();
    let senders: Vec<&str> = questions.iter().map(|question| question.sent.sender_id.as_str()).collect();
    let roles = notifier.people.roles(&of_chats, &senders).await?;
    let (cursors, presences) = tokio::join!(notifier.people.cursors(&chats, &users), notifier.presences.of(&asked));
    let (cursors, now_ms) = (cursors?, clock::now_ms());
    let has_mail = look == Look::First && notifier.outlets.mail.is_some();
    let known = Known { cursors: &cursors, presences: &presences, has_mail };
    let judged = questions.iter().map(|&Question { chat_id, sent, members }| {
        let role = roles.get(&(chat_id.to_owned(), sent.sender_id.clone()));
        let message = Message {
            chat_id,
            seq: sent.seq,
            message_id: &sent.message_id,
            sender_id: &sent.sender_id,
            sent_at_ms: sent.sent_at_ms,
            mentions: Mentions::of(sent.text.as_deref().unwrap_or_default()),
            may_name_all: matches!(role.map(String::as_str), Some("admin" | "owner")),
        };
        let mut verdicts = verdicts(&message, members, &known, &notifier.policy, look, now_ms);
        let pushed = std::mem::take(&mut verdicts.push).into_iter();
        let pushed = pushed.map(|(user_id, cause)| message_of(&message, user_id, cause_name(cause), now_ms)).collect();
        (verdicts, pushed)
    });
    Ok(judged.collect())
}

/// Whether presence matters for somebody: asking Redis for everybody would be most of the work.
pub(crate) fn is_asked(member: &Member, message_sender: &str) -> bool {
    member.has_device && member.settings.push && member.stay.user_id != message_sender
}

/// Decides for each of them.
pub(crate) fn verdicts(
    message: &Message<'_>,
    members: &[Member],
    known: &Known<'_>,
    policy: &Policy,
    look: Look,
    now_ms: i64,
) -> Verdicts {
    let mut verdicts = Verdicts::default();
    let mut counts: BTreeMap<&'static str, u64> = BTreeMap::new();
    for member in members {
        let user_id = &member.stay.user_id;
        let key = (message.chat_id.to_owned(), user_id.clone());
        let (delivered_seq, read_seq) = known.cursors.get(&key).copied().unwrap_or_default();
        let to = Recipient {
            user_id,
            display_name: member.name.as_deref(),
            stays: std::slice::from_ref(&member.stay),
            settings: &member.settings,
            delivered_seq,
            read_seq,
            presence: known.presences.get(user_id).copied().unwrap_or(Presence::Offline),
            has_device: member.has_device,
            has_address: member.has_address && known.has_mail,
        };
        let decided = decide(message, &to, policy, look, now_ms);
        *counts.entry(name_of(decided)).or_default() += 1;
        let Ok(Decision { cause, push, mail, .. }) = decided else { continue };
        match push {
            Push::Send => verdicts.push.push((user_id.clone(), cause)),
            Push::LookAgain { at_ms } => verdicts.look.entry(at_ms).or_default().push(user_id.clone()),
            Push::No(_) => {}
        }
        // Mail is decided once.
        if let (Mail::Digest { at_ms }, Look::First) = (mail, look) {
            verdicts.mail.push((user_id.clone(), at_ms, member.settings.do_not_disturb.clone()));
        }
    }
    for (name, count) in counts {
        ::metrics::counter!(metrics::DECISIONS, "push" => name).increment(count);
    }
    verdicts
}

fn name_of(decided: Result<Decision, Reason>) -> &'static str {
    match decided {
        Err(reason) | Ok(Decision { push: Push::No(reason), .. }) => reason.name(),
        Ok(Decision { push: Push::Send, .. }) => "send",
        Ok(Decision { push: Push::LookAgain { .. }, .. }) => "look_again",
    }
}

/// A cause as records and tables have it.
pub(crate) const fn cause_name(cause: Cause) -> &'static str {
    match cause {
        Cause::Message => "message",
        Cause::Mention => "mention",
        Cause::MentionAll => "mention_all",
    }
}

/// The other way round; what a newer version wrote is a message.
pub(crate) fn cause_of(name: &str) -> Cause {
    match name {
        "mention" => Cause::Mention,
        "mention_all" => Cause::MentionAll,
        _ => Cause::Message,
    }
}
