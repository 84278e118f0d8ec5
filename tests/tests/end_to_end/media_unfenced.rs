//! A machine whose kernel has no fence for decoders of people's files, and one without the programs that look into them: `doctor` says so.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use waltalkie_tests::harness::{Installation, ObjectStore, Servers, python};

/// Becomes the program of its arguments, on a kernel that seems to have neither Landlock nor filters of system calls.
const UNFENCED: &str = r"
import ctypes, os, platform, struct, sys
seccomp = {'x86_64': 317, 'aarch64': 277}[platform.machine()]
landlock_create_ruleset = 444
LOAD, EQUAL, RETURN, NO_SUCH_CALL, ALLOW = 0x20, 0x15, 0x06, 0x50000 | 38, 0x7fff0000
steps = [
    (LOAD, 0, 0, 0),
    (EQUAL, 1, 0, seccomp),
    (EQUAL, 0, 1, landlock_create_ruleset),
    (RETURN, 0, 0, NO_SUCH_CALL),
    (RETURN, 0, 0, ALLOW),
]
code = ctypes.create_string_buffer(b''.join(struct.pack('HBBI', *step) for step in steps))
program = struct.pack('HxxxxxxP', len(steps), ctypes.addressof(code))
libc = ctypes.CDLL(None, use_errno=True)
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, MODE_FILTER = 38, 22, 2
assert libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0, os.strerror(ctypes.get_errno())
assert libc.prctl(PR_SET_SECCOMP, MODE_FILTER, program, 0, 0) == 0, os.strerror(ctypes.get_errno())
os.execv(sys.argv[1], sys.argv[1:])
";

/// What `doctor` finds of files.
async fn media_of(mut doctor: Command) -> Result<Value> {
    doctor.args(["doctor", "--json"]);
    let output = tokio::task::spawn_blocking(move || doctor.output()).await??;
    let complained = String::from_utf8_lossy(&output.stderr);
    let findings: Value = serde_json::from_slice(&output.stdout).with_context(|| complained.into_owned())?;
    let found = findings.as_array().into_iter().flatten().find(|finding| finding["part"] == "media");
    found.cloned().context("nothing of media")
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_tells_which_programs_are_missing_and_what_there_is_not_without_them() -> Result<()> {
    let store = ObjectStore::start().await?;
    let installation = Installation::make_on(Servers::shared()?, "media-without-tools", &store.settings()).await?;
    let mut command = installation.command()?;
    command.env("PATH", "/nowhere");
    let details = media_of(command).await?["details"].to_string();
    for told in [
        "ffmpeg isn't installed, so there are no posters and clips of video,",
        "ffprobe isn't installed, so there are no size and duration of video: install the package ffmpeg",
        "pdftoppm isn't installed, so there are no first pages of PDF: install the package poppler-utils",
    ] {
        ensure!(details.contains(told), "{told} isn't among {details}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_tells_that_people_s_files_are_decoded_without_a_fence() -> Result<()> {
    let store = ObjectStore::start().await?;
    let installation = Installation::make_on(Servers::shared()?, "media-unfenced", &store.settings()).await?;
    let program = installation.command()?;
    let mut command = Command::new(python()?);
    for (name, value) in program.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    if let Some(folder) = program.get_current_dir() {
        command.current_dir(folder);
    }
    command.args(["-c", UNFENCED]).arg(program.get_program());
    let found = media_of(command).await?;
    ensure!(found["is_well"] == json!(false), "{found}");
    let details = found["details"].to_string();
    for told in [
        "files (Landlock): ",
        "system calls (seccomp): ",
        "could open a socket, read files of this machine,",
        "a program that looks into files could read other files here",
    ] {
        ensure!(details.contains(told), "{told} isn't among {details}");
    }
    Ok(())
}
