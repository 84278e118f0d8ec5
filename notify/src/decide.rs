//! Who is told of a message, and by what: a pure function of the event, the person's membership, settings, cursors and
//! presence, and the time given to it.
//!
//! | | in-app | push | mail |
//! |---|---|---|---|
//! | when | at once | no device is active, or none has taken the message within [`Policy::look_again_ms`] | still unread after [`Policy::mail_after_ms`], as a [`digest`](crate::digest) |
//! | kept back in do-not-disturb hours | yes | yes | until they end |
//!
//! What is decided of in-app signs is the rule for clients, which have the event, the cursors and the settings themselves:
//! nothing is sent for it, and nothing here acts on it. The web client decides in `web/app/src/model/signs.ts`, and is held
//! against the same table of cases, `tests/tables/decisions.txt`.
//!
//! *Presence lies in two ways.* A session that died is seen for up to 10 s more, so who looks online is looked at again
//! before the push is given up. After a restart or flush of Redis everybody looks offline until sessions are written again:
//! that is [`Presence::NotKnown`], which doesn't count as offline for two minutes.

mod mentions;
mod message;
#[cfg(test)]
mod tests;

use schemas::Membership;

pub use mentions::Mentions;
pub use message::Message;

use crate::settings::Settings;

/// How old a message becomes while it can't be said who is online, before it is pushed to everybody who hasn't taken it: Redis
/// may be away for long, or no gateway there.
const MOST_UNSURE_MS: i64 = 120_000;

/// Times that the operator sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// How long who looks online has time to take a message before a push is sent all the same. Longer than the 10 s that
    /// the session of a dead connection is still seen.
    pub look_again_ms: i64,
    /// How long a message stays unread before it is mailed.
    pub mail_after_ms: i64,
    /// Older messages, as from a backlog, aren't pushed any more.
    pub push_within_ms: i64,
}

impl Default for Policy {
    fn default() -> Self {
        Self { look_again_ms: 15_000, mail_after_ms: 15 * 60_000, push_within_ms: 24 * 3_600_000 }
    }
}

/// Whether a person has a connection, and is at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// A session is there, and perhaps the person.
    Online,
    /// Sessions are there, and nobody at any of them: hidden pages take messages too.
    Idle,
    /// None is, and that can be relied on.
    Offline,
    /// It can't be said, as in the 10 s after a restart or flush of Redis.
    NotKnown {
        /// From when on it can, in milliseconds since 1970.
        until_ms: i64,
    },
}

/// One person who may be told.
#[derive(Debug, Clone, Copy)]
pub struct Recipient<'a> {
    /// Who.
    pub user_id: &'a str,
    /// What others call them.
    pub display_name: Option<&'a str>,
    /// Their stays in the chat, any order. Whoever left isn't told, also not of what came before.
    pub stays: &'a [Membership],
    /// What they want.
    pub settings: &'a Settings,
    /// Up to where a device of theirs has taken the chat.
    pub delivered_seq: i64,
    /// Up to where they have read it.
    pub read_seq: i64,
    /// Whether they have a connection, and are at it.
    pub presence: Presence,
    /// Whether they have a device to push to.
    pub has_device: bool,
    /// Whether they have a mail address.
    pub has_address: bool,
}

/// What tells a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// A message in one of their chats.
    Message,
    /// They were named.
    Mention,
    /// An admin or owner named all.
    MentionAll,
}

/// What is done for one person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// What tells them, also where nothing does in the end.
    pub cause: Cause,
    /// Signs in the application, which clients give by themselves.
    pub in_app: InApp,
    /// On devices.
    pub push: Push,
    /// By mail.
    pub mail: Mail,
}

/// Signs in the application, such as a line that is read out. A number of unread messages, as in a title or on an icon, counts those
/// for which there is a decision and `in_app` is on, in do-not-disturb hours too: it disturbs nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InApp {
    /// At once.
    Show,
    /// Not at all.
    No(Reason),
}

/// A push to all devices of a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Push {
    /// At once.
    Send,
    /// Decide again, with [`Look::Again`], at a time in milliseconds since 1970, with what is known then.
    LookAgain {
        /// When.
        at_ms: i64,
    },
    /// Not at all.
    No(Reason),
}

/// A place in the person's next digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mail {
    /// If it is unread at that time, in milliseconds since 1970.
    Digest {
        /// When.
        at_ms: i64,
    },
    /// Not at all.
    No(Reason),
}

/// Whether this is decided for the first time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// Yes: who is online has a moment to take it.
    First,
    /// No: they had it.
    Again,
}

/// Why a person isn't told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The event isn't a new message.
    NotAMessage,
    /// What was said isn't to be had.
    Withheld,
    /// It was deleted.
    Deleted,
    /// They wrote it.
    Own,
    /// They aren't in the chat, or not any more.
    NotAMember,
    /// It is from before the time that they may see.
    Hidden,
    /// They have read it.
    Read,
    /// They muted the chat.
    Muted,
    /// They hear mentions of the chat only, and this is none.
    MentionsOnly,
    /// It is in their do-not-disturb hours.
    DoNotDisturb,
    /// They don't want this channel.
    Off,
    /// A device of theirs has it.
    Delivered,
    /// They have no device.
    NoDevice,
    /// They have no mail address.
    NoAddress,
    /// It is too old for a push.
    TooOld,
}

