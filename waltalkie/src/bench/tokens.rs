//! Tokens of a bench's people, as development signs them.

use anyhow::{Context, Result};
use runtime::Config;

use super::audience::Audience;

/// How long they live: longer than any bench.
const TTL_S: i64 = 7 * 86_400;

/// One for each person, by number.
pub(crate) fn of(config: &Config, audience: &Audience) -> Result<Vec<String>> {
    let token = |person| {
        let token = ingest::auth::development_token(config, &audience.user_id(person), None, TTL_S);
        Ok(token.context("the bench signs tokens for its own people")?.0)
    };
    (0..audience.people).map(token).collect()
}
