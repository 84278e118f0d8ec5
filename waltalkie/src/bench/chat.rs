//! Being written.
use std::process::ExitCode;
/// Arguments.
#[derive(Debug, clap::Args)]
pub struct ChatArgs {}
/// Where a bench runs.
#[derive(Debug, Default)]
pub struct Target {
    /// Gateway.
    pub gateway_url: String,
    /// Processes by role.
    pub roles: Vec<(String, u32)>,
}
/// Runs.
pub async fn run(_args: &ChatArgs, _config: &runtime::Config, _target: Option<Target>) -> anyhow::Result<ExitCode> {
    anyhow::bail!("not here yet")
}
