//! `waltalkie notify`: what operators need by hand for push and mail.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, Subcommand};
use notify::provider::Outcome;
use notify::provider::web_push::VapidKey;
use notify::service::trial::{Trial, preview};
use notify::text::Language;
use runtime::Config;

/// What can be done by hand.
#[derive(Debug, Subcommand)]
pub enum NotifyCommand {
    /// Sends a test to all devices of a person and to their mailbox, or shows what would be sent
    #[command(after_help = "Examples:
  waltalkie notify test --user alice --dry-run
  waltalkie notify test --user alice
  waltalkie notify test --dry-run --language de --html mail.html     looks at the mail templates")]
    Test(TestArgs),
    /// Makes a key for Web Push and prints it with its public half
    Key,
}

/// Arguments of `notify test`.
#[derive(Debug, Args)]
pub struct TestArgs {
    /// Whom
    #[arg(long, required_unless_present = "dry_run")]
    user: Option<String>,
    /// Send nothing: print what would be sent
    #[arg(long)]
    dry_run: bool,
    /// Language of the mail that is shown, such as `de` [default: the person's, or en]
    #[arg(long)]
    language: Option<String>,
    /// Write the mail's HTML part there
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

pub(crate) async fn run(config: Config, command: NotifyCommand) -> Result<ExitCode> {
    match command {
        NotifyCommand::Test(args) => test(&Arc::new(config), &args).await,
        NotifyCommand::Key => {
            let secret = VapidKey::generate().context("no key could be made")?;
            println!(
                "notify.web_push_key = \"{}\"     keep it secret, and keep it: browsers are bound to it",
                secret.expose()
            );
            println!("public key: {}", VapidKey::new(&secret)?.public_key());
            Ok(ExitCode::SUCCESS)
        }
    }
}

async fn test(config: &Arc<Config>, args: &TestArgs) -> Result<ExitCode> {
    let language = args.language.as_deref().map(Language::of);
    let has_mail = !config.notify.smtp_host.is_empty();
    let Some(user_id) = &args.user else {
        if !has_mail {
            bail!(
                "notify.smtp_host isn't set, so there is no mail to look at; --user <id> looks at a person's devices"
            );
        }
        show_mail(config, language.unwrap_or_default(), args.html.as_deref())?;
        return Ok(ExitCode::SUCCESS);
    };
    ensure!(config.notify.is_on(), "no provider is configured in [notify]; docs/notifications.md says what each needs");
    let trial = Box::pin(Trial::of(config, user_id)).await?;
    ensure!(trial.is_known, "there is no person {user_id}: one exists from their first valid token on");
    if args.dry_run && has_mail {
        show_mail(config, language.unwrap_or(trial.settings.language), args.html.as_deref())?;
    }
    println!("settings: {}", serde_json::to_string(&trial.settings)?);
    if trial.parts.is_empty() {
        println!("{user_id} has no device and no mail address that is reached");
    }
    let mut is_well = true;
    for part in &trial.parts {
        println!("\n{}", part.place);
        if args.dry_run {
            println!("{}", serde_json::to_string_pretty(&part.shown)?);
        }
        if let Some(problem) = &part.problem {
            println!("  can't be sent: {problem}");
            is_well = false;
            continue;
        }
        if args.dry_run {
            continue;
        }
        let Some(outcome) = trial.send(part).await else { continue };
        let (said, is_sent) = match outcome {
            Outcome::Sent { id } => (format!("sent{}", id.map(|id| format!(", {id}")).unwrap_or_default()), true),
            Outcome::Gone { .. } => ("its service says that it is gone".to_owned(), false),
            Outcome::Retry { fault, .. } => (fault.to_string(), false),
            Outcome::Refused { reason } => (format!("refused: {reason}"), false),
        };
        println!("  {said}");
        is_well &= is_sent;
    }
    Ok(if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn show_mail(config: &Config, language: Language, html: Option<&Path>) -> Result<()> {
    let mail = preview(config, language)?;
    println!("From: {}\nSubject: {}\n\n{}\n", mail.from, mail.subject, mail.text);
    if let Some(path) = html {
        std::fs::write(path, &mail.html).with_context(|| format!("writing {}", path.display()))?;
        println!("the HTML part is in {}\n", path.display());
    }
    Ok(())
}
