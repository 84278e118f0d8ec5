//! `waltalkie token`: a development token on standard output; `token explain`: what a token says, and why it is refused.

use std::io::Read;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{ArgGroup, Args, Subcommand};
use ingest::auth::{self, Authenticator, Scope, Token};
use runtime::{Config, Health, Shutdown};
use schemas::timestamp;
use serde_json::Value;

/// How long published keys are waited for.
const KEYS: Duration = Duration::from_secs(6);

/// Arguments of `token`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, group(ArgGroup::new("whose").args(["user", "service"])))]
pub struct TokenArgs {
    #[command(subcommand)]
    command: Option<TokenCommand>,
    /// Person whom the token speaks for; made with their first request
    #[arg(long)]
    user: Option<String>,
    /// Their name, if they are new
    #[arg(long, requires = "user")]
    name: Option<String>,
    /// A service's token, with the service's name
    #[arg(long, num_args = 0..=1, default_missing_value = "service", value_name = "NAME", requires = "scope")]
    service: Option<String>,
    /// What the service may do, such as users:write; several with spaces, or given several times
    #[arg(long, requires = "service")]
    scope: Vec<String>,
    /// How long it is valid, in seconds
    #[arg(long, default_value_t = 3_600)]
    ttl_s: i64,
}

#[derive(Debug, Subcommand)]
enum TokenCommand {
    /// Says what a token holds, and why it is refused if it is; its signature isn't shown
    #[command(after_help = "Examples:
  waltalkie token explain \"$TOKEN\"
  pbpaste | waltalkie token explain -         keeps it out of the shell's history")]
    Explain {
        /// The token, or - to read it from standard input
        jwt: String,
    },
}

pub(crate) async fn run(config: &Config, args: TokenArgs) -> Result<ExitCode> {
    if let Some(TokenCommand::Explain { jwt }) = args.command {
        return explain(config, &jwt).await;
    }
    let (token, _) = match (args.user, args.service) {
        (Some(user), _) => auth::development_token(config, &user, args.name.as_deref(), args.ttl_s)?,
        (None, Some(service)) => {
            let scope = args.scope.join(" ");
            if let Some(unknown) = scope.split_whitespace().find(|name| !Scope::ALL.iter().any(|s| s.name() == *name)) {
                let known: Vec<&str> = Scope::ALL.iter().map(|scope| scope.name()).collect();
                anyhow::bail!("there is no scope `{unknown}`; there are {}", known.join(", "));
            }
            auth::development_service_token(config, &service, &scope, args.ttl_s)?
        }
        (None, None) => anyhow::bail!("say whose token: --user <id>, or --service --scope <scope>"),
    };
    println!("{token}");
    Ok(ExitCode::SUCCESS)
}

async fn explain(config: &Config, jwt: &str) -> Result<ExitCode> {
    let mut text = jwt.to_owned();
    if jwt == "-" {
        text.clear();
        std::io::stdin().read_to_string(&mut text).context("reading the token from standard input")?;
    }
    let authenticator = Authenticator::new(config)?;
    let shutdown = Shutdown::new();
    // Published keys that can't be had are a reason like any other.
    let _ = tokio::time::timeout(KEYS, authenticator.start(&Health::default().role("token"), &shutdown)).await;
    let explained = authenticator.explain(text.trim()).await;
    shutdown.finish(Duration::from_secs(1)).await;
    show("header", explained.header.as_ref());
    show("claims", explained.claims.as_ref());
    for claim in ["iat", "nbf", "exp"] {
        if let Some(seconds) = explained.claims.as_ref().and_then(|claims| claims[claim].as_f64()) {
            println!("{claim}      {}", timestamp::rfc3339((seconds * 1_000.0) as i64));
        }
    }
    match explained.verdict {
        Ok(Token::Person(person)) => {
            println!("taken    it speaks for {}", person.user_id);
            println!("         not looked at: whether their tokens were revoked since, or they were removed");
            Ok(ExitCode::SUCCESS)
        }
        Ok(Token::Service(service)) => {
            let scopes: Vec<&str> = Scope::ALL
                .iter()
                .filter(|scope| service.scopes.need(**scope).is_ok())
                .map(|scope| scope.name())
                .collect();
            let may = if scopes.is_empty() { "nothing".to_owned() } else { scopes.join(" ") };
            println!("taken    it speaks for the service {}, which may: {may}", service.name);
            Ok(ExitCode::SUCCESS)
        }
        Err(rejection) => {
            println!("refused  {}: {}", rejection.code.name(), rejection.message);
            Ok(ExitCode::FAILURE)
        }
    }
}

fn show(what: &str, part: Option<&Value>) {
    match part {
        Some(part) => println!("{what:<8} {part}"),
        None => println!("{what:<8} can't be read"),
    }
}
