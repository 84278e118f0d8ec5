//! The command line: what can be asked, with examples, and who does it.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use runtime::{Config, telemetry};

use crate::roles::RoleName;
use crate::{
    bench, cdc, config_page, dlq, doctor, explain, export, migrate, new, notify_commands, probe, rebuild, roles,
    schema_commands, tail, token, up,
};

/// A chat backend whose every message can be replayed.
#[derive(Debug, Parser)]
#[command(
    name = "waltalkie",
    version,
    after_help = "Examples:
  waltalkie up                              start everything on this machine and talk
  waltalkie tail --chat <chat_id>           follow a chat's events, one JSON line each
  waltalkie token --user alice              a development token
  waltalkie run gateway persister           two roles, against the servers of waltalkie.toml
  waltalkie doctor                          what is wrong, and how to mend it"
)]
pub struct Cli {
    /// Configuration file [default: waltalkie.toml, if there is one]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Starts what is missing on this machine, then all roles
    #[command(after_help = "Examples:
  waltalkie up
  waltalkie up --data-dir ./data
  eval \"$(waltalkie up --print-env)\"        let this shell's programs find the servers of a running `up`")]
    Up(up::UpArgs),
    /// Runs roles against the servers named in the configuration
    #[command(after_help = "Examples:
  waltalkie run all
  waltalkie run gateway
  WALTALKIE_KAFKA__BROKERS=kafka:9092 waltalkie run persister cdc")]
    Run {
        /// Roles to run in this process
        #[arg(required = true, value_enum)]
        roles: Vec<RoleName>,
    },
    /// Brings databases, topics, schemas, publication and slot to what this version needs
    #[command(after_help = "Examples:
  waltalkie migrate
  waltalkie migrate --create-databases
  waltalkie migrate --print                              all that somebody else has to apply, as SQL and shell
  waltalkie migrate --print truth | psql \"$TRUTH\"      one part of it")]
    Migrate(migrate::MigrateArgs),
    /// Checks, registers or explains the Avro schemas
    #[command(subcommand)]
    Schemas(schema_commands::SchemasCommand),
    /// Prints the documents of the interfaces, without a server
    #[command(subcommand)]
    Docs(DocsCommand),
    /// Prints a development token, or says what is in one
    #[command(after_help = "Examples:
  curl -H \"Authorization: Bearer $(waltalkie token --user alice)\" http://127.0.0.1:8080/v1/chats
  waltalkie token --service backend --scope 'users:write chats:write'
  waltalkie token explain \"$TOKEN\"            what it says, and why it is refused")]
    Token(token::TokenArgs),
    /// Follows chat.events, decoded, one JSON line an event
    #[command(after_help = "Examples:
  waltalkie tail
  waltalkie tail --from beginning --type message.persisted
  waltalkie tail --chat 0197f9d2-8a5b-7c3e-9f10-2b6d4e8a1c55 --from beginning --max 10")]
    Tail(tail::TailArgs),
    /// Makes read models again from the history, beside the live ones, and swaps them in
    #[command(after_help = "Examples:
  waltalkie rebuild chat_head
  waltalkie rebuild membership chat_head cursor inbox
  waltalkie rebuild chat_activity                                the quick way to keep one more: projector.also
  waltalkie rebuild membership --until 2026-01-31T12:00:00Z      as it was then, in a schema of its own
  waltalkie rebuild inbox --dry-run                              compares, changes nothing")]
    Rebuild(rebuild::RebuildArgs),
    /// The way of one message: every station with time and place, and how far each member has come
    #[command(after_help = "Examples:
  waltalkie explain 0197f9d2-8a5b-7c3e-9f10-2b6d4e8a1c55
  waltalkie explain 0197f9d2-8a5b-7c3e-9f10-2b6d4e8a1c55 --json | jq .members")]
    Explain(explain::ExplainArgs),
    /// Compares read models with the history, row for row, or the history with the tables
    #[command(after_help = "Examples:
  waltalkie verify history
  waltalkie verify membership chat_head cursor inbox --json")]
    Verify(rebuild::VerifyArgs),
    /// Writes the beginning of something of one's own
    #[command(subcommand)]
    New(new::NewCommand),
    /// Every message of a person, one JSON line each, where `user_export` is kept
    #[command(after_help = "Examples:
  waltalkie export --user alice > alice.jsonl
  waltalkie export --user alice | jq -r .content")]
    Export(export::ExportArgs),
    /// What people feel: says something every few seconds in a chat of its own, and measures when it is seen
    #[command(after_help = "Examples:
  waltalkie probe
  waltalkie probe https://chat.example.org --user canary --token-file canary.jwt --listen 127.0.0.1:9321
  waltalkie probe --count 20 --every-ms 200 --json | jq .seen_ms")]
    Probe(probe::ProbeArgs),
    /// The CDC worker, by hand
    #[command(subcommand)]
    Cdc(cdc::CdcCommand),
    /// Commands that nobody could decide, notifications that nobody could send: look at them, try them again, drop them
    Dlq(dlq::DlqArgs),
    /// Push and mail, by hand
    #[command(subcommand)]
    Notify(notify_commands::NotifyCommand),
    /// Checks each part and says how to mend what is wrong
    Doctor(doctor::DoctorArgs),
    /// Prints the effective configuration, secrets redacted
    Config,
    /// Load generators that measure and check
    #[command(subcommand)]
    Bench(BenchCommand),
}

