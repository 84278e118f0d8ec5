//! What a person sees while a stack is fetched, started and stopped.

use std::sync::Mutex;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::service::Service;

/// How a server came to be running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// Started now.
    Started,
    /// Left over by a holder that was killed, and taken over as it was.
    TakenOver,
}

/// A step of fetching.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FetchStep {
    /// Another process fetches into the same cache; waiting for it.
    Waiting,
    /// About this much is to be transferred, less what Maven already has.
    Begin {
        /// Megabytes.
        megabytes: u64,
    },
    /// So much has come so far.
    Transfer {
        /// The file on its way.
        artifact: String,
        /// Bytes, as near as Maven's rounded figures tell.
        bytes: u64,
    },
    /// Everything is here and is being unpacked.
    Unpacking,
    /// Given up; the error follows as the result.
    Failed,
    /// Done.
    Done {
        /// Time since the beginning.
        took: Duration,
    },
}

/// Told of each step; all methods do nothing unless overridden.
pub trait Progress: Send + Sync {
    /// The servers are being fetched. Not called when they already are in the cache.
    fn fetching(&self, step: &FetchStep) {
        let _ = step;
    }
    /// These are about to be started.
    fn starting(&self, services: &[Service]) {
        let _ = services;
    }
    /// One answers.
    fn ready(&self, service: Service, arrival: Arrival, port: u16, took: Duration) {
        let _ = (service, arrival, port, took);
    }
    /// One has ended as asked.
    fn stopped(&self, service: Service, took: Duration) {
        let _ = (service, took);
    }
    /// Something worth a line.
    fn note(&self, text: &str) {
        let _ = text;
    }
}

/// Shows nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {}

/// Lines and a bar on standard error, where they don't mix with what a command prints. Without a terminal the bar is
/// left out.
#[derive(Debug, Default)]
pub struct Terminal {
    bar: Mutex<Option<ProgressBar>>,
}

impl Terminal {
    /// A terminal with nothing shown yet.
    pub fn new() -> Self {
        Self::default()
    }

    fn line(&self, text: &str) {
        let bar = self.bar.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match bar.as_ref() {
            Some(bar) => bar.suspend(|| eprintln!("{text}")),
            None => eprintln!("{text}"),
        }
    }

    fn replace(&self, new: Option<ProgressBar>) {
        let mut bar = self.bar.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(old) = std::mem::replace(&mut *bar, new) {
            old.finish_and_clear();
        }
    }

    fn with_bar(&self, act: impl FnOnce(&ProgressBar)) {
        if let Some(bar) = self.bar.lock().unwrap_or_else(std::sync::PoisonError::into_inner).as_ref() {
            act(bar);
        }
    }
}

impl Progress for Terminal {
    fn fetching(&self, step: &FetchStep) {
        match step {
            FetchStep::Waiting => self.line("another process is fetching the servers; waiting for it"),
            FetchStep::Begin { megabytes } => {
                self.line(&format!(
                    "fetching Kafka, the schema registry, PostgreSQL and Redis: about {megabytes} MB, once"
                ));
                let bar = ProgressBar::new(megabytes * 1_000_000);
                if let Ok(style) = ProgressStyle::with_template("  {bar:30} {decimal_bytes:>9}  {wide_msg}") {
                    bar.set_style(style);
                }
                self.replace(Some(bar));
            }
            FetchStep::Transfer { artifact, bytes } => self.with_bar(|bar| {
                // The size ahead is an estimate: a bar that stands at its end is worse than one that grows.
                if *bytes > bar.length().unwrap_or(0) {
                    bar.set_length(*bytes);
                }
                bar.set_position(*bytes);
                bar.set_message(artifact.clone());
            }),
            FetchStep::Unpacking => self.with_bar(|bar| bar.set_message("unpacking")),
            FetchStep::Failed => self.replace(None),
            FetchStep::Done { took } => {
                self.replace(None);
                self.line(&format!("  fetched in {:.1} s", took.as_secs_f64()));
            }
        }
    }

    fn starting(&self, services: &[Service]) {
        let names: Vec<String> = services.iter().map(ToString::to_string).collect();
        self.line(&format!("starting {}", names.join(", ")));
    }

    fn ready(&self, service: Service, arrival: Arrival, port: u16, took: Duration) {
        let how = match arrival {
            Arrival::Started => "",
            Arrival::TakenOver => "  (was still running: taken over)",
        };
        self.line(&format!("  {service:<16} 127.0.0.1:{port:<6} {:>5.1} s{how}", took.as_secs_f64()));
    }

    fn stopped(&self, service: Service, took: Duration) {
        self.line(&format!("  {service:<16} stopped {:>13.1} s", took.as_secs_f64()));
    }

    fn note(&self, text: &str) {
        self.line(text);
    }
}
