//! A TCP proxy whose connections can be reset, held back and refused.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::kafka::Readdress;

/// How much is read at once.
const PIECE: usize = 64 << 10;
/// After so many bytes, where nothing is to happen or it has happened.
const NEVER: u64 = u64::MAX;

/// A listener on a free port of this machine that carries each connection to one address. Dropped, it ends all of them.
pub struct Proxy {
    address: SocketAddr,
    control: watch::Sender<Control>,
    counts: Arc<Counts>,
    listener: JoinHandle<()>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    Open,
    Frozen,
    Refused,
}

#[derive(Debug, Clone, Copy)]
struct Control {
    flow: Flow,
    /// How often everything was reset.
    cuts: u64,
}

#[derive(Debug, Default)]
struct Counts {
    open: AtomicUsize,
    reset: AtomicUsize,
    held: AtomicU64,
    /// Bytes of clients.
    there: AtomicU64,
    /// After how many of these the connection that brings more is reset.
    cut_after: AtomicU64,
    /// After how many of these an answer is lost.
    lose_answer_after: AtomicU64,
}

#[derive(Debug, Clone, Copy)]
enum Way {
    There,
    Back,
}

impl Counts {
    fn new() -> Self {
        let [cut_after, lose_answer_after] = [NEVER, NEVER].map(AtomicU64::new);
        Self { cut_after, lose_answer_after, ..Self::default() }
    }

    /// Counts a piece, and says whether its connection is reset in its place.
    fn is_cut_at(&self, way: Way, length: usize) -> bool {
        let (limit, came) = match way {
            Way::There => (&self.cut_after, length as u64),
            Way::Back => (&self.lose_answer_after, 0),
        };
        let all = self.there.fetch_add(came, Ordering::SeqCst) + came;
        let set = limit.load(Ordering::SeqCst);
        // Of two pieces at the same moment one is.
        all > set && limit.compare_exchange(set, NEVER, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }
}

/// What is done to the bytes that come back.
#[derive(Clone)]
struct Target {
    address: Arc<str>,
    /// Whether it is a broker that tells its own address.
    tells_address: bool,
}

impl Proxy {
    /// A proxy before `host:port`.
    pub async fn before(target: &str) -> Result<Self> {
        Self::listen(Target { address: target.into(), tells_address: false }).await
    }

    /// A proxy before the only broker of a Kafka cluster, `host:port` as it is advertised. Clients that come through the
    /// proxy stay on it, those that come past it don't.
    pub async fn before_kafka(broker: &str) -> Result<Self> {
        Self::listen(Target { address: broker.into(), tells_address: true }).await
    }

    /// A proxy before the server of a URL, and the URL that leads through it.
    pub async fn before_url(url: &str) -> Result<(Self, String)> {
        let place = host_and_port(url).context("a proxy needs a URL that names host and port")?;
        let proxy = Self::before(place).await?;
        let through = url.replacen(place, &proxy.address().to_string(), 1);
        Ok((proxy, through))
    }

    async fn listen(target: Target) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("no port for a proxy")?;
        let address = listener.local_addr()?;
        if target.tells_address {
            Readdress::new(&target.address, address)?;
        }
        let (control, controls) = watch::channel(Control { flow: Flow::Open, cuts: 0 });
        let counts = Arc::new(Counts::new());
        let listener = tokio::spawn(accept(listener, address, target, controls, Arc::clone(&counts)));
        Ok(Self { address, control, counts, listener })
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Resets every connection, both ways; says how many there were. New ones pass.
    pub fn cut(&self) -> usize {
        let open = self.connections();
        self.control.send_modify(|control| control.cuts += 1);
        open
    }

    /// Carries nothing any more, and keeps every socket open, as a network does that has lost its way.
    pub fn freeze(&self) {
        self.control.send_modify(|control| control.flow = Flow::Frozen);
    }

    /// Resets every connection and every one that comes, until it is healed; says how many there were.
    pub fn refuse(&self) -> usize {
        self.control.send_modify(|control| control.flow = Flow::Refused);
        self.cut()
    }

    /// Carries everything again, what was held back first.
    pub fn heal(&self) {
        self.control.send_modify(|control| control.flow = Flow::Open);
    }

    /// Resets one connection: the one that brings more than so many bytes of clients, counted over all connections.
    pub fn cut_after(&self, bytes: u64) {
        self.counts.cut_after.store(bytes, Ordering::SeqCst);
    }