impl Reason {
    /// Its name in metrics and tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotAMessage => "not_a_message",
            Self::Withheld => "withheld",
            Self::Deleted => "deleted",
            Self::Own => "own",
            Self::NotAMember => "not_a_member",
            Self::Hidden => "hidden",
            Self::Read => "read",
            Self::Muted => "muted",
            Self::MentionsOnly => "mentions_only",
            Self::DoNotDisturb => "do_not_disturb",
            Self::Off => "off",
            Self::Delivered => "delivered",
            Self::NoDevice => "no_device",
            Self::NoAddress => "no_address",
            Self::TooOld => "too_old",
        }
    }
}

/// Decides for one person. The error is why nothing at all is done, now or later.
pub fn decide(
    message: &Message<'_>,
    to: &Recipient<'_>,
    policy: &Policy,
    look: Look,
    now_ms: i64,
) -> Result<Decision, Reason> {
    entitled(message, to)?;
    if to.read_seq >= message.seq {
        return Err(Reason::Read);
    }
    let cause = cause(message, to);
    wanted(message, to, cause)?;
    let quiet = to.settings.do_not_disturb.as_ref();
    let is_quiet = quiet.is_some_and(|hours| hours.end_of(now_ms).is_some());
    let in_app = if !to.settings.in_app {
        InApp::No(Reason::Off)
    } else if is_quiet {
        InApp::No(Reason::DoNotDisturb)
    } else {
        InApp::Show
    };
    let push = if is_quiet && to.settings.push {
        Push::No(Reason::DoNotDisturb)
    } else {
        push(message, to, policy, look, now_ms)
    };
    Ok(Decision { cause, in_app, push, mail: mail(message, to, policy, now_ms) })
}

fn entitled(message: &Message<'_>, to: &Recipient<'_>) -> Result<(), Reason> {
    if to.user_id == message.sender_id {
        return Err(Reason::Own);
    }
    // A member at that `seq`, and still one: who is added later isn't told of what came before.
    let mut present = to.stays.iter().filter(|stay| stay.user_id == to.user_id && stay.left_seq.is_none());
    let stay = present.next().ok_or(Reason::NotAMember)?;
    if stay.joined_seq <= message.seq && stay.shows(message.seq) { Ok(()) } else { Err(Reason::Hidden) }
}

fn cause(message: &Message<'_>, to: &Recipient<'_>) -> Cause {
    if message.mentions.name(to.user_id, to.display_name) {
        Cause::Mention
    } else if message.may_name_all && message.mentions.names_all() {
        Cause::MentionAll
    } else {
        Cause::Message
    }
}

fn wanted(message: &Message<'_>, to: &Recipient<'_>, cause: Cause) -> Result<(), Reason> {
    if to.settings.muted_chat_ids.contains(message.chat_id) {
        return Err(Reason::Muted);
    }
    if cause == Cause::Message && to.settings.mentions_only_chat_ids.contains(message.chat_id) {
        return Err(Reason::MentionsOnly);
    }
    Ok(())
}

fn push(message: &Message<'_>, to: &Recipient<'_>, policy: &Policy, look: Look, now_ms: i64) -> Push {
    if !to.settings.push {
        return Push::No(Reason::Off);
    }
    if !to.has_device {
        return Push::No(Reason::NoDevice);
    }
    // Who was there when it came, and took it, has seen that there is something.
    let is_unseen = to.presence == Presence::Idle && look == Look::First;
    if to.delivered_seq >= message.seq && !is_unseen {
        return Push::No(Reason::Delivered);
    }
    if now_ms.saturating_sub(message.sent_at_ms) > policy.push_within_ms {
        return Push::No(Reason::TooOld);
    }
    let is_late = look == Look::Again && now_ms.saturating_sub(message.sent_at_ms) > MOST_UNSURE_MS;
    match (to.presence, look) {
        (Presence::NotKnown { until_ms }, _) if until_ms > now_ms && !is_late => Push::LookAgain { at_ms: until_ms },
        // Too late to be unsure: whoever asks knows by now, or says a later time.
        (Presence::Online | Presence::NotKnown { .. }, Look::First) => {
            Push::LookAgain { at_ms: now_ms.saturating_add(policy.look_again_ms) }
        }
        (Presence::Idle | Presence::Offline, _) | (Presence::Online | Presence::NotKnown { .. }, Look::Again) => {
            Push::Send
        }
    }
}

fn mail(message: &Message<'_>, to: &Recipient<'_>, policy: &Policy, now_ms: i64) -> Mail {
    if !to.settings.email {
        return Mail::No(Reason::Off);
    }
    if !to.has_address {
        return Mail::No(Reason::NoAddress);
    }
    let at_ms = message.sent_at_ms.saturating_add(policy.mail_after_ms).max(now_ms);
    let quiet_until_ms = to.settings.do_not_disturb.as_ref().and_then(|hours| hours.end_of(at_ms));
    Mail::Digest { at_ms: quiet_until_ms.unwrap_or(at_ms) }
}
