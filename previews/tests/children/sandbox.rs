//! The fence: what a child can't do, and what the parent makes of children that misbehave.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::shared::{CHILD, children_of, pictures, previewer, uploaded};
use previews::{ChildFailure, ChildProgram, Declared, Error, Layer, Limits, Previewer, Settings};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

#[test]
fn the_fence_stands() {
    let abilities = previewer(Settings::default()).abilities().unwrap();
    let proofs = abilities.proofs;
    assert_eq!(abilities.sandbox.resource_limits, Layer::Full);
    assert_eq!(abilities.sandbox.inheritance, Layer::Full);
    assert!(proofs.memory_refused && proofs.environment_empty && proofs.writing_refused, "{proofs:?}");
    // Where the kernel has it, it must work; where not, it must be told.
    if abilities.sandbox.system_calls == Layer::Full {
        assert!(proofs.network_refused && proofs.processes_refused && proofs.signals_refused, "{proofs:?}");
        assert!(proofs.reading_refused, "{proofs:?}");
    } else {
        assert!(matches!(&abilities.sandbox.system_calls, Layer::Missing(why) if !why.is_empty()));
    }
    if abilities.sandbox.files == Layer::Full {
        assert_eq!(abilities.tools_confined, Some(true));
    }
    println!("{:?}", abilities.sandbox);
}

fn misbehaving(how: &str) -> Error {
    misbehaving_for(how, 60_000)
}

fn misbehaving_for(how: &str, wall_ms: u64) -> Error {
    let limits = Limits { wall_ms, output_bytes: 100_000, ..Settings::default().decoding };
    let program = ChildProgram::with_arguments(Path::new(CHILD), [how]).unwrap();
    let previewer = Previewer::with_program(program, Settings { decoding: limits, ..Settings::default() });
    let began = Instant::now();
    let error = previewer.examine(&uploaded(&pictures::png(10, 10)), &Declared::default()).unwrap_err();
    assert!(began.elapsed() < Duration::from_secs(20), "{how}: the parent is bound to its child");
    assert!(!error.is_transient(), "{how}: {error}");
    error
}

#[test]
fn a_child_that_is_never_ready_is_given_up() {
    for how in ["hang", "hang-unheard", "half", "leave-somebody"] {
        let error = misbehaving_for(how, 500);
        assert!(matches!(error, Error::Child(ChildFailure::Time { limit_ms: 500 })), "{how}: {error:?}");
    }
    // Who was left behind is killed by then, and ends in its own time.
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let sleepers = processes.filter(|entry| {
        let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        command == b"sleep\x0086399\0"
    });
    for sleeper in sleepers {
        let pid = sleeper.file_name().to_str().and_then(|pid| pid.parse().ok()).and_then(Pid::from_raw).unwrap();
        ends_soon(pid);
    }
}

#[test]
fn a_child_that_dies_tells_how() {
    let error = misbehaving("abort");
    assert!(matches!(error, Error::Child(ChildFailure::Signal { signal: 6, .. })), "{error:?}");
    let error = misbehaving("kill-itself");
    assert!(matches!(error, Error::Child(ChildFailure::Signal { signal: 9, .. })), "{error:?}");
    let error = misbehaving("give-up");
    assert_eq!(
        error.to_string(),
        "the file could not be decoded: its decoder failed (I give up [31m); send it in another format"
    );
}

#[test]
fn a_child_that_says_too_much_is_cut_off() {
    let error = misbehaving("flood");
    assert!(matches!(error, Error::Child(ChildFailure::Output { limit_bytes: 100_000 })), "{error:?}");
    let error = misbehaving("complain");
    assert!(matches!(error, Error::Child(ChildFailure::Output { .. })), "{error:?}");
}

#[test]
fn a_child_that_talks_nonsense_is_not_believed() {
    for how in ["garbage", "lie", "say-nothing"] {
        let error = misbehaving(how);
        assert!(matches!(error, Error::Child(ChildFailure::Answer { .. })), "{how}: {error:?}");
    }
}

#[test]
fn a_child_inherits_no_environment() {
    let error = misbehaving("show-environment");
    assert!(error.to_string().contains("(0 variables)"), "{error}");
}

#[test]
fn memory_is_bounded() {
    let limits = Limits { memory_bytes: 96 << 20, ..Settings::default().decoding };
    let previewer = previewer(Settings { decoding: limits, ..Settings::default() });
    let large = image::RgbaImage::from_pixel(6_000, 6_000, image::Rgba([1, 2, 3, 4]));
    let large = pictures::encoded(large, image::ImageFormat::Png);
    let error = previewer.examine(&uploaded(&large), &Declared::default()).unwrap_err();
    assert!(
        matches!(error, Error::Child(ChildFailure::Memory { limit_bytes }) if limit_bytes == 96 << 20),
        "{error:?}"
    );
}

/// A file that takes long to search through.
fn long_work() -> Vec<u8> {
    let mut svg = b"<svg>".to_vec();
    svg.resize(60 << 20, b'<');
    svg
}

#[test]
fn processor_time_is_bounded() {
    let limits = Limits { cpu_s: 1, wall_ms: 120_000, ..Settings::default().decoding };
    let previewer = previewer(Settings { decoding: limits, ..Settings::default() });
    let error = previewer.examine(&uploaded(&long_work()), &Declared::default()).unwrap_err();
    assert!(matches!(error, Error::Child(ChildFailure::Cpu { limit_s: 1 })), "{error:?}");
}

/// A child that stands still when its parent is killed is killed as well.
#[test]
fn a_child_dies_with_its_parent() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    std::io::Write::write_all(&mut file, &long_work()).unwrap();
    let mut parent = std::process::Command::new(CHILD).arg("examine").arg(file.path()).spawn().unwrap();
    let child = loop {
        let fenced = children_of(parent.id()).into_iter().find(|pid| {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            status.contains("Seccomp:\t2")
        });
        match fenced {
            Some(pid) => break Pid::from_raw(pid).unwrap(),
            None => assert!(parent.try_wait().unwrap().is_none(), "the child had no time to be stopped"),
        }
        std::thread::yield_now();
    };
    kill_process(child, Signal::STOP).unwrap();
    parent.kill().unwrap();
    parent.wait().unwrap();
    ends_soon(child);
}

/// Waits for the end of a process that isn't ours to wait for.
fn ends_soon(pid: Pid) {
    // One that is gone already has ended.
    let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) else { return };
    let mut watched = [PollFd::new(&handle, PollFlags::IN)];
    let patience = Timespec { tv_sec: 10, tv_nsec: 0 };
    assert_eq!(poll(&mut watched, Some(&patience)).unwrap(), 1, "{pid:?} is still there");
}

#[test]
fn two_at_once_do_not_mix() {
    let previewer = previewer(Settings::default());
    std::thread::scope(|scope| {
        let previewer = &previewer;
        let work: Vec<_> = [(640, 480), (480, 640), (300, 200), (200, 300)]
            .map(|(width, height)| {
                scope.spawn(move || {
                    for _ in 0..3 {
                        let file = uploaded(&pictures::jpeg(width, height));
                        let report = previewer.examine(&file, &Declared::default()).unwrap();
                        assert_eq!((report.width_px, report.height_px), (Some(width), Some(height)));
                    }
                })
            })
            .into();
        for thread in work {
            thread.join().unwrap();
        }
    });
}
