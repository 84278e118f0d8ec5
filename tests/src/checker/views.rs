//! Rules over what clients were told and shown.

use std::collections::{HashMap, HashSet};

use schemas::{ChatEvent, event_type};

use super::members::Members;
use super::tables::Truth;
use super::{Evidence, Findings, Observer, Record, Rule, Seen};

/// Checks acknowledgements, then each client's view.
pub(crate) fn check(evidence: &Evidence, truth: &Truth<'_>, members: &Members<'_>, findings: &mut Findings) {
    let failed = check_outcomes(evidence, truth, findings);
    for observer in &evidence.observers {
        let mut view = View { observer, truth, members, failed: &failed, findings, shown: HashMap::new() };
        view.run();
    }
}

/// Compares acknowledgements with the tables; gives the messages that were refused for good.
fn check_outcomes<'a>(evidence: &'a Evidence, truth: &Truth<'_>, findings: &mut Findings) -> HashSet<&'a str> {
    // The last word on a message counts: a refused send may be tried again and succeed.
    let mut is_failed: HashMap<&str, bool> = HashMap::new();
    for observer in &evidence.observers {
        for record in &observer.records {
            match record {
                Record::Acked { chat_id, message_id, seq } => {
                    is_failed.insert(message_id, false);
                    match truth.sends.get(message_id.as_str()) {
                        Some((chat, place)) if chat == chat_id && place == seq => {}
                        Some((chat, place)) => findings.add(
                            Rule::LostWrite,
                            format!(
                                "{}: {message_id} was acknowledged at {chat_id}/{seq} and is at {chat}/{place}",
                                observer.name
                            ),
                        ),
                        None => findings.add(
                            Rule::LostWrite,
                            format!(
                                "{}: {message_id} was acknowledged at {chat_id}/{seq} and is nowhere",
                                observer.name
                            ),
                        ),
                    }
                }
                Record::Failed { message_id } => {
                    is_failed.insert(message_id, true);
                }
                Record::Unknown { message_id } => {
                    is_failed.insert(message_id, false);
                }
                _ => {}
            }
        }
    }
    is_failed.into_iter().filter(|(_, failed)| *failed).map(|(message_id, _)| message_id).collect()
}

/// What one client was shown of one chat.
#[derive(Default)]
struct Shown {
    /// Last place on the present connection.
    last: Option<i64>,
    /// The client's first cursor: what came before it is history, read in pages.
    began: Option<i64>,
    seqs: HashSet<i64>,
    messages: HashSet<String>,
    deleted: HashSet<String>,
}

struct View<'a, 'b> {
    observer: &'a Observer,
    truth: &'b Truth<'a>,
    members: &'b Members<'a>,
    failed: &'b HashSet<&'a str>,
    findings: &'b mut Findings,
    shown: HashMap<&'a str, Shown>,
}

