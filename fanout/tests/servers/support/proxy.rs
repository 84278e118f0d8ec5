//! A TCP proxy that can be cut and closed, in front of a server that others use too.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

pub struct Proxy {
    port: u16,
    cut: Arc<Notify>,
    is_closed: Arc<AtomicBool>,
    cuts: Arc<AtomicUsize>,
}

impl Proxy {
    /// In front of the server in a URL.
    pub async fn start(url: &str) -> Self {
        let target = url.trim_start_matches("redis://").trim_end_matches('/').to_owned();
        let target = target.rsplit('@').next().unwrap_or_default().split('/').next().unwrap_or_default().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("port");
        let port = listener.local_addr().expect("address").port();
        let (cut, is_closed) = (Arc::new(Notify::new()), Arc::new(AtomicBool::new(false)));
        let cuts = Arc::<AtomicUsize>::default();
        let (cutting, closing, counted) = (Arc::clone(&cut), Arc::clone(&is_closed), Arc::clone(&cuts));
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                if closing.load(Ordering::SeqCst) {
                    continue;
                }
                let (target, cutting, counted) = (target.clone(), Arc::clone(&cutting), Arc::clone(&counted));
                tokio::spawn(async move {
                    let Ok(mut server) = TcpStream::connect(&target).await else { return };
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
                        () = cutting.notified() => {
                            counted.fetch_add(1, Ordering::SeqCst);
                        }
                    }
                });
            }
        });
        Self { port, cut, is_closed, cuts }
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Connections that were cut so far.
    pub fn cuts(&self) -> usize {
        self.cuts.load(Ordering::SeqCst)
    }

    /// Cuts every connection; new ones may come.
    pub fn cut(&self) {
        self.cut.notify_waiters();
    }

    /// Cuts every connection and takes none until [`Proxy::open`].
    pub fn close(&self) {
        self.is_closed.store(true, Ordering::SeqCst);
        self.cut();
    }

    pub fn open(&self) {
        self.is_closed.store(false, Ordering::SeqCst);
    }
}
