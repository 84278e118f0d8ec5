//! How far a rebuild is: a bar for people, a line now and then for logs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::{HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};
use projections::rebuild::Progress;

const LOOK_EVERY: Duration = Duration::from_millis(200);
const LINE_EVERY: Duration = Duration::from_secs(5);
const TEMPLATE: &str = "  {prefix}: {msg} {bar:30} {human_pos} of {human_len}, {per_sec}, {eta} left";

pub(super) struct Bar<'a> {
    name: &'a str,
    progress: &'a Arc<Progress>,
    drawn: Option<ProgressBar>,
}

impl<'a> Bar<'a> {
    pub(super) fn new(name: &'a str, progress: &'a Arc<Progress>, is_terminal: bool) -> Self {
        let drawn = is_terminal.then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()).with_prefix(name.to_owned());
            bar.set_style(ProgressStyle::with_template(TEMPLATE).unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar
        });
        Self { name, progress, drawn }
    }

    /// Shows it for ever.
    pub(super) async fn show(&self) {
        let began = Instant::now();
        let mut shown = (String::new(), began);
        loop {
            let (phase, read, expected) = self.progress.now();
            if let Some(bar) = &self.drawn {
                if !phase.is_empty() {
                    bar.set_message(format!("{phase}, at most {} behind", HumanCount(behind(read, expected))));
                }
                bar.set_length(expected.max(read));
                bar.set_position(read);
            } else if !phase.is_empty() && (shown.0 != phase || shown.1.elapsed() >= LINE_EVERY) {
                eprintln!("{}: {}", self.name, line(&phase, read, expected, began.elapsed()));
                shown = (phase, Instant::now());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

impl Drop for Bar<'_> {
    fn drop(&mut self) {
        if let Some(bar) = &self.drawn {
            bar.finish_and_clear();
        }
    }
}

/// Records that there may be yet. Offsets stand for records, and those of transactions' markers are never read.
fn behind(read: u64, expected: u64) -> u64 {
    expected.saturating_sub(read)
}

/// What a log is told. Rate and time are those of reading: what comes after it has none.
fn line(phase: &str, read: u64, expected: u64, elapsed: Duration) -> String {
    let behind = behind(read, expected);
    let counts = format!("{phase}, {read} of {expected} records, at most {behind} behind");
    if read == 0 || elapsed.is_zero() || !phase.starts_with("reading") {
        return counts;
    }
    let rate = read as f64 / elapsed.as_secs_f64();
    format!("{counts}, {rate:.0} a second, {:.0} s left", behind as f64 / rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_told_how_fast_it_is_how_far_behind_and_for_how_long_yet() {
        let second = Duration::from_secs(1);
        let told = line("reading chat.events", 3_000, 10_000, 2 * second);
        assert_eq!(told, "reading chat.events, 3000 of 10000 records, at most 7000 behind, 1500 a second, 5 s left");
        let told = line("reading chat.events", 0, 10_000, second);
        assert_eq!(told, "reading chat.events, 0 of 10000 records, at most 10000 behind");
        // More was written meanwhile than had been expected.
        let told = line("swapping the tables in", 11, 10, second);
        assert_eq!(told, "swapping the tables in, 11 of 10 records, at most 0 behind");
    }
}
