//! `waltalkie schemas check`, `register` and `docs`.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};
use runtime::Config;
use schemas::registry::{Compatibility, Registry};
use schemas::rules::Finding;
use serde_json::{Map, Value, json};

use crate::{pages, up};

/// What can be asked about schemas.
#[derive(Debug, Subcommand)]
pub enum SchemasCommand {
    /// Whether this version's schemas may follow all earlier ones: by the contract's rules, then asked of the registry;
    /// changes nothing
    #[command(after_help = "Examples:
  waltalkie schemas check
  waltalkie schemas check --offline            the rules alone, without a server
  waltalkie schemas check --json | jq '.rules[] | [.record, .path, .rule]'")]
    Check(CheckArgs),
    /// Registers this version's schemas under FULL_TRANSITIVE
    Register,
    /// Prints the catalogue of topics and fields, without a server
    #[command(after_help = "Examples:
  waltalkie schemas docs > events.md
  waltalkie schemas docs --html > events.html")]
    Docs(DocsArgs),
}

/// What `check` may be told.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Don't ask the registry
    #[arg(long)]
    offline: bool,
    /// One JSON object instead of lines
    #[arg(long)]
    json: bool,
}

/// What `docs` may be told.
#[derive(Debug, Args)]
pub struct DocsArgs {
    /// A page that stands alone, instead of Markdown
    #[arg(long)]
    html: bool,
}

/// This version's schemas by subject, as JSON.
pub(crate) fn by_subject() -> String {
    let subjects: Map<String, Value> = schemas::record::all()
        .into_iter()
        .map(|(_, schema, topic)| {
            (format!("{}-value", topic.base_name()), serde_json::from_str(schema).unwrap_or_default())
        })
        .collect();
    serde_json::to_string_pretty(&subjects).unwrap_or_default()
}

pub(crate) async fn run(config: &Config, command: SchemasCommand) -> Result<ExitCode> {
    match command {
        SchemasCommand::Register => {
            for (subject, id) in registry(config)?.register_all().await? {
                println!("{subject}: id {id}");
            }
            Ok(ExitCode::SUCCESS)
        }
        SchemasCommand::Check(args) => check(config, &args).await,
        SchemasCommand::Docs(args) => {
            let page = if args.html { pages::catalogue_page() } else { pages::catalogue_text() };
            print!("{page}");
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn registry(config: &Config) -> Result<Registry> {
    // Whoever names a registry needs no other server for this.
    let config = if config.registry.url.is_empty() { up::or_local(config.clone())? } else { config.clone() };
    Ok(Registry::new(config.registry.url.expose(), &config.names.prefix)?)
}

/// A record, and what is wrong with its schema.
type RuleFindings = (&'static str, Vec<Finding>);
/// A subject, and what the registry says of its schema.
type Verdict = (String, Compatibility);

/// The rules come first: they name the field, and they are told also when the registry can't be asked.
async fn check(config: &Config, args: &CheckArgs) -> Result<ExitCode> {
    let rules = schemas::rules::check_all();
    if !args.json {
        print_rules(&rules);
    }
    let verdicts = if args.offline { Ok(None) } else { ask_registry(config).await.map(Some) };
    let is_good = rules.iter().all(|(_, findings)| findings.is_empty())
        && verdicts.as_ref().is_ok_and(|verdicts| {
            verdicts.iter().flatten().all(|(_, verdict)| !matches!(verdict, Compatibility::Incompatible(_)))
        });
    if args.json {
        println!("{:#}", as_json(is_good, &rules, &verdicts));
    } else {
        print_verdicts(verdicts?.as_deref().unwrap_or_default());
    }
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn ask_registry(config: &Config) -> Result<Vec<Verdict>> {
    Ok(registry(config)?.check_all().await?)
}

fn print_rules(rules: &[RuleFindings]) {
    for (record, findings) in rules {
        let newest = schemas::golden::versions(record).len();
        if findings.is_empty() {
            println!("{record}: keeps the rules, version {newest}");
        } else {
            println!("{record}: BREAKS THE RULES");
        }
        for finding in findings {
            println!("  {finding}");
        }
    }
}

fn print_verdicts(verdicts: &[Verdict]) {
    for (subject, verdict) in verdicts {
        match verdict {
            Compatibility::New => println!("{subject}: not registered yet"),
            Compatibility::Same => println!("{subject}: registered"),
            Compatibility::Compatible => println!("{subject}: changed, compatible"),
            Compatibility::Incompatible(reasons) => {
                println!("{subject}: INCOMPATIBLE under FULL_TRANSITIVE");
                for reason in reasons {
                    println!("  {reason}");
                }
            }
        }
    }
}

fn as_json(is_good: bool, rules: &[RuleFindings], verdicts: &Result<Option<Vec<Verdict>>>) -> Value {
    let findings = rules.iter().flat_map(|(schema, findings)| findings.iter().map(move |finding| (schema, finding)));
    let findings = findings.map(|(schema, finding)| {
        let mut finding = json!(finding);
        finding["schema"] = json!(schema);
        finding
    });
    let subjects = |verdicts: &Vec<Verdict>| {
        let verdicts = verdicts.iter().map(|(subject, verdict)| {
            let (word, reasons) = match verdict {
                Compatibility::New => ("new", &[][..]),
                Compatibility::Same => ("registered", &[][..]),
                Compatibility::Compatible => ("compatible", &[][..]),
                Compatibility::Incompatible(reasons) => ("incompatible", reasons.as_slice()),
            };
            (subject.clone(), json!({ "verdict": word, "reasons": reasons }))
        });
        Value::Object(verdicts.collect())
    };
    json!({
        "ok": is_good,
        "rules": findings.collect::<Vec<_>>(),
        "registry": verdicts.as_ref().ok().and_then(Option::as_ref).map(subjects),
        "registry_error": verdicts.as_ref().err().map(|error| format!("{error:#}")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_says_what_the_rules_and_the_registry_found() {
        let older = schemas::golden::versions("Mark")[0];
        let newer = older.replacen("\"read_seq\"", "\"seen_seq\"", 1);
        let rules = vec![("Mark", schemas::rules::check("Mark", &newer, &[older])), ("User", Vec::new())];
        let verdicts = vec![
            ("chat.marks-value".to_owned(), Compatibility::Incompatible(vec!["why".into()])),
            ("chat.users-value".to_owned(), Compatibility::Same),
        ];
        let said = as_json(false, &rules, &Ok(Some(verdicts)));
        let rules_said = said["rules"].as_array().map(Vec::len);
        assert_eq!((&said["ok"], rules_said, &said["registry_error"]), (&json!(false), Some(1), &Value::Null));
        let finding = &said["rules"][0];
        assert_eq!(
            (&finding["schema"], &finding["record"], &finding["path"], &finding["rule"], &finding["version"]),
            (&json!("Mark"), &json!("Mark"), &json!("read_seq"), &json!("field-renamed"), &json!(1))
        );
        assert_eq!(said["registry"]["chat.marks-value"], json!({ "verdict": "incompatible", "reasons": ["why"] }));
        assert_eq!(said["registry"]["chat.users-value"], json!({ "verdict": "registered", "reasons": [] }));

        let said = as_json(false, &[], &Err(anyhow::anyhow!("no answer")));
        assert_eq!((&said["registry"], &said["registry_error"]), (&Value::Null, &json!("no answer")));
    }
}
