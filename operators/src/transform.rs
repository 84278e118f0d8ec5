//! The stream operators themselves: an event in, rows out. Pure: no clock, no random numbers, no I/O, so that the same
//! events of a partition make the same rows in the same order, whatever batches they come in and wherever it is restored.
//!
//! *Time* is `occurred_at`. The watermark of a partition is its newest event's time less a delay, and never goes back. A
//! window is **open** until the watermark reaches its end; then it is **closed**, and its row written. Late events are taken
//! in until the watermark is past its end by the lateness; then it is **done with**: one more row if they changed it, and it
//! is forgotten. What comes later still is counted and dropped. An idle partition closes nothing: there is no other clock
//! than its events. So one event from a clock that is ahead makes the partition's next ones late; by the events alone it can't be
//! told from the first one after a long silence.
//!
//! *Memory* is bounded: when windows and the senders in them are too many, the watermark is pushed forward to where the
//! oldest are done with.

use std::collections::BTreeMap;

use schemas::{ChatEvent, MessageState, OperatorWindow, event_type, ids};

use crate::rules::{Kind, Rules};
use crate::text;
use crate::window::{Key, Row, Window};

/// Most windows and senders in them that are kept of one partition.
const MOST_ENTRIES: usize = 500_000;

/// Times beyond the year 9999 count as its end, and those before 1970 as its beginning.
const LATEST_MS: i64 = 253_402_300_799_999;

/// What became of events that came late, by kind of window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Late {
    /// Counted in a window that was closed.
    pub counted: u64,
    /// Came after their window was done with, and are in no row.
    pub dropped: u64,
}

/// What was met while applying events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Late events, in the order of [`Kind::ALL`].
    pub late: [Late; Kind::ALL.len()],
    /// Events of types that this version doesn't know.
    pub unknown: u64,
    /// Times that the watermark was pushed forward because too much was open.
    pub pushed: u64,
}

/// What has to be written to the changelog: a window's record, or that there is none any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Key of the record.
    pub key: String,
    /// `None`: a tombstone.
    pub window: Option<OperatorWindow>,
}

/// The operators' state of one partition.
#[derive(Debug, Clone)]
pub struct Transform {
    rules: Rules,
    watermark_ms: Option<i64>,
    windows: BTreeMap<Key, Window>,
    /// Windows whose records are out of date, each once, and tombstones that have to be written.
    touched: Vec<Key>,
    gone: Vec<String>,
    entries: usize,
    most_entries: usize,
}

impl Transform {
    /// Before the first event.
    pub fn new(rules: Rules) -> Self {
        Self {
            rules,
            watermark_ms: None,
            windows: BTreeMap::new(),
            touched: Vec::new(),
            gone: Vec::new(),
            entries: 0,
            most_entries: MOST_ENTRIES,
        }
    }

    /// As the changelog has it; `None` if a later version wrote what this one doesn't know.
    pub fn restored(
        rules: Rules,
        watermark_ms: Option<i64>,
        records: impl IntoIterator<Item = OperatorWindow>,
    ) -> Option<Self> {
        let mut transform = Self { watermark_ms, ..Self::new(rules) };
        for record in records {
            let (key, window) = Window::from_record(record)?;
            transform.entries += window.weight();
            transform.windows.insert(key, window);
        }
        Some(transform)
    }

    /// Holds less, to see in a test what happens then.
    #[cfg(test)]
    pub(crate) fn holding_at_most(mut self, entries: usize) -> Self {
        self.most_entries = entries;
        self
    }

    /// Takes the partition's next event in; rows that follow from it are added, in their order.
    pub fn apply(&mut self, event: &ChatEvent, rows: &mut Vec<Row>, tally: &mut Tally) {
        let at_ms = event.occurred_at.clamp(0, LATEST_MS);
        match (event.event_type.as_str(), &event.message) {
            (event_type::MESSAGE_PERSISTED, Some(message)) => self.count(event, message, at_ms, rows, tally),
            (
                event_type::MESSAGE_PERSISTED
                | event_type::MESSAGE_EDITED
                | event_type::MESSAGE_DELETED
                | event_type::CHAT_CREATED
                | event_type::CHAT_UPDATED
                | event_type::MEMBER_JOINED
                | event_type::MEMBER_LEFT
                | event_type::MEMBER_UPDATED
                | event_type::WITHHELD,
                _,
            ) => {}
            _ => tally.unknown += 1,
        }
        self.advance(at_ms - self.rules.watermark_delay_ms, rows);
        while self.entries > self.most_entries
            && let Some(oldest) = self.windows.first_key_value()
        {
            let done_at_ms = oldest.0.end_ms.saturating_add(self.rules.lateness_ms);
            self.advance(done_at_ms, rows);
            tally.pushed += 1;
        }
    }

