//! `waltalkie token`: a development token on standard output.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use runtime::Config;

/// Arguments of `token`.
#[derive(Debug, Args)]
pub struct TokenArgs {
    /// Person whom the token speaks for; made with their first request
    #[arg(long)]
    user: String,
    /// Their name, if they are new
    #[arg(long)]
    name: Option<String>,
    /// How long it is valid, in seconds
    #[arg(long, default_value_t = 3_600)]
    ttl_s: i64,
}

pub(crate) fn run(config: &Config, args: &TokenArgs) -> Result<ExitCode> {
    let (token, _) = ingest::auth::development_token(config, &args.user, args.name.as_deref(), args.ttl_s)?;
    println!("{token}");
    Ok(ExitCode::SUCCESS)
}