    /// Resets one connection: once more than so many bytes of clients have come, counted over all connections, the one whose
    /// answer is next. What was asked is done, and whoever asked doesn't hear of it.
    pub fn lose_answer_after(&self, bytes: u64) {
        self.counts.lose_answer_after.store(bytes, Ordering::SeqCst);
    }

    /// Bytes of clients that came to be carried, so far.
    pub fn bytes_there(&self) -> u64 {
        self.counts.there.load(Ordering::SeqCst)
    }

    /// Connections that are open now.
    pub fn connections(&self) -> usize {
        self.counts.open.load(Ordering::SeqCst)
    }

    /// Connections that were reset or refused so far.
    pub fn resets(&self) -> usize {
        self.counts.reset.load(Ordering::SeqCst)
    }

    /// Bytes that came while nothing was carried, so far.
    pub fn held_back(&self) -> u64 {
        self.counts.held.load(Ordering::SeqCst)
    }
}

fn host_and_port(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let place = rest.split(['/', '?']).next()?;
    let place = place.rsplit('@').next()?;
    place.contains(':').then_some(place)
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.refuse();
        self.listener.abort();
    }
}

async fn accept(
    listener: TcpListener,
    address: SocketAddr,
    target: Target,
    control: watch::Receiver<Control>,
    counts: Arc<Counts>,
) {
    loop {
        // A connection that ended before it was taken is nobody's.
        let Ok((client, _)) = listener.accept().await else { continue };
        if control.borrow().flow == Flow::Refused {
            counts.reset.fetch_add(1, Ordering::SeqCst);
            let _ = client.set_zero_linger();
            continue;
        }
        tokio::spawn(carry(client, address, target.clone(), control.clone(), Arc::clone(&counts)));
    }
}

/// One connection, to its end.
async fn carry(
    mut client: TcpStream,
    address: SocketAddr,
    target: Target,
    mut control: watch::Receiver<Control>,
    counts: Arc<Counts>,
) {
    counts.open.fetch_add(1, Ordering::SeqCst);
    let cuts = control.borrow_and_update().cuts;
    let mut watched = control.clone();
    let mut server = None;
    let ended_well = tokio::select! {
        biased;
        _ = watched.wait_for(|control| control.cuts > cuts) => false,
        carried = both_ways(&mut client, &mut server, address, &target, &control, &counts) => carried.is_ok(),
    };
    if !ended_well {
        counts.reset.fetch_add(1, Ordering::SeqCst);
        // Closing such a socket resets the connection.
        let _ = client.set_zero_linger();
        let _ = server.as_ref().map(TcpStream::set_zero_linger);
    }
    counts.open.fetch_sub(1, Ordering::SeqCst);
}

async fn both_ways(
    client: &mut TcpStream,
    server: &mut Option<TcpStream>,
    address: SocketAddr,
    target: &Target,
    control: &watch::Receiver<Control>,
    counts: &Counts,
) -> Result<()> {
    control.clone().wait_for(|control| control.flow == Flow::Open).await?;
    let server = server.insert(TcpStream::connect(&*target.address).await?);
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let mut readdress = if target.tells_address { Some(Readdress::new(&target.address, address)?) } else { None };
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    let there = one_way(Way::There, from_client, to_server, control.clone(), counts, None);
    let back = one_way(Way::Back, from_server, to_client, control.clone(), counts, readdress.as_mut());
    tokio::try_join!(there, back)?;
    Ok(())
}

async fn one_way(
    way: Way,
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut control: watch::Receiver<Control>,
    counts: &Counts,
    mut readdress: Option<&mut Readdress>,
) -> Result<()> {
    let mut piece = vec![0; PIECE];
    loop {
        let length = from.read(&mut piece).await?;
        if control.borrow_and_update().flow != Flow::Open {
            counts.held.fetch_add(length as u64, Ordering::SeqCst);
            control.wait_for(|control| control.flow == Flow::Open).await?;
        }
        if length == 0 {
            return Ok(to.shutdown().await?);
        }
        ensure!(!counts.is_cut_at(way, length), "cut");
        match &mut readdress {
            Some(readdress) => to.write_all(&readdress.take(&piece[..length])).await?,
            None => to.write_all(&piece[..length]).await?,
        }
    }
}

#[cfg(test)]
#[path = "proxy_tests.rs"]
mod tests;
