//! `waltalkie config`: the effective configuration, as a file would have it.

use std::process::ExitCode;

use anyhow::{Context, Result};
use runtime::Config;

pub(crate) fn print(config: &Config) -> Result<ExitCode> {
    print!("{}", toml::to_string(config).context("the configuration can't be written as TOML")?);
    Ok(ExitCode::SUCCESS)
}