    /// The watermark, in milliseconds since 1970; `None` before the first event.
    pub fn watermark_ms(&self) -> Option<i64> {
        self.watermark_ms
    }

    /// Windows that aren't done with, in the order of [`Kind::ALL`].
    pub fn windows(&self) -> [usize; Kind::ALL.len()] {
        let mut counts = [0; Kind::ALL.len()];
        for key in self.windows.keys() {
            counts[key.kind as usize] += 1;
        }
        counts
    }

    /// What changed since this was last asked.
    pub fn take_changes(&mut self) -> Vec<Change> {
        let gone = self.gone.drain(..).map(|key| Change { key, window: None });
        let mut changes: Vec<Change> = gone.collect();
        for key in self.touched.drain(..) {
            if let Some(window) = self.windows.get_mut(&key).filter(|window| window.is_touched) {
                (window.is_touched, window.is_logged) = (false, true);
                let record = window.to_record(&key);
                changes.push(Change { key: record.key(), window: Some(record) });
            }
        }
        changes
    }

    fn count(&mut self, event: &ChatEvent, message: &MessageState, at_ms: i64, rows: &mut Vec<Row>, tally: &mut Tally) {
        for (kind, late) in Kind::ALL.into_iter().zip(&mut tally.late) {
            let Some(detail) = self.detail_of(kind, event, message) else { continue };
            let length_ms = self.rules.window_ms(kind);
            let start_ms = at_ms - at_ms.rem_euclid(length_ms);
            let end_ms = start_ms + length_ms;
            let passed_ms = self.watermark_ms.map(|watermark_ms| watermark_ms - end_ms);
            if passed_ms.is_some_and(|passed_ms| passed_ms >= self.rules.lateness_ms) {
                late.dropped += 1;
                continue;
            }
            let is_late = passed_ms.is_some_and(|passed_ms| passed_ms >= 0);
            late.counted += u64::from(is_late);
            let key = Key { end_ms, kind, chat_id: event.chat_id.clone(), detail, start_ms };
            let window = self.windows.entry(key.clone()).or_default();
            let weight = if window.is_empty() { 0 } else { window.weight() };
            if window.add(event, message, is_late, self.rules.limit(kind)) {
                rows.extend(window.row(&key));
            }
            self.entries += window.weight() - weight;
            if !std::mem::replace(&mut window.is_touched, true) {
                self.touched.push(key);
            }
        }
    }

    /// What makes a window of this kind the message's; `None` if it is in none.
    fn detail_of(&self, kind: Kind, event: &ChatEvent, message: &MessageState) -> Option<String> {
        // The program's own and services' are no people.
        let is_looked_at = kind == Kind::Activity || !ids::is_reserved(&message.sender_id);
        if !is_looked_at || !self.rules.looks_for(kind) {
            return None;
        }
        match kind {
            Kind::Activity => Some(String::new()),
            Kind::Flood => Some(message.sender_id.clone()),
            Kind::RepeatedText => text::text_hash(&event.chat_id, message.content.as_deref()?),
        }
    }

    /// Moves the watermark, if that is forward: closes windows that end there, then does away with those that are done with.
    fn advance(&mut self, to_ms: i64, rows: &mut Vec<Row>) {
        let from_ms = self.watermark_ms.unwrap_or(i64::MIN);
        if self.watermark_ms.is_some() && to_ms <= from_ms {
            return;
        }
        self.watermark_ms = Some(to_ms);
        let closing = Key::floor(from_ms.saturating_add(1))..Key::floor(to_ms.saturating_add(1));
        if closing.start < closing.end {
            for (key, window) in self.windows.range_mut(closing) {
                if let Some(row) = window.due_row(key) {
                    rows.push(row);
                    if !std::mem::replace(&mut window.is_touched, true) {
                        self.touched.push(key.clone());
                    }
                }
            }
        }
        let done_ms = to_ms.saturating_sub(self.rules.lateness_ms);
        while let Some(oldest) = self.windows.first_entry()
            && oldest.key().end_ms <= done_ms
        {
            let (key, mut window) = oldest.remove_entry();
            rows.extend(window.due_row(&key));
            self.entries -= window.weight();
            if window.is_logged {
                self.gone.push(window.to_record(&key).key());
            }
        }
    }
}
