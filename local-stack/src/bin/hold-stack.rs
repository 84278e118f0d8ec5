//! Starts the local stack in a data directory, says so, and holds it until it is killed: `hold-stack DIR`.

use std::sync::Arc;

use local_stack::{LocalStack, Options, Silent};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let data_dir = std::env::args_os().nth(1).ok_or("usage: hold-stack DIR")?;
    let options = Options { usual_ports: false, ..Options::new(data_dir) };
    let _stack = LocalStack::start(options, Arc::new(Silent)).await?;
    println!("held");
    std::future::pending().await
}
