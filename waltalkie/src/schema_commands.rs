//! `waltalkie schemas check` and `register`.

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;
use runtime::Config;
use schemas::registry::{Compatibility, Registry};

use crate::up;

/// What can be asked about schemas.
#[derive(Debug, Subcommand)]
pub enum SchemasCommand {
    /// Asks the registry whether this version's schemas fit what is registered; changes nothing
    Check,
    /// Registers this version's schemas under FULL_TRANSITIVE
    Register,
}

/// This version's schemas by subject, as JSON.
pub(crate) fn by_subject() -> String {
    let subjects: serde_json::Map<String, serde_json::Value> = schemas::record::all()
        .into_iter()
        .map(|(_, schema, topic)| {
            (format!("{}-value", topic.base_name()), serde_json::from_str(schema).unwrap_or_default())
        })
        .collect();
    serde_json::to_string_pretty(&subjects).unwrap_or_default()
}

pub(crate) async fn run(config: &Config, command: SchemasCommand) -> Result<ExitCode> {
    let config = up::or_local(config.clone())?;
    let registry = Registry::new(config.registry.url.expose(), &config.names.prefix)?;
    match command {
        SchemasCommand::Register => {
            for (subject, id) in registry.register_all().await? {
                println!("{subject}: id {id}");
            }
            Ok(ExitCode::SUCCESS)
        }
        SchemasCommand::Check => {
            let mut is_good = true;
            for (subject, verdict) in registry.check_all().await? {
                match verdict {
                    Compatibility::New => println!("{subject}: not registered yet"),
                    Compatibility::Same => println!("{subject}: registered"),
                    Compatibility::Compatible => println!("{subject}: changed, compatible"),
                    Compatibility::Incompatible(reasons) => {
                        is_good = false;
                        println!("{subject}: INCOMPATIBLE under FULL_TRANSITIVE");
                        for reason in reasons {
                            println!("  {reason}");
                        }
                    }
                }
            }
            Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
    }
}
