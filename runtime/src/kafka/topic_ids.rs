//! A call of the C library that `rdkafka` doesn't have: topic ids.
#![allow(unsafe_code, reason = "a call of librdkafka that rdkafka doesn't wrap")]

use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::os::raw::c_char;

use rdkafka::bindings as c;
use rdkafka::client::{Client, ClientContext};

/// How long the cluster may take to answer.
const PATIENCE_MS: i32 = 10_000;

/// Ids of the topics that exist, by name, which change when a topic is made anew under its old name; as
/// Kafka's own tools write them; blocks. `None` if the
/// cluster doesn't answer.
pub fn topic_ids<C: ClientContext>(client: &Client<C>, topics: &[&str]) -> Option<BTreeMap<String, String>> {
    let names: Vec<CString> = topics.iter().filter_map(|&name| CString::new(name).ok()).collect();
    let mut pointers: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
    let mut ids = None;
    // SAFETY: `client` lives throughout; the collection, options, queue and event are made here, checked where they can
    // be null, and destroyed here; everything read from the event is copied before the event is destroyed.
    unsafe {
        let rk = client.native_ptr();
        let queue = c::rd_kafka_queue_new(rk);
        let collection = c::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len());
        let options = c::rd_kafka_AdminOptions_new(rk, c::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS);
        c::rd_kafka_AdminOptions_set_request_timeout(options, PATIENCE_MS, std::ptr::null_mut(), 0);
        c::rd_kafka_DescribeTopics(rk, collection, options, queue);
        let event = c::rd_kafka_queue_poll(queue, PATIENCE_MS);
        if !event.is_null() {
            ids = read(event);
            c::rd_kafka_event_destroy(event);
        }
        c::rd_kafka_AdminOptions_destroy(options);
        c::rd_kafka_TopicCollection_destroy(collection);
        c::rd_kafka_queue_destroy(queue);
    }
    ids
}

/// # Safety
/// `event` must be a live event.
unsafe fn read(event: *mut c::rd_kafka_event_t) -> Option<BTreeMap<String, String>> {
    // SAFETY: null is checked for; the array has `count` elements that live as long as the event.
    unsafe {
        let result = c::rd_kafka_event_DescribeTopics_result(event);
        let answered = c::rd_kafka_event_error(event) == c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR;
        if result.is_null() || !answered {
            return None;
        }
        let mut ids = BTreeMap::new();
        let mut count = 0;
        let descriptions = c::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
        if descriptions.is_null() {
            return Some(ids);
        }
        for &description in std::slice::from_raw_parts(descriptions, count) {
            let error = c::rd_kafka_TopicDescription_error(description);
            let has_failed = c::rd_kafka_error_code(error) != c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR;
            let id = c::rd_kafka_TopicDescription_topic_id(description);
            if has_failed || id.is_null() {
                continue;
            }
            let text = c::rd_kafka_Uuid_base64str(id);
            let name = c::rd_kafka_TopicDescription_name(description);
            if !text.is_null() && !name.is_null() {
                let owned = |pointer| CStr::from_ptr(pointer).to_string_lossy().into_owned();
                ids.insert(owned(name), owned(text));
            }
        }
        Some(ids)
    }
}
