//! The S3 server of the local stack, in this process, on a folder of the data directory.

use std::path::Path;

use anyhow::{Context, Result};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use runtime::Shutdown;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use s3s_fs::FileSystem;
use tokio::net::TcpListener;

/// Access key of the local server; its secret is made with the data directory.
pub(crate) const ACCESS_KEY: &str = "waltalkie";

/// Starts the server on loopback; returns its address. Port 0 is any.
pub(crate) async fn start(folder: &Path, port: u16, secret: &str, shutdown: &Shutdown) -> Result<String> {
    std::fs::create_dir_all(folder).with_context(|| format!("{} can't be made", folder.display()))?;
    let files = FileSystem::new(folder)
        .map_err(|error| anyhow::anyhow!("{} can't be served as S3: {error:?}", folder.display()))?;
    let mut service = S3ServiceBuilder::new(files);
    service.set_auth(SimpleAuth::from_single(ACCESS_KEY, secret));
    let service = service.build();
    let listener =
        TcpListener::bind(("127.0.0.1", port)).await.with_context(|| format!("stack.s3_port = {port} is in use"))?;
    let url = format!("http://{}", listener.local_addr()?);
    let life = shutdown.clone();
    shutdown.spawn(async move {
        let server = Builder::new(TokioExecutor::new());
        loop {
            let accepted = tokio::select! {
                biased;
                () = life.begun() => return,
                accepted = listener.accept() => accepted,
            };
            let Ok((socket, _)) = accepted else { continue };
            let serving = server.serve_connection(TokioIo::new(socket), service.clone()).into_owned();
            let life_of_connection = life.clone();
            life.spawn(async move {
                tokio::select! {
                    biased;
                    () = life_of_connection.begun() => {}
                    served = serving => {
                        if let Err(error) = served {
                            tracing::debug!(error = %error, "an S3 connection ended");
                        }
                    }
                }
            });
        }
    });
    Ok(url)
}
