//! The child half: takes its job, puts up the fence, does the work, answers.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use crate::error::Refusal;
use crate::sandbox::{Confinement, confine, cut_off, prove};
use crate::settings::PictureSettings;
use crate::wire::{self, Answer, Job, Outcome, PictureFound, Work};
use crate::{ContentType, markup, picture, sound, whole};

/// The first argument by which an executable is called as a child.
pub const CHILD_COMMAND: &str = "preview-child";

/// Does the work of a child if this process was started as one, and says how it is to exit.
///
/// Call it first thing in `main`, before threads, logs and configuration: what runs before isn't fenced in.
///
/// ```no_run
/// fn main() -> std::process::ExitCode {
///     if let Some(code) = previews::child_main() {
///         return code;
///     }
///     // What the program is otherwise.
///     std::process::ExitCode::SUCCESS
/// }
/// ```
pub fn child_main() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next()? != CHILD_COMMAND {
        return None;
    }
    // In one line, since the last line is what the parent tells.
    std::panic::set_hook(Box::new(|panic| eprintln!("{}", panic.to_string().replace('\n', " "))));
    let job = arguments.next().and_then(|job| job.into_string().ok()).and_then(|job| serde_json::from_str(&job).ok());
    let Some(job) = job else {
        eprintln!("{CHILD_COMMAND} is called by the program itself");
        return Some(ExitCode::from(2));
    };
    Some(match work(job) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    })
}

fn work(job: Job) -> io::Result<()> {
    let inheritance = cut_off(job.parent_pid);
    if let Work::Tool { program, arguments } = job.work {
        confine(&job.limits, Confinement::Tool, inheritance);
        return Err(Command::new(program).args(arguments).exec());
    }
    // Opened before the fence stands, read behind it.
    let status = File::open("/proc/self/status").ok();
    let mut input = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let sandbox = confine(&job.limits, Confinement::Decoder, inheritance);
    let (outcome, pictures) = match job.work {
        Work::Picture { content_type, settings } => match decode(&mut input, content_type, &settings)? {
            Ok((found, pictures)) => (Outcome::Picture(found), pictures),
            Err(refusal) => (Outcome::Refused(refusal), Vec::new()),
        },
        Work::Sound { max_ms } => (sound::listen(input, max_ms), Vec::new()),
        Work::Svg { max_bytes } => {
            (verdict(read_whole(&mut input, max_bytes)?.and_then(|svg| markup::refuse_script(&svg))), Vec::new())
        }
        Work::Whole { content_type } => (verdict(whole::check(&mut input, content_type)?), Vec::new()),
        Work::Prove | Work::Tool { .. } => (Outcome::Proved(prove(&job.limits)), Vec::new()),
    };
    let answer = Answer { sandbox, peak_rss_bytes: status.and_then(peak_rss_bytes), outcome };
    wire::write(&mut io::stdout().lock(), &answer, &pictures)
}

/// What was found in a picture, and its previews.
type Looked = Result<(PictureFound, Vec<Vec<u8>>), Refusal>;

fn decode(input: &mut File, content_type: ContentType, settings: &PictureSettings) -> io::Result<Looked> {
    Ok(read_whole(input, settings.max_bytes)?.and_then(|bytes| picture::look(&bytes, content_type, settings)))
}

fn read_whole(input: &mut File, limit: u64) -> io::Result<Result<Vec<u8>, Refusal>> {
    let bytes = input.metadata()?.len();
    if bytes > limit {
        return Ok(Err(Refusal::TooLarge { bytes, limit }));
    }
    let mut whole = Vec::with_capacity(usize::try_from(bytes).unwrap_or(0));
    input.take(limit).read_to_end(&mut whole)?;
    Ok(Ok(whole))
}

fn verdict(checked: Result<(), Refusal>) -> Outcome {
    match checked {
        Ok(()) => Outcome::Clean,
        Err(refusal) => Outcome::Refused(refusal),
    }
}

/// The high-water mark of resident memory, as Linux keeps it.
fn peak_rss_bytes(mut status: File) -> Option<u64> {
    let mut text = String::new();
    status.read_to_string(&mut text).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10)
}
