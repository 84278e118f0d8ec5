//! `waltalkie cdc resnapshot`: shows how far it is, and what came of it.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use cdc_worker::resnapshot::{self, Options, Report, Step, Summary};
use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use runtime::{Config, Shutdown};

use crate::stop_signal::StopSignal;

/// Between two lines of one step where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Arguments of `cdc resnapshot`.
#[derive(Debug, Clone, Copy, Args)]
pub struct ResnapshotArgs {
    /// Say what is missing and change nothing; a running worker isn't disturbed
    #[arg(long)]
    dry_run: bool,
    /// One JSON object for programs
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(config: Config, args: ResnapshotArgs) -> Result<ExitCode> {
    let mut stop = StopSignal::listen()?;
    let (shown, shutdown) = (Arc::new(Shown::new()), Shutdown::new());
    let shower = Arc::clone(&shown);
    let report = Report::to(move |step| shower.show(step));
    let mut work = Box::pin(resnapshot::run(Arc::new(config), Options { dry_run: args.dry_run }, report, &shutdown));
    let outcome = tokio::select! {
        outcome = &mut work => outcome,
        () = stop.told() => {
            // What is under way ends, and says how.
            shutdown.begin();
            work.await
        }
    };
    shown.bar.finish_and_clear();
    let summary = outcome.map_err(|error| anyhow::Error::msg(error.chain()))?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&summary)?);
    } else {
        println!("{}", text(&summary));
    }
    Ok(ExitCode::SUCCESS)
}

/// A bar on a terminal, else lines on standard error.
struct Shown {
    bar: ProgressBar,
    is_terminal: bool,
    last: Mutex<Option<(Instant, std::mem::Discriminant<Step>)>>,
}

impl Shown {
    fn new() -> Self {
        let is_terminal = std::io::stderr().is_terminal();
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        Self { bar, is_terminal, last: Mutex::default() }
    }

    fn show(&self, step: Step) {
        let (words, progress) = words(step);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = last.is_none_or(|(_, kind)| kind != std::mem::discriminant(&step));
        if self.is_terminal {
            if is_new {
                let template = if progress.is_some() {
                    "  {msg} {bar:30} {human_pos} of {human_len}, {eta} left"
                } else {
                    "  {msg}"
                };
                self.bar
                    .set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
                self.bar.reset_eta();
                self.bar.enable_steady_tick(Duration::from_millis(200));
            }
            self.bar.set_message(words);
            if let Some((done, total)) = progress {
                self.bar.set_length(total);
                self.bar.set_position(done);
            }
        } else if is_new || last.is_some_and(|(at, _)| at.elapsed() >= LINE_EVERY) {
            match progress {
                Some((done, total)) => eprintln!("{words}: {done} of {total}"),
                None => eprintln!("{words}"),
            }
        } else {
            return;
        }
        *last = Some((Instant::now(), std::mem::discriminant(&step)));
    }
}

/// What a step is called, and how far it is.
fn words(step: Step) -> (String, Option<(u64, u64)>) {
    match step {
        Step::WaitingForLease => (
            "waiting: a worker streams the slot; stop it (`waltalkie run cdc`, or `all`) if this is to go on".into(),
            None,
        ),
        Step::ReadingLog { done, total } => ("reading the history".into(), Some((done, total))),
        Step::Comparing { chats } => (format!("comparing with the tables, {chats} chats"), None),
        Step::MakingSlot => {
            ("making the slot; waits for transactions that are open anywhere on the server".into(), None)
        }
        Step::Adding { done, total } => ("adding events".into(), Some((done, total))),
        Step::Following { added } => (format!("following the slot, {added} rows written meanwhile"), None),
        _ => ("working".into(), None),
    }
}

/// The outcome for people.
fn text(summary: &Summary) -> String {
    let Summary { slot, events_before, events_added, chats, users, rows_followed, seconds, .. } = summary;
    let mut lines = Vec::new();
    if let Some(reason) = &summary.refused_because {
        let tense = if summary.is_dry_run { "would not start" } else { "would not have started" };
        lines.push(format!("A worker {tense} on slot {slot}: {reason}"));
    }
    if summary.was_whole {
        lines.push(format!(
            "Nothing is missing: {events_before} events, and slot {slot} goes on after them. Nothing was changed."
        ));
    } else if summary.is_dry_run {
        lines.push(format!(
            "{events_added} events of {chats} chats and {users} profiles are missing; {events_before} events are there. While a \
             worker streams, some of them may be on their way."
        ));
        let slot_part = if summary.makes_slot { "make the slot anew and " } else { "" };
        lines.push(format!("Nothing was changed. `waltalkie cdc resnapshot` would {slot_part}publish them."));
    } else {
        let anew = if summary.makes_slot { ", the slot made anew" } else { "" };
        lines.push(format!(
            "Added {events_added} events of {chats} chats and {users} profiles to {events_before} events{anew}; {rows_followed} \
             rows written meanwhile came by the slot. {seconds:.1} s."
        ));
        lines.push("The history is whole; a worker goes on from here: `waltalkie run cdc`.".into());
    }
    lines.join("\n")
}
