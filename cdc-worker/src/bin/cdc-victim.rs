//! The worker as a process of its own that fault tests kill and stop at a point of its work: `cdc-victim ORDER…`.
//! See `cdc_worker::victim`.

use std::process::ExitCode;

fn main() -> ExitCode {
    runtime::tls::install_provider();
    let config = match runtime::config::load(None, std::env::vars()) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    let filter = std::env::var("RUST_LOG").unwrap_or_else(|_| "info,librdkafka=off".into());
    runtime::telemetry::init_logs(config.log.format, &filter);
    let orders: Vec<String> = std::env::args().skip(1).collect();
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: no threads could be started: {error}");
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(cdc_worker::victim::run(config, &orders));
    runtime.shutdown_background();
    code
}
