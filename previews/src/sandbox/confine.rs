//! The child's side: puts up the fence, and tries it.

use std::fs::{self, File};
use std::net::UdpSocket;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Resource, Rlimit, getrlimit, setrlimit};

use super::{Confinement, Layer, Proofs, Sandbox};
use crate::settings::Limits;

/// Fences this process in, for good. Call it before anything of the file is read.
pub(crate) fn confine(limits: &Limits, confinement: Confinement, inheritance: Layer) -> Sandbox {
    let resource_limits = limit_resources(limits, confinement);
    let user = if rustix::process::geteuid().is_root() {
        Layer::Missing("runs as root; start it as another user, or allow it to change its user (CAP_SETUID)".into())
    } else {
        Layer::Full
    };
    #[cfg(target_os = "linux")]
    let (files, system_calls) = (super::landlock::restrict(confinement), super::seccomp::restrict(confinement));
    #[cfg(not(target_os = "linux"))]
    let (files, system_calls) =
        (Layer::Missing("Landlock is of Linux".into()), Layer::Missing("seccomp is of Linux".into()));
    Sandbox { resource_limits, user, inheritance, files, system_calls }
}

/// Closes what came along from the parent without being meant to, and ties this process's life to the parent's. Call it
/// first of all: what this process opened itself would be closed as well.
pub(crate) fn cut_off(parent_pid: i32) -> Layer {
    // Libraries in C may have opened descriptors that are inherited: sockets to brokers, say.
    let Ok(entries) = fs::read_dir("/dev/fd") else {
        return Layer::Partial("/dev/fd can't be read, so inherited descriptors stay open; mount /proc".into());
    };
    let open: Vec<i32> = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    for descriptor in open.into_iter().filter(|descriptor| *descriptor > 2) {
        // The one of the listing itself is closed by now: the error says so, and that is fine.
        let _ = nix::unistd::close(descriptor);
    }
    #[cfg(target_os = "linux")]
    {
        if let Err(error) = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL)) {
            return Layer::Partial(format!("outlives its parent: {error}"));
        }
        // The parent may have gone before that.
        if rustix::process::getppid().map(Pid::as_raw_nonzero).map(Into::into) != Some(parent_pid) {
            std::process::exit(1);
        }
        Layer::Full
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = parent_pid;
        Layer::Partial("outlives a parent that is killed, for as long as its limits let it".into())
    }
}

fn limit_resources(limits: &Limits, confinement: Confinement) -> Layer {
    let mut wanted = vec![
        (Resource::As, limits.memory_bytes, limits.memory_bytes),
        // The soft limit is told by a signal of its own; the hard one kills.
        (Resource::Cpu, limits.cpu_s, limits.cpu_s + 1),
        (Resource::Nofile, limits.open_files, limits.open_files),
        (Resource::Core, 0, 0),
    ];
    match confinement {
        Confinement::Decoder => {
            wanted.push((Resource::Fsize, 0, 0));
            wanted.push((Resource::Nproc, 0, 0));
        }
        Confinement::Tool => wanted.push((Resource::Fsize, limits.output_bytes, limits.output_bytes)),
    }
    let refused: Vec<String> = wanted
        .into_iter()
        .filter_map(|(resource, soft, hard)| {
            // A limit that is tighter already can't be raised, and needn't.
            let hard = getrlimit(resource).maximum.map_or(hard, |now| now.min(hard));
            let limit = Rlimit { current: Some(soft.min(hard)), maximum: Some(hard) };
            setrlimit(resource, limit).err().map(|error| format!("{resource:?}: {error}"))
        })
        .collect();
    if refused.is_empty() { Layer::Full } else { Layer::Partial(refused.join(", ")) }
}

/// Tries what must not be possible behind the fence of a decoder with `limits`.
pub(crate) fn prove(limits: &Limits) -> Proofs {
    let parent = rustix::process::getppid();
    Proofs {
        network_refused: UdpSocket::bind("127.0.0.1:0").is_err(),
        reading_refused: File::open("/etc/passwd").is_err(),
        writing_refused: tempfile::tempfile().is_err(),
        processes_refused: Command::new("/bin/sh").args(["-c", ":"]).stdin(Stdio::null()).status().is_err(),
        signals_refused: parent.is_some_and(|parent| rustix::process::test_kill_process(parent).is_err()),
        memory_refused: Vec::<u8>::new().try_reserve_exact(usize::try_from(limits.memory_bytes).unwrap_or(0)).is_err(),
        environment_empty: std::env::vars_os().next().is_none(),
    }
}
