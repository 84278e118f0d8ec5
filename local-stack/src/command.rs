//! Runs the one-off tools, and gives server processes what all of them get.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::error::{Error, IoContext};

const TAIL_LINES: usize = 20;
const TAIL_BYTES: u64 = 16 * 1024;

/// Runs a tool to its end; an error holds the last lines it said. Killed if nobody waits for it any more: it must not
/// work on beside the next start's.
pub(crate) async fn run_tool(tool: &'static str, command: Command) -> crate::Result<()> {
    let mut command = tokio::process::Command::from(command);
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await;
    let output = output.map_err(|source| Error::Spawn { program: tool.to_owned(), source })?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    Err(Error::Tool { tool, status: output.status.to_string(), output: last_lines(&String::from_utf8_lossy(&said)) })
}

/// Sends what the server says to its log (the log before is kept once, as `.1`), and keeps the terminal's Ctrl-C from
/// it: in which order servers stop is decided here.
pub(crate) fn detach(command: &mut Command, log: &Path) -> crate::Result<()> {
    if log.exists() {
        fs::rename(log, log.with_extension("log.1")).context("rename", log)?;
    }
    let file = File::create(log).context("create", log)?;
    let again = file.try_clone().context("open", log)?;
    command.stdin(Stdio::null()).stdout(file).stderr(again).process_group(0);
    Ok(())
}

/// The last lines of a log, for a message.
pub(crate) fn tail(log: &Path) -> String {
    let read = || {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        std::io::Result::Ok(last_lines(&String::from_utf8_lossy(&bytes)))
    };
    read().unwrap_or_else(|error| format!("(not readable: {error})"))
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_log_is_what_counts() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("x.log");
        let lines: Vec<String> = (0..5_000).map(|line| format!("line {line}")).collect();
        fs::write(&log, lines.join("\n")).unwrap();
        let tail = tail(&log);
        assert_eq!(tail.lines().count(), TAIL_LINES);
        assert!(tail.ends_with("line 4999"));
    }

    #[test]
    fn one_earlier_log_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("x.log");
        for text in ["first", "second"] {
            detach(&mut Command::new("true"), &log).unwrap();
            fs::write(&log, text).unwrap();
        }
        assert_eq!(fs::read_to_string(dir.path().join("x.log.1")).unwrap(), "first");
    }

    #[tokio::test]
    async fn a_tool_that_fails_says_why() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo because >&2; exit 3"]);
        let error = run_tool("sh", command).await.unwrap_err().to_string();
        assert!(error.contains("because") && error.contains('3'), "{error}");
    }
}
