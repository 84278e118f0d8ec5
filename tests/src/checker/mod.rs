//! The checker: judges a whole run by what clients saw and what is left at the end. Pure, and linear in the evidence.
//!
//! | rule | says | after Jepsen's Kafka workload |
//! |---|---|---|
//! | `LostWrite` | what was acknowledged is in the tables, at the acknowledged place | lost-write |
//! | `Unseen` | each member was shown everything of their intervals | unseen |
//! | `AbortedRead` | nothing that was refused is ever shown | G1a |
//! | `Inconsistent` | a place in a chat holds one event, for tables, log and everybody | inconsistent-offsets |
//! | `Nonmonotonic` | a connection shows a chat's events in rising order | nonmonotonic-poll |
//! | `Skipped` | a connection leaves out no place | poll-skip |
//! | `Duplicate` | nothing is shown twice, and a message has one place | duplicate |
//! | `Gap` | the places of a chat are 1..n, in the tables and in the log | – |
//! | `Log` | the log is the tables, each event once and in order | – |
//! | `Leak` | nothing is shown outside a member's intervals, and no chat's body to people who are not in it | – |
//! | `DeletedBody` | no body after its deletion: not to those who passed it, not in tables or read models | – |
//! | `Projection` | read models are what the log makes of itself | – |
//! | `Inbox` | at rest, what waits is what the events and the cursors say | – |
//!
//! Bodies may carry a canary, `canary:<chat_id>` up to the next white space, by which a leak is known even when it comes
//! under a false name.

mod evidence;
mod history;
mod members;
mod tables;
mod views;

#[cfg(test)]
mod mutations;

pub use evidence::{Evidence, Head, Observer, Pending, ReadModels, Record, Seen, Stay};
pub use history::{count, observers_of};

use std::fmt;

/// What the evidence may break.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the module's table says what each means")]
pub enum Rule {
    LostWrite,
    Unseen,
    AbortedRead,
    Inconsistent,
    Nonmonotonic,
    Skipped,
    Duplicate,
    Gap,
    Log,
    Leak,
    DeletedBody,
    Projection,
    Inbox,
}

/// One broken rule, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The rule.
    pub rule: Rule,
    /// Place and people.
    pub detail: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}: {}", self.rule, self.detail)
    }
}

/// Collects findings.
#[derive(Debug, Default)]
pub(crate) struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, rule: Rule, detail: impl Into<String>) {
        self.0.push(Finding { rule, detail: detail.into() });
    }
}

/// Everything that is wrong; empty if the run kept its promises.
pub fn check(evidence: &Evidence) -> Vec<Finding> {
    let mut findings = Findings::default();
    let truth = tables::check(evidence, &mut findings);
    let members = members::Members::of(&evidence.stays);
    views::check(evidence, &truth, &members, &mut findings);
    findings.0
}

/// Fails with the first findings, for tests.
pub fn insist(evidence: &Evidence) -> anyhow::Result<()> {
    let findings = check(evidence);
    if findings.is_empty() {
        return Ok(());
    }
    let shown: Vec<String> = findings.iter().take(20).map(ToString::to_string).collect();
    anyhow::bail!("{} broken rules, the first of them:\n  {}", findings.len(), shown.join("\n  "))
}
