//! `waltalkie cdc status`: how the slot stands, for people and for programs.

use std::fmt::Write as _;
use std::io::IsTerminal;
use std::process::ExitCode;

use anyhow::Result;
use cdc_worker::{Lag, LagKind, Status, StoredPosition, Streamer};
use clap::Args;
use runtime::Config;

use crate::stop_signal::StopSignal;

/// Arguments of `cdc status`.
#[derive(Debug, Clone, Copy, Args)]
pub struct StatusArgs {
    /// One JSON object for programs; with --watch, one a line
    #[arg(long)]
    json: bool,
    /// Look again and again, until Ctrl-C
    #[arg(long)]
    watch: bool,
}

pub(crate) async fn run(config: &Config, args: StatusArgs) -> Result<ExitCode> {
    let mut stop = StopSignal::listen()?;
    let is_terminal = std::io::stdout().is_terminal();
    let paint = Paint { is_on: is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) };
    loop {
        let looked = tokio::select! {
            biased;
            () = stop.told() => return Ok(ExitCode::SUCCESS),
            looked = Box::pin(cdc_worker::status(config)) => looked,
        };
        let status = match looked {
            Ok(status) => Some(status),
            // While watching, an outage is something to be seen, and to see the end of.
            Err(error) if args.watch && !args.json => {
                redraw(is_terminal, &format!("{} {}\n", paint.bad("✗"), error.chain()));
                None
            }
            Err(error) => return Err(anyhow::Error::msg(error.chain())),
        };
        let is_well = status.as_ref().is_some_and(|status| status.problems.is_empty());
        match &status {
            Some(status) if args.json && args.watch => println!("{}", serde_json::to_string(status)?),
            Some(status) if args.json => println!("{}", serde_json::to_string_pretty(status)?),
            Some(status) if args.watch => redraw(is_terminal, &text(status, paint)),
            Some(status) => print!("{}", text(status, paint)),
            None => {}
        }
        if !args.watch {
            return Ok(if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        if status.is_none() {
            tokio::select! {
                biased;
                () = stop.told() => return Ok(ExitCode::FAILURE),
                () = tokio::time::sleep(std::time::Duration::from_secs(1)) => {}
            }
        }
    }
}

/// In place of what stood there, or below it where nothing can be taken back.
fn redraw(is_terminal: bool, text: &str) {
    if is_terminal {
        print!("\x1b[H\x1b[2J{text}");
        let _ = std::io::Write::flush(&mut std::io::stdout());
    } else {
        println!("{text}");
    }
}

/// Colours, on a terminal whose owner wants them (<https://no-color.org>).
#[derive(Debug, Clone, Copy)]
struct Paint {
    is_on: bool,
}

impl Paint {
    fn with(self, code: &str, text: &str) -> String {
        if self.is_on { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn good(self, text: &str) -> String {
        self.with("32", text)
    }

    fn bad(self, text: &str) -> String {
        self.with("31", text)
    }

    fn dim(self, text: &str) -> String {
        self.with("2", text)
    }
}

/// The whole for people.
fn text(status: &Status, paint: Paint) -> String {
    let mut text = String::new();
    let verdict = match status.problems.len() {
        0 => format!("{} slot {}: all is well", paint.good("✓"), status.slot),
        1 => format!("{} slot {}: 1 problem", paint.bad("✗"), status.slot),
        count => format!("{} slot {}: {count} problems", paint.bad("✗"), status.slot),
    };
    let _ = writeln!(text, "{verdict}\n");
    let mut row = |name: &str, value: &str| {
        let _ = writeln!(text, "  {} {value}", paint.dim(&format!("{name:<10}")));
    };
    row("worker", &worker(status));
    row("slot", &slot(status));
    row("position", &position(status));
    row("WAL", &wal(status));
    row("lag", &lag(status));
    row("events", &events(status));
    for problem in &status.problems {
        let _ = writeln!(text, "\n{} {problem}", paint.bad("✗"));
    }
    text
}

fn worker(status: &Status) -> String {
    let lease = match &status.lease_holder {
        Some(holder) => format!("{holder} holds the lease"),
        None => "nobody holds the lease".into(),
    };
    let Some(Streamer { pid, client, connected_ms, .. }) = &status.streamer else {
        return format!("{lease}, nobody streams");
    };
    let from = client.as_ref().map(|client| format!(" from {client}")).unwrap_or_default();
    let time = connected_ms.map(|ms| format!(" for {}", duration(ms))).unwrap_or_default();
    format!("{lease}; process {pid} of the server streams{from}{time}")
}

fn slot(status: &Status) -> String {
    if !status.exists {
        return "isn't there".into();
    }
    let active = if status.is_active { "active" } else { "not active" };
    let failover = match status.is_failover {
        Some(true) => ", a failover slot",
        Some(false) => ", no failover slot",
        None => "",
    };
    let safe = status
        .safe_wal_bytes
        .map(|bytes| format!(", {} more may be written", size(bytes.max(0) as u64)))
        .unwrap_or_default();
    let lost = status.invalidation_reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
    format!("{active}, {}, WAL {}{lost}{safe}{failover}", status.plugin, status.wal_status)
}

fn position(status: &Status) -> String {
    let Some(position) = &status.position else { return "none in cdc.positions".into() };
    let StoredPosition { commit_lsn, ordinal, confirmable_lsn, age_ms } = position;
    // The first position of a slot stands before its first row.
    let row = if *ordinal < 0 { "no row yet".into() } else { format!("last row {ordinal} of commit {commit_lsn}") };
    format!("published up to {confirmable_lsn}, {row}; written {} ago", duration(*age_ms))
}

/// From the oldest WAL that is kept to the end, in the order of the log.
fn wal(status: &Status) -> String {
    let end = format!("{} end", status.server_lsn);
    let published = status.position.as_ref().map_or("?", |position| position.confirmable_lsn.as_str());
    match &status.restart_lsn {
        Some(restart) => format!(
            "{restart} kept ─ {} confirmed ─ {published} published ─ {end}; {} kept for the slot",
            status.confirmed_flush_lsn,
            size(status.wal_retained_bytes)
        ),
        None => format!("{published} published ─ {end}; nothing is kept for the slot"),
    }
}

fn lag(status: &Status) -> String {
    let bytes = format!("{} not known to be published", size(status.lag_bytes));
    match status.lag {
        Some(Lag { ms, is: LagKind::Measured }) => format!("{bytes}; commits wait {} or less", duration(ms.max(1))),
        Some(Lag { is: LagKind::Idle, .. }) => format!("{bytes}; nothing waits, it makes no events"),
        Some(Lag { ms, is: LagKind::AtMost }) => {
            format!("{bytes}; what waits, if anything does, was committed in the last {}", duration(ms))
        }
        None => format!("{bytes}; time not known"),
    }
}

fn events(status: &Status) -> String {
    let age =
        status.last_event_age_ms.map(|ms| format!("; the last occurred {} ago", duration(ms))).unwrap_or_default();
    match status.events_per_s {
        Some(rate) => format!("{rate:.0}/s over {}{age}", duration(status.window_ms as i64)),
        None => "not known".into(),
    }
}

/// 850 ms, 12.3 s, 4 min, 3 h, 2 d: what a person takes in.
fn duration(ms: i64) -> String {
    match ms.max(0) {
        ms @ 0..1_000 => format!("{ms} ms"),
        ms @ 1_000..60_000 => format!("{:.1} s", ms as f64 / 1_000.0),
        ms @ 60_000..7_200_000 => format!("{} min", ms / 60_000),
        ms @ 7_200_000..172_800_000 => format!("{} h", ms / 3_600_000),
        ms => format!("{} d", ms / 86_400_000),
    }
}

fn size(bytes: u64) -> String {
    match bytes {
        0..10_240 => format!("{bytes} bytes"),
        10_240..10_485_760 => format!("{} kB", bytes >> 10),
        10_485_760..10_737_418_240 => format!("{} MB", bytes >> 20),
        _ => format!("{} GB", bytes >> 30),
    }
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