#[derive(Debug, Subcommand)]
enum DocsCommand {
    /// OpenAPI 3.1 of HTTP, as JSON
    #[command(after_help = "Example:
  waltalkie docs openapi > openapi.json")]
    Openapi,
    /// AsyncAPI 3.0 of the WebSocket and the topics, as JSON
    #[command(after_help = "Example:
  waltalkie docs asyncapi > asyncapi.json")]
    Asyncapi,
    /// The Avro schemas of the topics' values by subject, as JSON
    #[command(after_help = "Example:
  waltalkie docs schemas | jq '.\"chat.events-value\"' > ChatEvent.avsc")]
    Schemas,
}

#[derive(Debug, Subcommand)]
enum BenchCommand {
    /// Conversations, open loop, from due time to the other screen
    #[command(after_help = "Examples:
  waltalkie bench chat --rate 500 --seconds 30
  waltalkie bench chat --own-stack --connections 1000 --chats 100 --json")]
    Chat(OwnStack<bench::chat::ChatArgs>),
    /// The CDC worker: drain of a backlog, latency, CPU and memory, beside a null reader and a bare producer; or faults at
    /// random
    #[command(after_help = "Examples:
  waltalkie bench cdc --own-stack
  waltalkie bench cdc --own-stack --workload a --events 1000000 --runs 5 --json
  waltalkie bench cdc --own-stack --workload latency --rate 2000
  waltalkie bench cdc --own-stack --workload disk --content-bytes 40 --rate 1000
  waltalkie bench cdc --own-stack --workload a --peer 'other=./other --fast'
  waltalkie bench cdc --own-stack --chaos --runs 20")]
    Cdc(OwnStack<bench::cdc::CdcArgs>),
    /// The persister: a backlog of commands into rows, beside a bare COPY of the same rows
    #[command(after_help = "Examples:
  waltalkie bench persist --own-stack
  waltalkie bench persist --own-stack --workload hot --runs 5 --json")]
    Persist(OwnStack<bench::persist::PersistArgs>),
    /// The history into read models: rebuilds, beside a bare consumer and COPY of the same rows
    #[command(after_help = "Examples:
  waltalkie bench rebuild --own-stack
  waltalkie bench rebuild --own-stack --events 1000000 --chats 10000 --projection inbox --runs 1 --json")]
    Rebuild(OwnStack<bench::rebuild::RebuildBenchArgs>),
    /// Events to connected members: latency and cost of a delivery, beside a bare server that writes the same bytes
    #[command(after_help = "Examples:
  waltalkie bench fanout --own-stack --floor
  waltalkie bench fanout --own-stack --deliveries-per-s 50000,100000,250000 --runs 3 --floor --json
  waltalkie bench fanout --own-stack --connections 2000 --chats 1 --members 2000 --deliveries-per-s 10000,100000")]
    Fanout(OwnStack<bench::fanout::FanoutArgs>),
    /// Memory of connections that only stay, and of chats that a node follows; Redis restarted under it
    #[command(after_help = "Examples:
  waltalkie bench idle --own-stack --floor
  waltalkie bench idle --own-stack --connections 1000 --chats-on-node 100000 --json

20,000 connections need as many open files: the limit is raised as far as this user may, as root beyond the hard limit too.")]
    Idle(OwnStack<bench::idle::IdleArgs>),
    /// A node is killed and its clients come to another one, all at once, beside bare servers
    #[command(after_help = "Examples:
  waltalkie bench storm --own-stack --floor
  waltalkie bench storm --own-stack --clients 2000 --missed 20 --runs 3 --json")]
    Storm(OwnStack<bench::storm::StormArgs>),
    /// Decisions a second of the notifier over its backlog, and from an event to a provider's door, also beside a large chat
    #[command(after_help = "Examples:
  waltalkie bench notify --own-stack
  waltalkie bench notify --own-stack --backlog 100000 --pushes 500 --group-members 0 --json")]
    Notify(OwnStack<bench::notify::NotifyArgs>),
    /// Clients that only read, for other benches: takes orders on standard input
    #[command(hide = true)]
    Readers,
    /// A server that only writes, for other benches: takes orders on standard input
    #[command(hide = true)]
    BareServer,
    /// A CDC worker that takes orders to die
    #[command(hide = true)]
    CdcVictim { orders: Vec<String> },
}

