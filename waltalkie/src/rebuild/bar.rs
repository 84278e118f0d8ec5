//! How far a rebuild is: a bar for people, a line now and then for logs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
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
        let mut shown = (String::new(), Instant::now());
        loop {
            let (phase, read, expected) = self.progress.now();
            if let Some(bar) = &self.drawn {
                bar.set_message(phase);
                bar.set_length(expected.max(read));
                bar.set_position(read);
            } else if !phase.is_empty() && (shown.0 != phase || shown.1.elapsed() >= LINE_EVERY) {
                eprintln!("{}: {phase}, {read} of {expected} records", self.name);
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
