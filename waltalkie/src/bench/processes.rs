//! CPU seconds and memory of the processes that took part, from `/proc`; empty where there is none.
//!
//! A role's process counts with its descendants, living and ended (Postgres is one process a connection). In this
//! process, threads named `load-…` are the clients and `floor…` the reference server; the rest are roles.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use super::stages::{Stage, Stages};

/// Ticks a second in `/proc`: the same on every Linux that this runs on.
const TICKS_PER_S: f64 = 100.0;
/// How often memory is looked at.
const EVERY: Duration = Duration::from_secs(1);

/// What the processes used in a span of time.
#[derive(Debug, Clone, Default)]
pub(crate) struct Usage {
    /// CPU seconds by role.
    pub(crate) cpu_s: BTreeMap<String, f64>,
    /// Highest resident memory seen, by role: private pages of all its processes, shared ones once.
    pub(crate) peak_rss_bytes: BTreeMap<String, u64>,
    /// CPU seconds that the hypervisor gave to others while this machine wanted them.
    pub(crate) stolen_cpu_s: f64,
    /// CPU seconds of the whole machine that weren't idle.
    pub(crate) busy_cpu_s: f64,
    /// Means of the stages of a message's way, where the roles' metrics are at hand.
    pub(crate) stages: Vec<Stage>,
    /// What had to be read again, likewise.
    pub(crate) read_again: BTreeMap<&'static str, u64>,
}

/// Watches processes by role.
pub(crate) struct Watch {
    roles: Vec<(String, u32)>,
    before: BTreeMap<String, f64>,
    machine_before: (f64, f64),
    peaks: BTreeMap<String, u64>,
    looked_at: Option<Instant>,
    metrics: Option<Metrics>,
    stages_before: Stages,
}

/// What `/metrics` shows.
pub(crate) type Metrics = fn() -> String;

impl Watch {
    pub(crate) fn new(roles: Vec<(String, u32)>, metrics: Option<Metrics>) -> Self {
        let mut watch = Self {
            roles,
            metrics,
            stages_before: Stages::default(),
            before: BTreeMap::new(),
            machine_before: (0.0, 0.0),
            peaks: BTreeMap::new(),
            looked_at: None,
        };
        watch.begin();
        watch
    }

    /// The span begins here.
    pub(crate) fn begin(&mut self) {
        self.before = self.cpu();
        self.machine_before = machine_cpu();
        self.stages_before = self.stages();
        self.peaks.clear();
        self.looked_at = None;
    }

    /// To be called often; looks at memory now and then.
    pub(crate) fn look(&mut self) {
        if self.looked_at.is_some_and(|at| at.elapsed() < EVERY) {
            return;
        }
        self.looked_at = Some(Instant::now());
        let processes = processes();
        for (role, pid) in &self.roles {
            let peak = self.peaks.entry(role.clone()).or_default();
            *peak = (*peak).max(memory(&family(&processes, *pid)));
        }
    }

    /// The span ends here.
    pub(crate) fn end(&mut self) -> Usage {
        self.looked_at = None;
        self.look();
        let (stolen, busy) = machine_cpu();
        let (mut cpu_s, stages) = (self.cpu(), self.stages());
        for (role, used) in &mut cpu_s {
            *used = round(*used - self.before.get(role).copied().unwrap_or(0.0));
        }
        Usage {
            cpu_s,
            peak_rss_bytes: self.peaks.clone(),
            stolen_cpu_s: round(stolen - self.machine_before.0),
            busy_cpu_s: round(busy - self.machine_before.1),
            stages: stages.means_since(&self.stages_before),
            read_again: stages.read_again_since(&self.stages_before),
        }
    }

    fn stages(&self) -> Stages {
        self.metrics.map_or_else(Stages::default, |metrics| Stages::of(&metrics()))
    }

    fn cpu(&self) -> BTreeMap<String, f64> {
        let processes = processes();
        let (clients, floor) = own_threads();
        let mut used = BTreeMap::new();
        for (role, pid) in &self.roles {
            let mut ticks: u64 =
                family(&processes, *pid).iter().map(|process| process.ticks + process.ended_ticks).sum();
            if *pid == std::process::id() {
                ticks = ticks.saturating_sub(clients + floor);
            }
            *used.entry(role.clone()).or_default() += ticks as f64 / TICKS_PER_S;
        }
        for (role, ticks) in [("load_client", clients), ("floor", floor)] {
            if ticks > 0 {
                used.insert(role.to_owned(), ticks as f64 / TICKS_PER_S);
            }
        }
        used
    }
}

