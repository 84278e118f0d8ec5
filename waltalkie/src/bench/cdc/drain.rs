//! Draining a backlog: the worker, and beside it the two references.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cdc_worker::Lsn;
use rdkafka::Offset;
use rdkafka::consumer::BaseConsumer;
use rdkafka::message::Message;
use runtime::kafka::Quiet;
use schemas::registry::Registry;
use schemas::topics::Topic;
use schemas::{Decoder, Position};

use super::ledger::{Counted, PlaceOf, consumer, place, read_back};
use super::peer;
use super::reference::{self, Large};
use super::report::{Costs, Drain, References, Speed};
use super::side_by_side::Beside;
use super::site::{Installation, Site};
use super::worker::Worker;
use super::{CdcArgs, Workload, backlog};
use crate::bench::processes::Watch;
use crate::bench::progress;

/// Longest that the worker may commit nothing.
const STALL: Duration = Duration::from_secs(60);

/// All runs of one workload.
pub(super) async fn run(args: &CdcArgs, workload: Workload, site: Site) -> Result<Drain> {
    let mut installations = Vec::new();
    for number in 0..args.runs() {
        installations.push(site.install(number).await?);
    }
    let for_references = site.install(args.runs()).await?;
    let client = site.connect().await?;
    let last_rows = backlog::write(&client, args, workload).await?;
    drop(client);
    let (mut runs, mut costs, mut references) = (Vec::new(), Vec::new(), References::default());
    let mut counted = Counted::default();
    let mut beside: Vec<Beside> = args.peer.iter().map(|peer| Beside::new(&peer.name)).collect();
    let records = if args.no_reference { None } else { Some(reference::capture(&for_references, args.events).await?) };
    for installation in &installations {
        if let Some(records) = &records {
            references.null_reader.push(reference::null_reader(&for_references, Large::Whole, args.events).await?);
            if workload == Workload::C {
                let in_pieces = reference::null_reader(&for_references, Large::InPieces, args.events).await?;
                references.null_reader_in_pieces.push(in_pieces);
            }
            references.bare_producer.push(reference::bare_producer(&for_references, records, args.events)?);
        }
        let (speed, cost) = one(args, installation, &site, last_rows).await?;
        runs.push(speed);
        costs.push(cost);
        let (config, events, chats) = (installation.config.clone(), args.events, args.chats);
        let topic = config.names().topic(Topic::ChatEvents);
        let place: PlaceOf = |message| place(message).map(|(chat, seq)| (chat.into(), seq));
        let read = tokio::task::spawn_blocking(move || read_back(&config, &topic, events, chats, place)).await??;
        counted.add(&read);
        site.remove(installation).await?;
        for (number, (peer, beside)) in args.peer.iter().zip(&mut beside).enumerate() {
            if beside.has_failed() {
                continue;
            }
            let name = format!("{number}_{}", runs.len());
            beside.add(peer::drain(peer, &name, args, &for_references, &site).await, args.events);
        }
    }
    let decoding_memory = site.decoding_memory().await?;
    site.remove(&for_references).await?;
    site.unmake().await?;
    Ok(Drain::new(workload.name(), args.events, runs, &costs, counted, &references).with(decoding_memory, beside))
}

/// One run of the worker, from the moment at which it streams to the commit of the last position.
pub(super) async fn one(
    args: &CdcArgs,
    installation: &Installation,
    site: &Site,
    last_rows: Lsn,
) -> Result<(Speed, Costs)> {
    let config = &installation.config;
    let topic = config.names().topic(Topic::CdcPositions);
    let registry = Registry::new(config.registry.url.expose(), config.names().prefix())?;
    let position_id = registry.id_of::<Position>().await?;
    let decoder = Decoder::<Position>::new(std::sync::Arc::new(registry), position_id);
    let positions = consumer(config, &topic, 1, Offset::Beginning)?;
    let client = site.connect().await?;
    let worker = Worker::start(installation, &client).await?;
    let began = Instant::now();
    let mut roles = site.servers.clone();
    roles.push(("cdc worker".to_owned(), worker.pid().context("the worker has no process")?));
    let mut watch = Watch::new(roles, None);
    let bar = progress(last_rows.0, "draining");
    let mut transactions = 0;
    let mut last_news = Instant::now();
    let took = loop {
        watch.look();
        let Some(value) = next(&positions)? else {
            ensure!(last_news.elapsed() < STALL, "the worker commits nothing for {} s", STALL.as_secs());
            continue;
        };
        last_news = Instant::now();
        transactions += 1;
        let position = decoder.decode(&value).await?;
        bar.set_position(position.commit_lsn as u64);
        if Lsn::from_bits(position.confirmable_lsn) > last_rows {
            break began.elapsed();
        }
    };
    bar.finish_and_clear();
    let usage = watch.end();
    let peak_rss_bytes = worker.peak_rss_bytes();
    worker.stop().await?;
    let speed = Speed { seconds: took.as_secs_f64(), events_per_s: args.events as f64 / took.as_secs_f64() };
    Ok((speed, Costs { cpu_s: usage.cpu_s, peak_rss_bytes, transactions, busy_cpu_s: usage.busy_cpu_s }))
}

/// The next position, if there is one within a moment.
fn next(positions: &BaseConsumer<Quiet>) -> Result<Option<Vec<u8>>> {
    tokio::task::block_in_place(|| match positions.poll(Duration::from_millis(100)) {
        Some(Ok(message)) => Ok(message.payload().map(<[u8]>::to_vec)),
        Some(Err(rdkafka::error::KafkaError::PartitionEOF(_))) | None => Ok(None),
        Some(Err(error)) => Err(error.into()),
    })
}
