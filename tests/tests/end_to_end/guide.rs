//! `docs/api.md` leads from a token to a conversation: its blocks are run as they stand.

use std::path::PathBuf;
use std::process::Command;
use std::{env, fs};

use anyhow::{Context, Result, ensure};
use waltalkie_tests::harness::{Installation, python, repository};

const SECTION: &str = "## From a token to a conversation";

/// Blocks of the section by language, in order.
fn blocks(page: &str) -> Result<Vec<(String, String)>> {
    let (_, section) = page.split_once(SECTION).context("no such section")?;
    let section = section.split("\n## ").next().unwrap_or_default();
    let blocks = section.split("```").skip(1).step_by(2).filter_map(|block| block.split_once('\n'));
    Ok(blocks.map(|(language, text)| (language.to_owned(), text.to_owned())).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_guide_ends_in_a_conversation() -> Result<()> {
    let installation = Installation::make("guide").await?;
    let process = installation.run(&["all"]).await?;
    let page = fs::read_to_string(repository().join("docs/api.md"))?;
    let folder = tempfile::tempdir()?;
    let mut script = String::from("set -e\n");
    for (language, text) in blocks(&page)? {
        match language.as_str() {
            "sh" => script.push_str(&text.replace("http://127.0.0.1:8080", process.gateway()?)),
            "python" => fs::write(folder.path().join("listen.py"), text)?,
            other => ensure!(other == "json", "a block of {other} isn't run"),
        }
    }
    fs::write(folder.path().join("guide.sh"), script)?;

    let template = installation.command()?;
    let mut command = Command::new("bash");
    command.arg("guide.sh").current_dir(folder.path());
    command.envs(template.get_envs().filter_map(|(name, value)| Some((name, value?))));
    // `waltalkie` and `python3` as their reader has them.
    let mut path = vec![PathBuf::from(template.get_program()), python()?];
    for program in &mut path {
        program.pop();
    }
    path.extend(env::split_paths(&env::var_os("PATH").unwrap_or_default()));
    command.env("PATH", env::join_paths(path)?);
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{said}");
    ensure!(output.status.success(), "{}\n{said}\n{complained}", output.status);
    for heard in ["alice: Noon?", "\"content\":\"Half past twelve works\"", "\"unread_count\":0", "\"edited_at\":\"2"] {
        ensure!(said.contains(heard), "no {heard} in\n{said}\n{complained}");
    }
    Ok(())
}