impl<'a> View<'a, '_> {
    fn run(&mut self) {
        for record in &self.observer.records {
            match record {
                Record::Opened => self.shown.values_mut().for_each(|shown| shown.last = None),
                Record::Starts { chat_id, seq } => {
                    let shown = self.shown.entry(chat_id).or_default();
                    shown.last = Some(*seq);
                    shown.began.get_or_insert(*seq);
                }
                Record::Seen(seen) => self.see(seen),
                Record::Mended { chat_id, seq, kind } => self.check_mended(chat_id, *seq, kind),
                _ => {}
            }
        }
        self.check_complete();
    }

    fn wrong(&mut self, rule: Rule, seen: &Seen, what: &str) {
        let detail = format!("{}: {} {}/{} {what}", self.observer.name, seen.frame, seen.chat_id, seen.seq);
        self.findings.add(rule, detail);
    }

    /// A jump is the contract's own way to say that something must be resumed; the other two no server may do.
    fn check_mended(&mut self, chat_id: &str, seq: i64, kind: &str) {
        let rule = match kind {
            "repeated" => Rule::Duplicate,
            "late" => Rule::Nonmonotonic,
            _ => return,
        };
        self.findings.add(rule, format!("{}: the frame of {chat_id}/{seq} came {kind}", self.observer.name));
    }

    fn see(&mut self, seen: &'a Seen) {
        self.check_order(seen);
        self.check_canary(seen);
        if seen.frame == "skipped" {
            return;
        }
        let user = &self.observer.user_id;
        let mut is_entitled = self.members.shows(&seen.chat_id, user, seen.seq);
        if let Some(message_seq) = seen.message_seq {
            is_entitled &= self.members.shows(&seen.chat_id, user, message_seq);
        }
        if !is_entitled {
            self.wrong(Rule::Leak, seen, "is outside the member's intervals");
        }
        match self.truth.events.get(&(seen.chat_id.as_str(), seen.seq)) {
            None => self.wrong(Rule::Inconsistent, seen, "is not in the tables"),
            Some(event) => {
                if let Some(problem) = difference(seen, event) {
                    self.wrong(Rule::Inconsistent, seen, &problem);
                }
            }
        }
        let Some(message_id) = &seen.message_id else { return };
        if self.failed.contains(message_id.as_str()) {
            self.wrong(Rule::AbortedRead, seen, "shows a message that was refused");
        }
        let shown = self.shown.entry(&seen.chat_id).or_default();
        let is_again = seen.frame == "message" && !shown.messages.insert(message_id.clone());
        let was_deleted = shown.deleted.contains(message_id);
        if seen.frame == "message_deleted" {
            shown.deleted.insert(message_id.clone());
        }
        if is_again {
            self.wrong(Rule::Duplicate, seen, "shows a message for the second time");
        }
        if seen.content.is_some() && (was_deleted || seen.frame == "message_deleted") {
            self.wrong(Rule::DeletedBody, seen, "has a body that was deleted");
        }
    }

    fn check_order(&mut self, seen: &'a Seen) {
        let shown = self.shown.entry(&seen.chat_id).or_default();
        shown.began.get_or_insert(seen.seq - 1);
        let last = shown.last.unwrap_or(seen.seq - 1);
        shown.last = Some(seen.to_seq.max(last));
        let known = shown.seqs.len() as i64;
        shown.seqs.extend(seen.seq..=seen.to_seq);
        let is_again = (shown.seqs.len() as i64 - known) < seen.to_seq - seen.seq + 1;
        if is_again {
            self.wrong(Rule::Duplicate, seen, "was shown before");
        }
        if seen.seq <= last {
            self.wrong(Rule::Nonmonotonic, seen, &format!("comes after {last}"));
        } else if seen.seq > last + 1 {
            self.wrong(Rule::Skipped, seen, &format!("comes right after {last}"));
        }
    }

    fn check_canary(&mut self, seen: &Seen) {
        let canary = seen.content.as_deref().and_then(|content| content.split_once("canary:"));
        let Some(chat_id) = canary.and_then(|(_, rest)| rest.split_whitespace().next()) else { return };
        if self.members.stays(chat_id, &self.observer.user_id).is_empty() {
            self.wrong(Rule::Leak, seen, &format!("has a body of chat {chat_id}, where the person never was"));
        }
    }

    fn check_complete(&mut self) {
        for chat_id in self.members.chats_of(&self.observer.user_id) {
            let head = self.truth.heads.get(chat_id).copied().unwrap_or_default();
            let shown = self.shown.get(chat_id);
            let began = shown.and_then(|shown| shown.began).unwrap_or_default();
            for stay in self.members.stays(chat_id, &self.observer.user_id) {
                let from = stay.visible_from_seq.max(began + 1);
                let missing = (from..=stay.left_seq.unwrap_or(head))
                    .find(|seq| shown.is_none_or(|shown| !shown.seqs.contains(seq)));
                if let Some(seq) = missing {
                    let detail = format!("{} was never shown {chat_id}/{seq}", self.observer.name);
                    self.findings.add(Rule::Unseen, detail);
                }
            }
        }
    }
}

/// How what was shown differs from the row. A body that the tables don't have any more can't be compared.
fn difference(seen: &Seen, event: &ChatEvent) -> Option<String> {
    let frame = frame_of(&event.event_type);
    if seen.frame != frame {
        return Some(format!("is a {} in the tables", event.event_type));
    }
    let message = event.message.as_ref()?;
    if seen.message_id.as_ref() != Some(&message.message_id) {
        return Some(format!("is about message {} in the tables", message.message_id));
    }
    let is_other_body = seen.content.is_some() && message.content.is_some() && seen.content != message.content;
    is_other_body.then(|| "has another body in the tables".to_owned())
}

fn frame_of(event_type: &str) -> &'static str {
    match event_type {
        event_type::MESSAGE_PERSISTED => "message",
        event_type::MESSAGE_EDITED => "message_edited",
        event_type::MESSAGE_DELETED => "message_deleted",
        event_type::CHAT_CREATED => "chat_created",
        event_type::CHAT_UPDATED => "chat_updated",
        event_type::MEMBER_JOINED => "member_joined",
        event_type::MEMBER_LEFT => "member_left",
        event_type::MEMBER_UPDATED => "member_updated",
        _ => "skipped",
    }
}
