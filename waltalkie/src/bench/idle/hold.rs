//! Many connections that stay, and what they cost the process that holds them.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::IdleArgs;
use super::report::Figures;
use crate::bench::audience::{Audience, Tables};
use crate::bench::bare::{self, Bare};
use crate::bench::node::{self, Node};
use crate::bench::place::Place;
use crate::bench::processes::Watch;
use crate::bench::program::rss_bytes;
use crate::bench::readers::{Connect, Readers};
use crate::bench::{files, progress, tokens};

/// Connections that are there before memory is looked at for the first time: what is made once, at the first ones, isn't
/// what a connection costs.
const FIRST: usize = 100;
const LOOK: Duration = Duration::from_millis(100);

/// Against the gateway.
pub(super) async fn waltalkie(args: &IdleArgs, place: &Place, servers: &[(String, u32)]) -> Result<Figures> {
    let chats = (args.connections * args.chats_each / args.members).max(1);
    let audience = Audience::new("idle", args.connections, chats, args.members, 0);
    files::allow(args.connections)?;
    let client = place.connect().await?;
    Tables { client: &client, audience: &audience }.write().await?;
    let node = Node::start(&place.config).await?;
    let tokens = tokens::of(&place.config, &audience)?;
    let mut roles = servers.to_vec();
    roles.push((node::ROLE.to_owned(), node.pid()?));
    let held = hold(args, &node.url, node.pid()?, tokens, roles, place.config.gateway.heartbeat_ms).await;
    node.end().await?;
    held
}

/// Against a bare echo.
pub(super) async fn floor(args: &IdleArgs) -> Result<Figures> {
    files::allow(args.connections)?;
    let bare = Bare::start(None).await?;
    let tokens = (0..args.connections).map(|person| format!("idle-p{person:06}")).collect();
    let roles = vec![(bare::ROLE.to_owned(), bare.pid()?)];
    hold(args, &bare.url, bare.pid()?, tokens, roles, 5_000).await
}

async fn hold(
    args: &IdleArgs,
    url: &str,
    pid: u32,
    mut tokens: Vec<String>,
    mut roles: Vec<(String, u32)>,
    heartbeat_ms: u64,
) -> Result<Figures> {
    let mut readers = Readers::start()?;
    roles.push(("load_client".to_owned(), readers.pid()?));
    let rest = tokens.split_off(FIRST.min(tokens.len() / 2));
    let first = tokens.len();
    let connect = |tokens| {
        let urls = vec![url.to_owned()];
        Connect { urls, later_url: None, tokens, per_s: args.ramp_per_s, heartbeat_ms, stalled_percent: 0 }
    };
    let settle = Duration::from_secs_f64(args.settle_s);
    let bar = progress(args.connections as u64, "connecting");
    readers.connect(connect(tokens), &bar).await?;
    tokio::time::sleep(settle / 4).await;
    let rss_before_bytes = rss_bytes(pid);
    let began = Instant::now();
    readers.connect(connect(rest), &bar).await?;
    let connecting_s = began.elapsed().as_secs_f64();
    bar.finish_and_clear();
    tokio::time::sleep(settle).await;
    let rss_after_bytes = rss_bytes(pid);
    let mut watch = Watch::new(roles, None);
    let began = Instant::now();
    while began.elapsed().as_secs_f64() < args.seconds {
        watch.look();
        tokio::time::sleep(LOOK).await;
    }
    let (usage, look) = (watch.end(), readers.look().await?);
    Ok(Figures::new((rss_before_bytes, rss_after_bytes), args.connections - first, connecting_s, usage, look.standing))
}
