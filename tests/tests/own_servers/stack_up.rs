//! `waltalkie up`, as a newcomer meets it: the end card, the lines to paste, kills, stops, second starts.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;
use serde_json::Value;
use waltalkie_tests::harness::{LONG, Lines, data_dir, program, python, signal, target_dir, until};

/// The end card's last line.
const END: &str = "Ctrl-C stops everything";
/// For the first start, which may have to fetch the servers.
const FIRST: Duration = Duration::from_mins(10);

/// The program with no configuration of this machine.
fn waltalkie(arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(program()?);
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("WALTALKIE_") && name != "WALTALKIE_CACHE_DIR" {
            command.env_remove(name);
        }
    }
    command.args(arguments).current_dir(target_dir()?);
    Ok(command)
}

/// A running `up` whose end card was printed.
struct Up {
    program: Lines,
    card: Vec<String>,
    took: Duration,
}

impl Up {
    fn start(data_dir: &Path) -> Result<Self> {
        let began = Instant::now();
        let mut program = Lines::of(waltalkie(&["up", "--data-dir", &data_dir.to_string_lossy()])?)?;
        program.wait(|line| line.contains(END), FIRST)?;
        let card = program.printed.clone();
        Ok(Self { program, card, took: began.elapsed() })
    }

    fn url(&self) -> Result<String> {
        let link = self.card.iter().find_map(|line| Some(line.split_once("http")?.1.split_once("/?as=alice")?.0));
        Ok(format!("http{}", link.context("no link for alice")?))
    }

    /// The lines to paste, as printed.
    fn to_paste(&self) -> Result<[String; 3]> {
        let after = self.card.iter().skip_while(|line| !line.contains("Three lines to paste")).skip(1);
        let lines: Vec<String> =
            after.map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).take(3).collect();
        lines.try_into().ok().context("no three lines")
    }

    async fn interrupt(mut self) -> Result<ExitStatus> {
        signal(self.program.id(), Signal::INT)?;
        let program = &mut self.program;
        until("up to end", LONG, async || program.ended()).await
    }
}

/// Pastes a line into a shell, and waits until it prints something.
fn paste(line: &str, expected: &str) -> Result<String> {
    let mut shell = Command::new("sh");
    let python = python()?;
    let folder = python.parent().context("no folder")?;
    shell.args(["-c", line]).env("PATH", format!("{}:{}", folder.display(), std::env::var("PATH")?));
    Lines::of(shell)?.wait(|said| said.contains(expected), LONG).with_context(|| format!("pasted: {line}"))
}

