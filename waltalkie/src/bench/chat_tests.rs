use std::time::Instant;

use super::*;

fn args() -> ChatArgs {
    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        chat: ChatArgs,
    }
    let line = "bench --connections 40 --chats 8 --members 10 --rate 400 --warmup-s 0.2 --seconds 1";
    <Line as clap::Parser>::parse_from(line.split(' ')).chat
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_clients_lose_nothing_against_the_floor() {
    let bench = Bench { args: args(), config: Config::default(), target: Target::default(), threads: 1 };
    let began = Instant::now();
    let measured = bench.measure_floor().await.unwrap();
    assert!(measured.is_clean);
    let figures = &measured.runs[0];
    assert_eq!((figures.sent, figures.persisted_messages, figures.deliveries), (480, 480, 4_800));
    assert_eq!(figures.gaps + figures.postponed + figures.closed_connections, 0);
    assert!(figures.screen.p50_ms > 0.0 && figures.screen.max_ms < began.elapsed().as_secs_f64() * 1_000.0);
    assert!(figures.accepted.p50_ms <= figures.screen.max_ms);
}

#[test]
fn arguments_name_processes_by_role() {
    assert_eq!(role_and_pid("postgres=42"), Ok(("postgres".to_owned(), 42)));
    assert!(role_and_pid("postgres").is_err() && role_and_pid("postgres=x").is_err());
}