/// A bench's arguments, and where it runs.
#[derive(Debug, Args)]
struct OwnStack<A: Args> {
    #[command(flatten)]
    bench: A,
    /// Start servers and roles for this run alone, with data in this folder [without it: one under /var/tmp, removed
    /// afterwards]
    #[arg(long, value_name = "DIR")]
    #[expect(clippy::option_option, reason = "absent, given without a value, given with one")]
    own_stack: Option<Option<PathBuf>>,
}

/// Does what was asked.
pub async fn run(cli: Cli) -> Result<ExitCode> {
    let path = cli.config.clone().or_else(|| Some(PathBuf::from("waltalkie.toml")).filter(|path| path.is_file()));
    let config = runtime::config::load(path.as_deref(), std::env::vars()).context("configuration")?;
    match cli.command {
        Command::Up(args) => {
            // Servers' and roles' chatter would drown what `up` has to say.
            telemetry::init_logs(config.log.format, if args.is_verbose() { "info" } else { "warn,librdkafka=error" });
            Box::pin(up::run(config, args)).await
        }
        Command::Run { roles } => {
            telemetry::init_logs(config.log.format, &config.log.filter);
            roles::run_until_told(Arc::new(config), &roles).await
        }
        Command::Migrate(args) => migrate::run(&quiet(config), &args).await,
        Command::Schemas(command) => schema_commands::run(&quiet(config), command).await,
        Command::Docs(DocsCommand::Openapi) => {
            println!("{}", ingest::gateway::openapi_json());
            Ok(ExitCode::SUCCESS)
        }
        Command::Docs(DocsCommand::Asyncapi) => {
            println!("{}", schemas::asyncapi::asyncapi_json());
            Ok(ExitCode::SUCCESS)
        }
        Command::Docs(DocsCommand::Schemas) => {
            println!("{}", schema_commands::by_subject());
            Ok(ExitCode::SUCCESS)
        }
        Command::Token(args) => token::run(&up::or_local(config)?, args).await,
        Command::Tail(args) => tail::run(quiet(up::or_local(config)?), args).await,
        Command::Rebuild(args) => Box::pin(rebuild::run(quiet(up::or_local(config)?), args)).await,
        Command::Explain(args) => explain::run(quiet(up::or_local(config)?), args).await,
        Command::Probe(args) => {
            // Whoever has a token needs no configuration.
            let config = if args.has_token() { config } else { up::or_local(config)? };
            probe::run(quiet(config), args).await
        }
        Command::New(command) => new::run(&command),
        Command::Export(args) => export::run(quiet(up::or_local(config)?), args).await,
        Command::Verify(args) => Box::pin(rebuild::verify(quiet(up::or_local(config)?), args)).await,
        Command::Cdc(command) => cdc::run(quiet(up::or_local(config)?), command).await,
        Command::Dlq(args) => dlq::run(&quiet(up::or_local(config)?), args).await,
        Command::Notify(command) => Box::pin(notify_commands::run(quiet(up::or_local(config)?), command)).await,
        Command::Doctor(args) => doctor::run(&quiet(up::or_local(config)?), &args).await,
        Command::Config => config_page::print(&config),
        Command::Bench(BenchCommand::Chat(args)) => {
            let config = quiet(config);
            match args.own_stack {
                Some(folder) => Box::pin(up::own_stack::chat(config, args.bench, folder)).await,
                None => bench::chat::run(&args.bench, &up::or_local(config)?, None).await,
            }
        }
        Command::Bench(BenchCommand::Cdc(args)) => {
            let config = quiet(config);
            match args.own_stack {
                Some(folder) => Box::pin(up::own_stack::cdc(config, args.bench, folder)).await,
                None => Box::pin(bench::cdc::run(&args.bench, &up::or_local(config)?, Vec::new())).await,
            }
        }
        Command::Bench(BenchCommand::Persist(args)) => {
            let config = quiet(config);
            match args.own_stack {
                Some(folder) => Box::pin(up::own_stack::persist(config, args.bench, folder)).await,
                None => Box::pin(bench::persist::run(&args.bench, &up::or_local(config)?, Vec::new())).await,
            }
        }
        Command::Bench(BenchCommand::Rebuild(args)) => {
            let config = quiet(config);
            match args.own_stack {
                Some(folder) => Box::pin(up::own_stack::rebuild(config, args.bench, folder)).await,
                None => Box::pin(bench::rebuild::run(&args.bench, &up::or_local(config)?, Vec::new())).await,
            }
        }
        Command::Bench(BenchCommand::Fanout(args)) => {
            let config = quiet(config);
            match args.own_stack {
                Some(folder) => Box::pin(up::own_stack::fanout(config, args.bench, folder)).await,
                None => Box::pin(bench::fanout::run(&args.bench, &up::or_local(config)?, Vec::new())).await,
            }
        }
        Command::Bench(BenchCommand::Idle(args)) => {
            let config = quiet(config);
            match args.own_stack {
                Some(folder) => Box::pin(up::own_stack::idle(config, args.bench, folder)).await,
                None => Box::pin(bench::idle::run(&args.bench, &up::or_local(config)?, Vec::new(), None)).await,
            }
        }
        Command::Bench(BenchCommand::Storm(args)) => {
            let config = quiet(config);
            match args.own_stack {
                Some(folder) => Box::pin(up::own_stack::storm(config, args.bench, folder)).await,
                None => Box::pin(bench::storm::run(&args.bench, &up::or_local(config)?, Vec::new())).await,
            }
        }
        Command::Bench(BenchCommand::Notify(args)) => {
            let config = quiet(config);
            match args.own_stack {
                Some(folder) => Box::pin(up::own_stack::notify(config, args.bench, folder)).await,
                None => Box::pin(bench::notify::run(&args.bench, &up::or_local(config)?, Vec::new())).await,
            }
        }
        Command::Bench(BenchCommand::Readers) => bench::readers::serve().await.map(|()| ExitCode::SUCCESS),
        Command::Bench(BenchCommand::BareServer) => bench::bare::serve().await.map(|()| ExitCode::SUCCESS),
        Command::Bench(BenchCommand::CdcVictim { orders }) => {
            telemetry::init_logs(config.log.format, "info,librdkafka=off");
            Ok(bench::cdc::chaos::victim(config, &orders).await)
        }
    }
}

/// Commands that print results log only what is wrong.
fn quiet(config: Config) -> Config {
    telemetry::init_logs(config.log.format, "warn");
    config
}