/// What a line of shell prints.
fn shell(line: &str) -> Result<String> {
    let output = Command::new("sh").args(["-c", line]).output()?;
    ensure!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

async fn get(url: &str) -> Result<Value> {
    Ok(reqwest::get(url).await?.error_for_status()?.json().await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn up_is_all_that_a_newcomer_needs() -> Result<()> {
    runtime::tls::install_provider();
    let folder = data_dir("up")?;
    let _remains = Remains(folder.clone());
    let up = Up::start(&folder)?;
    println!("{}\n\nfirst start: {:.1} s", up.card.join("\n"), up.took.as_secs_f64());
    let url = up.url()?;
    let people = get(&format!("{url}/v1/dev/users")).await?;
    for person in ["alice", "bob", "carol", "dave"] {
        ensure!(people.to_string().contains(&format!("\"{person}\"")), "{people}");
    }
    let page = reqwest::get(&url).await?.error_for_status()?.text().await?;
    ensure!(page.contains("<title>"), "{page}");

    // The three lines, pasted as they are.
    let [send, tail, consume] = up.to_paste()?;
    let sent = paste(&send, "message_id")?;
    ensure!(serde_json::from_str::<Value>(&sent)?["content"] == "hello", "{sent}");
    let tailed = paste(&tail, "\"hello\"")?;
    ensure!(serde_json::from_str::<Value>(&tailed)?["event_type"] == "message.persisted", "{tailed}");
    paste(&consume, "'hello'")?;

    // Other programs find the servers.
    let program = program()?;
    let line = format!("eval \"$('{}' up --data-dir '{}' --print-env)\" && ", program.display(), folder.display());
    let brokers = shell(&format!("{line} echo \"$WALTALKIE_KAFKA__BROKERS\""))?;
    TcpStream::connect(&brokers).with_context(|| brokers.clone())?;
    let doctor = shell(&format!("{line} '{}' doctor", program.display()))?;
    ensure!(!doctor.is_empty());

    // Killed, it leaves its servers; the next one finds them and all data.
    let addresses = [brokers, address(&shell(&format!("{line} echo \"$WALTALKIE_REDIS__URL\""))?)?];
    let mut up = up;
    up.program.kill()?;
    let up = Up::start(&folder)?;
    println!("start after kill -9: {:.1} s", up.took.as_secs_f64());
    ensure!(!up.card.iter().any(|line| line.contains("made for this first start")), "made again");
    let again = paste(&up.to_paste()?[1], "\"hello\"")?;
    ensure!(serde_json::from_str::<Value>(&again)?["event_id"] == serde_json::from_str::<Value>(&tailed)?["event_id"]);

    // Ctrl-C stops all of it.
    let url = up.url()?;
    ensure!(up.interrupt().await?.success(), "up ended badly");
    for address in addresses.iter().map(String::as_str).chain([url.trim_start_matches("http://")]) {
        ensure!(TcpStream::connect(address).is_err(), "{address} still listens");
    }
    let up = Up::start(&folder)?;
    println!("second start: {:.1} s (the goal is under 15)", up.took.as_secs_f64());
    ensure!(up.url()? == url, "the page's address changed");
    paste(&up.to_paste()?[1], "\"hello\"")?;
    ensure!(up.interrupt().await?.success(), "up ended badly");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_is_heard_in_every_phase_and_leaves_no_server() -> Result<()> {
    let folder = data_dir("up-stopped")?;
    let _remains = Remains(folder.clone());
    for phase in ["starting PostgreSQL", "Schema registry", "all roles"] {
        let mut up = Lines::of(waltalkie(&["up", "--data-dir", &folder.to_string_lossy()])?)?;
        up.wait(|line| line.contains(phase) && (phase.starts_with("starting") || !line.contains("starting")), FIRST)?;
        signal(up.id(), Signal::INT)?;
        until(&format!("up to end after {phase}"), LONG, async || up.ended()).await?;
        let left = std::fs::read_dir(folder.join("run")).map(Iterator::count).unwrap_or_default();
        ensure!(left == 0, "{left} servers are left after {phase}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configured_port_that_is_taken_is_an_error_that_names_its_holder() -> Result<()> {
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let port = taken.local_addr()?.port().to_string();
    let folder = data_dir("up-taken")?;
    let _remains = Remains(folder.clone());
    for variable in ["WALTALKIE_STACK__KAFKA_PORT", "WALTALKIE_STACK__POSTGRES_PORT"] {
        let mut command = waltalkie(&["up", "--data-dir", &folder.to_string_lossy()])?;
        command.env(variable, &port);
        let output = tokio::task::spawn_blocking(move || command.output()).await??;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(!output.status.success() && said.contains(&port), "{variable}: {said}");
        if cfg!(target_os = "linux") {
            ensure!(said.contains(&std::process::id().to_string()), "the holder is not named: {said}");
        }
    }
    Ok(())
}

fn address(url: &str) -> Result<String> {
    match url.split_once("://") {
        Some((_, address)) => Ok(address.split(['/', '@']).next_back().unwrap_or(address).to_owned()),
        None => bail!("{url} is no URL"),
    }
}

/// A data directory, thrown away with whatever still runs from it.
struct Remains(PathBuf);

impl Remains {
    /// Servers that a failed test left: a start takes them over, an orderly stop ends them.
    fn end_servers(&self) -> Result<()> {
        let records = std::fs::read_dir(self.0.join("run")).map(Iterator::count).unwrap_or_default();
        if records > 0 {
            let mut up = Up::start(&self.0)?;
            signal(up.program.id(), Signal::INT)?;
            up.program.wait_for_end()?;
        }
        Ok(())
    }
}

impl Drop for Remains {
    fn drop(&mut self) {
        if let Err(error) = self.end_servers() {
            eprintln!("servers may still run in {}: {error:#}", self.0.display());
            return;
        }
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
