//! Rules over what is left at the end: tables, log, read models.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use schemas::{ChatEvent, event_type};

use super::{Evidence, Findings, Head, Pending, Rule, Stay};

/// The tables' events, to look up.
pub(crate) struct Truth<'a> {
    /// By chat and place.
    pub(crate) events: HashMap<(&'a str, i64), &'a ChatEvent>,
    /// Places of messages, by id.
    pub(crate) sends: HashMap<&'a str, (&'a str, i64)>,
    /// Last place of each chat.
    pub(crate) heads: HashMap<&'a str, i64>,
    /// Messages that are deleted, by chat and place of the send.
    deleted: HashSet<(&'a str, i64)>,
}

/// Checks what is left, and gives the tables for the rules about views.
pub(crate) fn check<'a>(evidence: &'a Evidence, findings: &mut Findings) -> Truth<'a> {
    let truth = read_truth(&evidence.truth, findings);
    for event in truth.events.values() {
        let message = event.message.as_ref();
        let is_deleted = message.is_some_and(|message| truth.deleted.contains(&(&event.chat_id, message.message_seq)));
        if is_deleted && message.is_some_and(|message| message.content.is_some()) {
            findings.add(Rule::DeletedBody, format!("table row {} still has the body", event.event_id));
        }
    }
    check_log(evidence, &truth, findings);
    check_projections(evidence, findings);
    check_inbox(evidence, findings);
    truth
}

fn read_truth<'a>(events: &'a [ChatEvent], findings: &mut Findings) -> Truth<'a> {
    let mut truth =
        Truth { events: HashMap::new(), sends: HashMap::new(), heads: HashMap::new(), deleted: HashSet::new() };
    for event in events {
        let head = truth.heads.entry(&event.chat_id).or_default();
        if event.seq != *head + 1 {
            findings.add(Rule::Gap, format!("tables: {} follows seq {head}", event.event_id));
        }
        *head = event.seq.max(*head);
        if truth.events.insert((&event.chat_id, event.seq), event).is_some() {
            findings.add(Rule::Duplicate, format!("tables: {} is there twice", event.event_id));
        }
        let Some(message) = &event.message else { continue };
        match event.event_type.as_str() {
            event_type::MESSAGE_PERSISTED => {
                let place = (event.chat_id.as_str(), event.seq);
                if let Some((chat, seq)) = truth.sends.insert(&message.message_id, place) {
                    let detail = format!("message {} is at {chat}/{seq} and at {}", message.message_id, event.event_id);
                    findings.add(Rule::Duplicate, detail);
                }
            }
            event_type::MESSAGE_DELETED => {
                truth.deleted.insert((&event.chat_id, message.message_seq));
            }
            _ => {}
        }
    }
    truth
}

fn check_log(evidence: &Evidence, truth: &Truth<'_>, findings: &mut Findings) {
    let mut last: HashMap<&str, i64> = HashMap::new();
    for event in &evidence.log {
        let last = last.entry(&event.chat_id).or_default();
        match event.seq {
            seq if seq == *last + 1 => *last = seq,
            seq if seq <= *last => findings.add(Rule::Log, format!("log: {} comes again", event.event_id)),
            seq => {
                findings.add(Rule::Gap, format!("log: {} follows seq {last}", event.event_id));
                *last = seq;
            }
        }
        match truth.events.get(&(event.chat_id.as_str(), event.seq)) {
            None => findings.add(Rule::Log, format!("log: {} is not in the tables", event.event_id)),
            Some(row) if !is_same(event, row, truth) => {
                findings.add(
                    Rule::Log,
                    format!("log: {} differs from its row\n    {event:?}\n    {row:?}", event.event_id),
                );
            }
            Some(_) => {}
        }
    }
    for (chat, head) in &truth.heads {
        let logged = last.get(chat).copied().unwrap_or_default();
        if logged < *head {
            findings.add(Rule::Log, format!("log: chat {chat} ends at {logged}, the tables at {head}"));
        }
    }
}

