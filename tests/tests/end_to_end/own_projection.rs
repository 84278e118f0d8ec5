//! A read model of one's own, in a crate outside the workspace: written by the program, built, run, rebuilt and verified, by the
//! lines of the guide to the history.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::{env, fs, iter};

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::json;
use waltalkie_tests::harness::{Installation, LONG, Lines, Person, repository, target_dir, until};

/// Not the guide's: that one is the example's, whose files are taken.
const NAME: &str = "word_givers";

async fn output(mut command: Command) -> Result<Output> {
    Ok(tokio::task::spawn_blocking(move || command.output()).await??)
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The guide's lines, with this name and this checkout.
fn steps() -> Result<[String; 3]> {
    let guide = fs::read_to_string(repository().join("docs/history.md"))?;
    let (_, rest) = guide.split_once("```console\n").context("the guide has no such step")?;
    let (block, _) = rest.split_once("```").context("the step has no end")?;
    let block = block.replace("~/src/waltalkie", &repository().display().to_string()).replace("talkers", NAME);
    let steps: Vec<String> = block.lines().map(str::to_owned).collect();
    steps.try_into().map_err(|steps| anyhow!("other steps than expected: {steps:?}"))
}

/// A line of the shell, where `waltalkie`, its configuration and cargo are at hand.
fn shell(installation: &Installation, line: &str, folder: &Path) -> Result<Command> {
    let template = installation.command()?;
    let program = Path::new(template.get_program()).parent().context("no folder")?.to_owned();
    let others = env::var_os("PATH").unwrap_or_default();
    let mut command = Command::new("bash");
    command.args(["-ec", line]).current_dir(folder);
    command.envs(template.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.env("PATH", env::join_paths(iter::once(program).chain(env::split_paths(&others)))?);
    // In the target folder, so that the next run finds what it needs; it was fetched for the workspace.
    command.env("CARGO_TARGET_DIR", built_in()?).env("CARGO_NET_OFFLINE", "true");
    // Cargo's own variables of this test's build aren't the crate's.
    for variable in ["CARGO_MANIFEST_DIR", "CARGO_PKG_NAME", "RUSTFLAGS"] {
        command.env_remove(variable);
    }
    Ok(command)
}

fn built_in() -> Result<PathBuf> {
    Ok(target_dir()?.join("own-projection"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_projection_of_ones_own_is_written_built_run_and_rebuilt() -> Result<()> {
    let installation = Installation::make("own-projection").await?;
    let folder = tempfile::tempdir_in(target_dir()?)?;
    let [new, run, rebuild] = steps()?;
    let written = output(shell(&installation, &new, folder.path())?).await?;
    ensure!(written.status.success(), "{}", said(&written));
    let refused = output(shell(&installation, &new, folder.path())?).await?;
    ensure!(!refused.status.success() && said(&refused).contains("is there already"), "{}", said(&refused));
    let own_folder = folder.path().join(NAME);
    let built = output(shell(&installation, "cargo build --quiet", &own_folder)?).await?;
    ensure!(built.status.success(), "{}", said(&built));
    let program = built_in()?.join("debug").join(NAME);
    let own = |arguments: &[&str]| -> Result<Command> {
        let template = installation.command()?;
        let mut command = Command::new(&program);
        command.args(arguments).envs(template.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.current_dir(folder.path());
        Ok(command)
    };

    let process = installation.run(&["all"]).await?;
    let config = installation.config()?;
    let alice = Person::arrive(&config, process.gateway()?, "alice").await?;
    let bob = Person::arrive(&config, process.gateway()?, "bob").await?;
    let chat_id = alice.make_group(&[&bob], json!({})).await?;
    for content in ["one", "two", "three"] {
        alice.say(&chat_id, content).await?;
    }
    bob.say(&chat_id, "four").await?;
    let read = installation.read().await?;
    // In the shell's place, so that it is this one that is killed.
    let run = run.replace("cargo run", "exec cargo run");
    let mut running = Lines::of(shell(&installation, &run, folder.path())?)?;
    let counted = async || -> Result<Vec<(String, i64)>> {
        let rows = read.query("SELECT user_id, messages FROM word_givers ORDER BY user_id", &[]).await?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    };
    until("the table to say who said how much", LONG, async || {
        ensure!(running.ended()?.is_none(), "it has ended");
        Ok((counted().await? == [("alice".to_owned(), 3), ("bob".to_owned(), 1)]).then_some(()))
    })
    .await?;
    let verified = output(own(&["verify"])?).await?;
    ensure!(verified.status.success() && said(&verified).contains("equal"), "{}", said(&verified));

    // Damaged, found, and mended beside the running one.
    read.batch_execute("UPDATE word_givers SET messages = 7 WHERE user_id = 'bob'").await?;
    let verified = output(own(&["verify"])?).await?;
    ensure!(!verified.status.success() && said(&verified).contains("DIFFERENT"), "{}", said(&verified));
    let rebuilt = output(shell(&installation, &rebuild, &own_folder)?).await?;
    let told = said(&rebuilt);
    ensure!(rebuilt.status.success() && told.contains("swapped in") && told.contains("equal"), "{told}");
    ensure!(counted().await? == [("alice".to_owned(), 3), ("bob".to_owned(), 1)], "{:?}", counted().await?);
    bob.say(&chat_id, "five").await?;
    until("it to go on", LONG, async || Ok((counted().await?[1].1 == 2).then_some(()))).await?;
    let usage = output(own(&["dance"])?).await?;
    ensure!(!usage.status.success() && said(&usage).contains("usage: word_givers run"), "{}", said(&usage));
    running.kill().context("stopping it")
}
