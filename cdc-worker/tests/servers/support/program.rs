//! `waltalkie` itself, for what only its commands can show.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use cdc_worker::victim;
use runtime::Config;

/// The executable beside these tests, with a configuration and nothing else of this machine's.
pub fn waltalkie(config: &Config, arguments: &[&str]) -> Result<Command> {
    let own = std::env::current_exe()?;
    let folder = own.parent().and_then(|deps| deps.parent()).context("this program has no folder")?;
    let program = folder.join("waltalkie");
    ensure!(
        program.exists(),
        "{} isn't there: build it with the tests: cargo build --workspace --all-targets (scripts/test does)",
        program.display()
    );
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("WALTALKIE_") {
            command.env_remove(name);
        }
    }
    // No waltalkie.toml there.
    command.args(arguments).envs(victim::variables(config)).current_dir(env!("CARGO_TARGET_TMPDIR"));
    Ok(command)
}