/// The log keeps what was; the tables take bodies away when they are deleted, and don't keep `origin`.
fn is_same(event: &ChatEvent, row: &ChatEvent, truth: &Truth<'_>) -> bool {
    let plain = |event: &ChatEvent| {
        let mut plain = event.clone();
        plain.origin = schemas::Origin::default();
        if let Some(message) = &mut plain.message
            && truth.deleted.contains(&(event.chat_id.as_str(), message.message_seq))
        {
            (message.content, message.app_data) = (None, None);
            message.attachments.clear();
            if event.event_type != event_type::MESSAGE_DELETED {
                message.deleted_at = None;
            }
        }
        plain
    };
    plain(event) == plain(row)
}

/// Membership and heads, made from the log as the projections should have made them.
fn check_projections(evidence: &Evidence, findings: &mut Findings) {
    let mut stays: BTreeMap<(&str, &str, i64), Stay> = BTreeMap::new();
    let mut heads: BTreeMap<&str, Head> = BTreeMap::new();
    for event in &evidence.log {
        for membership in &event.memberships {
            let stay = Stay {
                chat_id: event.chat_id.clone(),
                user_id: membership.user_id.clone(),
                joined_seq: membership.joined_seq,
                left_seq: membership.left_seq,
                visible_from_seq: membership.visible_from_seq,
            };
            stays.insert((&event.chat_id, &membership.user_id, membership.joined_seq), stay);
        }
        let head = heads.entry(&event.chat_id).or_insert_with(|| Head {
            chat_id: event.chat_id.clone(),
            head_seq: 0,
            message_seq: None,
            content: None,
        });
        head.head_seq = event.seq;
        if let Some(message) = &event.message
            && (event.event_type == event_type::MESSAGE_PERSISTED || head.message_seq == Some(message.message_seq))
        {
            head.message_seq = Some(message.message_seq);
            head.content.clone_from(&message.content);
        }
    }
    differences("membership", stays.into_values(), &evidence.read.membership, findings);
    differences("chat_head", heads.into_values(), &evidence.read.heads, findings);
}

fn differences<T: Ord + Clone + std::fmt::Debug>(
    table: &str,
    expected: impl Iterator<Item = T>,
    found: &[T],
    findings: &mut Findings,
) {
    let expected: BTreeSet<T> = expected.collect();
    let rows: BTreeSet<T> = found.iter().cloned().collect();
    for row in expected.difference(&rows) {
        findings.add(Rule::Projection, format!("{table}: the log makes {row:?}, and the table doesn't have it"));
    }
    for row in rows.difference(&expected) {
        findings.add(Rule::Projection, format!("{table}: has {row:?}, which the log doesn't make"));
    }
}

/// One row for each message and each member in whose open stay it was sent, other than its sender, whose delivered
/// cursor is below it.
fn check_inbox(evidence: &Evidence, findings: &mut Findings) {
    let delivered: HashMap<(&str, &str), i64> =
        evidence.read.delivered.iter().map(|(chat, user, seq)| ((chat.as_str(), user.as_str()), *seq)).collect();
    let mut open: HashMap<&str, Vec<&Stay>> = HashMap::new();
    for stay in evidence.stays.iter().filter(|stay| stay.left_seq.is_none()) {
        open.entry(&stay.chat_id).or_default().push(stay);
    }
    let mut found: HashSet<&Pending> = evidence.read.pending.iter().collect();
    for event in evidence.truth.iter().filter(|event| event.event_type == event_type::MESSAGE_PERSISTED) {
        for stay in open.get(event.chat_id.as_str()).into_iter().flatten() {
            let cursor = delivered.get(&(event.chat_id.as_str(), stay.user_id.as_str())).copied().unwrap_or_default();
            if stay.joined_seq > event.seq || stay.user_id == event.actor_id || cursor >= event.seq {
                continue;
            }
            let row = Pending { chat_id: event.chat_id.clone(), seq: event.seq, user_id: stay.user_id.clone() };
            if !found.remove(&row) {
                findings.add(Rule::Inbox, format!("{row:?} should wait: its cursor is {cursor}"));
            }
        }
    }
    for row in found {
        findings.add(Rule::Inbox, format!("{row:?} waits, and shouldn't"));
    }
}
