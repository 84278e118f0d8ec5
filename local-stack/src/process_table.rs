//! What the system says about processes: parent, state, and when each began.
//!
//! A pid alone names nothing: it is used again. A pid *with its start time* (and on Linux the boot it belongs to) names
//! one process for good.

/// What is known of one process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) pid: u32,
    pub(crate) parent: u32,
    /// What it does: `Z` has ended and only waits for its parent to notice, `T` is stopped by a signal.
    pub(crate) state: char,
    /// When it began, in words that are only compared.
    pub(crate) started: String,
}

impl Seen {
    pub(crate) fn zombie(&self) -> bool {
        matches!(self.state, 'Z' | 'X')
    }

    pub(crate) fn stopped(&self) -> bool {
        self.state == 'T'
    }
}

/// One process, if it exists.
pub(crate) fn look(pid: u32) -> Option<Seen> {
    system::look(pid)
}

/// The living children of a process.
pub(crate) fn children(parent: u32) -> Vec<Seen> {
    system::everyone().into_iter().filter(|seen| seen.parent == parent && !seen.zombie()).collect()
}

#[cfg(target_os = "linux")]
mod system {
    use std::fs;

    use super::{Seen, parse_stat};

    pub(super) fn look(pid: u32) -> Option<Seen> {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?, boot.trim())
    }

    pub(super) fn everyone() -> Vec<Seen> {
        let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
        entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).filter_map(look).collect()
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use std::process::Command;

    use super::{Seen, parse_ps};

    const COLUMNS: [&str; 8] = ["-o", "pid=", "-o", "ppid=", "-o", "stat=", "-o", "lstart="];

    pub(super) fn look(pid: u32) -> Option<Seen> {
        ps(&["-p", &pid.to_string()]).pop()
    }

    pub(super) fn everyone() -> Vec<Seen> {
        ps(&["-A"])
    }

    fn ps(which: &[&str]) -> Vec<Seen> {
        // The date's wording must not depend on who asks.
        let output = Command::new("ps").args(which).args(COLUMNS).env("LC_ALL", "C").output();
        output.map_or_else(
            |_| Vec::new(),
            |output| String::from_utf8_lossy(&output.stdout).lines().filter_map(parse_ps).collect(),
        )
    }
}

/// `/proc/<pid>/stat` (proc(5)): the name in field 2 may hold spaces and parentheses, so fields are counted after the
/// last one that closes.
#[cfg(any(target_os = "linux", test))]
fn parse_stat(stat: &str, boot: &str) -> Option<Seen> {
    let (before, after) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = after.split_whitespace().collect();
    Some(Seen {
        pid: before.split_whitespace().next()?.parse().ok()?,
        state: fields.first()?.chars().next()?,
        parent: fields.get(1)?.parse().ok()?,
        started: format!("{boot}/{}", fields.get(19)?),
    })
}

/// A line of `ps -o pid= -o ppid= -o stat= -o lstart=`.
#[cfg(any(not(target_os = "linux"), test))]
fn parse_ps(line: &str) -> Option<Seen> {
    let mut words = line.split_whitespace();
    let pid = words.next()?.parse().ok()?;
    let parent = words.next()?.parse().ok()?;
    let state = words.next()?.chars().next()?;
    let started: Vec<&str> = words.collect();
    (!started.is_empty()).then(|| Seen { pid, parent, state, started: started.join(" ") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let stat = "4711 (a) b (c) S 17 4711 4711 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 1 2 3";
        let seen = parse_stat(stat, "boot").unwrap();
        assert_eq!(seen, Seen { pid: 4711, parent: 17, state: 'S', started: "boot/987654".to_owned() });
        assert!(parse_stat(&stat.replace(") S ", ") Z "), "boot").unwrap().zombie());
        assert_eq!(parse_stat("", "boot"), None);
    }

    #[test]
    fn a_line_of_ps_is_read() {
        let seen = parse_ps("  4711   17 Ss   Mon Nov 24 07:31:05 2026    ").unwrap();
        assert_eq!(seen, Seen { pid: 4711, parent: 17, state: 'S', started: "Mon Nov 24 07:31:05 2026".to_owned() });
        assert_eq!(parse_ps("4711 17 Ss"), None);
    }

    #[test]
    fn this_process_and_its_child_are_seen() {
        let mut child = std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        assert!(children(std::process::id()).iter().any(|seen| seen.pid == child.id()));
        let first = look(child.id()).unwrap();
        assert_eq!(look(child.id()).unwrap().started, first.started);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(look(child.id()).filter(|seen| seen.started == first.started), None);
    }
}
