//! A read model of one's own, in a crate outside the workspace: written by the program, built, run, rebuilt and verified.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use waltalkie_tests::harness::{Installation, LONG, Lines, Person, repository, target_dir, until};

async fn output(mut command: Command) -> Result<Output> {
    Ok(tokio::task::spawn_blocking(move || command.output()).await??)
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Builds the crate in a folder of the target folder, so that the next run finds what it needs; gives its executable.
async fn build(folder: &Path, name: &str) -> Result<PathBuf> {
    let target = target_dir()?.join("own-projection");
    let mut command = Command::new("cargo");
    // What it needs was fetched for the workspace.
    command.args(["build", "--quiet", "--offline"]).current_dir(folder).env("CARGO_TARGET_DIR", &target);
    // Cargo's own variables of this test's build aren't the crate's.
    for variable in ["CARGO_MANIFEST_DIR", "CARGO_PKG_NAME", "RUSTFLAGS"] {
        command.env_remove(variable);
    }
    let built = output(command).await?;
    ensure!(built.status.success(), "{}", said(&built));
    Ok(target.join("debug").join(name))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_projection_of_ones_own_is_written_built_run_and_rebuilt() -> Result<()> {
    let installation = Installation::make("own-projection").await?;
    let folder = tempfile::tempdir_in(target_dir()?)?;
    let mut command = installation.command()?;
    command.args(["new", "projection", "word_givers", "--waltalkie"]).arg(repository()).arg("--in").arg(folder.path());
    let written = output(command).await?;
    ensure!(written.status.success(), "{}", said(&written));
    let mut again = installation.command()?;
    again.args(["new", "projection", "word_givers", "--waltalkie"]).arg(repository()).arg("--in").arg(folder.path());
    let refused = output(again).await?;
    ensure!(!refused.status.success() && said(&refused).contains("is there already"), "{}", said(&refused));
    let program = build(&folder.path().join("word_givers"), "word_givers").await?;
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
    let mut running = Lines::of(own(&["run"])?)?;
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
    let rebuilt = output(own(&["rebuild"])?).await?;
    ensure!(rebuilt.status.success() && said(&rebuilt).contains("swapped in"), "{}", said(&rebuilt));
    ensure!(counted().await? == [("alice".to_owned(), 3), ("bob".to_owned(), 1)], "{:?}", counted().await?);
    bob.say(&chat_id, "five").await?;
    until("it to go on", LONG, async || Ok((counted().await?[1].1 == 2).then_some(()))).await?;
    let usage = output(own(&["dance"])?).await?;
    ensure!(!usage.status.success() && said(&usage).contains("usage: word_givers run"), "{}", said(&usage));
    running.kill().context("stopping it")
}