/// CPU seconds of one process so far; 0 if it is gone.
pub(crate) fn cpu_s(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    parse_stat(&stat).map_or(0.0, |process| process.ticks as f64 / TICKS_PER_S)
}

fn round(seconds: f64) -> f64 {
    (seconds * 100.0).round() / 100.0
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Process {
    pid: u32,
    parent: u32,
    name: String,
    ticks: u64,
    /// Of children that have ended and were waited for.
    ended_ticks: u64,
}

/// A line of `/proc/…/stat`.
fn parse_stat(line: &str) -> Option<Process> {
    let (head, rest) = line.rsplit_once(") ")?;
    let (pid, name) = head.split_once(" (")?;
    let fields: Vec<&str> = rest.split(' ').collect();
    let number = |place: usize| fields.get(place)?.parse::<u64>().ok();
    Some(Process {
        pid: pid.parse().ok()?,
        parent: number(1)? as u32,
        name: name.to_owned(),
        ticks: number(11)? + number(12)?,
        ended_ticks: number(13)? + number(14)?,
    })
}

fn stats_in(folder: &str) -> Vec<Process> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let numbered = entries.flatten().filter(|entry| entry.file_name().as_encoded_bytes()[0].is_ascii_digit());
    numbered.filter_map(|entry| parse_stat(&fs::read_to_string(entry.path().join("stat")).ok()?)).collect()
}

fn processes() -> Vec<Process> {
    stats_in("/proc")
}

/// Ticks of this process' threads that play clients, and of those that are the reference server.
fn own_threads() -> (u64, u64) {
    let threads = stats_in("/proc/self/task");
    let of =
        |start: &str| threads.iter().filter(|thread| thread.name.starts_with(start)).map(|thread| thread.ticks).sum();
    (of("load-"), of("floor"))
}

/// A process and its living descendants.
fn family(processes: &[Process], pid: u32) -> Vec<&Process> {
    let mut found: Vec<&Process> = processes.iter().filter(|process| process.pid == pid).collect();
    let mut next = 0;
    while let Some(parent) = found.get(next).map(|process| process.pid) {
        // Servers that this very process started have roles of their own.
        if parent != std::process::id() {
            found.extend(processes.iter().filter(|process| process.parent == parent));
        }
        next += 1;
    }
    found
}

fn memory(family: &[&Process]) -> u64 {
    let (mut private, mut shared) = (0, 0);
    for process in family {
        let Ok(status) = fs::read_to_string(format!("/proc/{}/status", process.pid)) else { continue };
        let bytes = |field: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(field))?;
            line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1_024)
        };
        private += bytes("RssAnon:").unwrap_or(0);
        shared = shared.max(bytes("RssFile:").unwrap_or(0) + bytes("RssShmem:").unwrap_or(0));
    }
    private + shared
}

/// CPU seconds of the machine since it started: stolen, and not idle.
fn machine_cpu() -> (f64, f64) {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let fields: Vec<f64> = text
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(1)
        .filter_map(|field| field.parse().ok())
        .collect();
    let field = |place: usize| fields.get(place).copied().unwrap_or(0.0) / TICKS_PER_S;
    // user, nice, system, irq, softirq; steal.
    (field(7), field(0) + field(1) + field(2) + field(5) + field(6))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_lines_are_read_whatever_the_name() {
        let line = "42 (a) b (c) S 7 42 42 0 -1 4194560 1 2 3 4 150 50 30 20 20 0 1 0 100 1 1";
        let expected = Process { pid: 42, parent: 7, name: "a) b (c".into(), ticks: 200, ended_ticks: 50 };
        assert_eq!(parse_stat(line), Some(expected));
        assert_eq!(parse_stat("nonsense"), None);
    }

    #[test]
    fn families_hold_descendants_only() {
        let process = |pid, parent| Process { pid, parent, name: String::new(), ticks: 1, ended_ticks: 0 };
        let all = [process(1, 0), process(2, 1), process(3, 2), process(4, 1), process(5, 3)];
        let pids: Vec<u32> = family(&all, 2).iter().map(|process| process.pid).collect();
        assert_eq!(pids, [2, 3, 5]);
    }
}
