//! A read model of one's own, with an executable of its own: `talkers run`, `talkers rebuild`, `talkers verify`.

mod talkers;

use std::process::ExitCode;

use talkers::Talkers;

#[tokio::main]
async fn main() -> ExitCode {
    projections::own::main(Talkers, include_str!("../tables.sql")).await
}
