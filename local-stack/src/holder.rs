//! Who holds a port. Told only as far as the system tells: never guessed.

use std::fmt;

/// The process that listens on a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its process id.
    pub pid: u32,
    /// Its program's name.
    pub program: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (process {})", self.program, self.pid)
    }
}

/// Who listens on this TCP port; `None` if nobody does or the system does not tell us (another user's process).
pub fn of_port(port: u16) -> Option<Holder> {
    system::of_port(port)
}

#[cfg(target_os = "linux")]
mod system {
    use std::fs;

    use super::{Holder, listening_inodes};

    pub(super) fn of_port(port: u16) -> Option<Holder> {
        let sockets: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
            .iter()
            .filter_map(|table| fs::read_to_string(table).ok())
            .flat_map(|table| listening_inodes(&table, port))
            .map(|inode| format!("socket:[{inode}]"))
            .collect();
        if sockets.is_empty() {
            return None;
        }
        let pids =
            fs::read_dir("/proc").ok()?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
        for pid in pids {
            // Other users' descriptors are not ours to read.
            let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else { continue };
            let holds = descriptors
                .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
                .any(|target| target.to_str().is_some_and(|target| sockets.iter().any(|socket| socket == target)));
            if holds {
                let program = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
                return Some(Holder { pid, program: program.trim().to_owned() });
            }
        }
        None
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use std::process::Command;

    use super::{Holder, parse_lsof};

    pub(super) fn of_port(port: u16) -> Option<Holder> {
        let output =
            Command::new("lsof").args(["-nP", &format!("-iTCP:{port}"), "-sTCP:LISTEN", "-Fpc"]).output().ok()?;
        parse_lsof(&String::from_utf8_lossy(&output.stdout))
    }
}

/// Inodes of sockets in state LISTEN (0A) on `port`, from `/proc/net/tcp` (proc(5)).
#[cfg(any(target_os = "linux", test))]
fn listening_inodes(table: &str, port: u16) -> Vec<u64> {
    let port = format!("{port:04X}");
    table
        .lines()
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (_, local_port) = fields.get(1)?.rsplit_once(':')?;
            (local_port == port && *fields.get(3)? == "0A").then(|| fields.get(9)?.parse().ok()).flatten()
        })
        .collect()
}

/// The first process of `lsof -Fpc`: lines `p<pid>` and `c<command>`.
#[cfg(any(not(target_os = "linux"), test))]
fn parse_lsof(output: &str) -> Option<Holder> {
    let field = |mark: char| output.lines().find_map(|line| line.strip_prefix(mark));
    Some(Holder { pid: field('p')?.parse().ok()?, program: field('c')?.to_owned() })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn only_listening_sockets_of_the_port_count() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
            0: 0100007F:1538 00000000:0000 0A 00000000:00000000 00:00000000 00000000 65534        0 1234 1 0 100 0\n   \
            1: 0100007F:1538 0100007F:9999 01 00000000:00000000 00:00000000 00000000 65534        0 1235 1 0 100 0\n   \
            2: 0100007F:1539 00000000:0000 0A 00000000:00000000 00:00000000 00000000 65534        0 1236 1 0 100 0\n";
        assert_eq!(listening_inodes(table, 5432), [1234]);
        assert_eq!(listening_inodes(table, 1), [0; 0]);
    }

    #[test]
    fn lsof_is_read() {
        let holder = Holder { pid: 42, program: "redis-ser".to_owned() };
        assert_eq!(parse_lsof("p42\ncredis-ser\nf6\n"), Some(holder));
        assert_eq!(parse_lsof(""), None);
    }

    #[test]
    fn this_process_is_found() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let holder = of_port(listener.local_addr().unwrap().port()).unwrap();
        assert_eq!(holder.pid, std::process::id());
    }
}
