//! Flushing a producer without `rdkafka`'s pauses.
#![allow(unsafe_code, reason = "a call of librdkafka that rdkafka wraps too slowly")]

use std::time::Duration;

use rdkafka::bindings as c;
use rdkafka::client::{Client, ClientContext};

/// Sends what waits for fuller batches and waits until every record's fate is known; blocks. Says whether it is.
///
/// Delivery reports must be served by another thread meanwhile. `Producer::flush` of `rdkafka` looks every 100 ms only,
/// and [`rdkafka::producer::Producer::commit_transaction`] begins with it: flushed by this first, it finds nothing to
/// wait for.
pub fn flush<C: ClientContext>(client: &Client<C>, patience: Duration) -> bool {
    // SAFETY: `client` lives throughout, and is a producer's: any other makes the call fail.
    let answer = unsafe { c::rd_kafka_flush(client.native_ptr(), patience.as_millis() as i32) };
    answer == c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR
}
