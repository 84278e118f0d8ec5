//! How many sockets this process, and those that it starts, may have open.

use anyhow::{Context, Result};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files beside the sockets.
const OTHERS: u64 = 500;

/// Lets this process, and those that it starts from here on, hold so many sockets.
pub(crate) fn allow(sockets: usize) -> Result<()> {
    let wanted = sockets as u64 + OTHERS;
    let now = getrlimit(Resource::Nofile);
    if now.current.is_none_or(|current| current >= wanted) {
        return Ok(());
    }
    let maximum = now.maximum.map(|maximum| maximum.max(wanted));
    setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum }).with_context(|| {
        format!(
            "{wanted} open files are needed and {} allowed: raise the hard limit, as by `ulimit -Hn {wanted}` as root",
            now.maximum.unwrap_or(0)
        )
    })
}
