//! `Position`, how far the CDC worker has published its slot. Field docs are in `avro/Position.avsc`.
#![allow(missing_docs, reason = "the schema documents every field")]

use serde::{Deserialize, Serialize};

use crate::{record::Record, topics::Topic};

/// How far a slot has been published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    pub slot: String,
    pub system_identifier: String,
    pub timeline: i32,
    pub commit_lsn: i64,
    pub ordinal: i64,
    pub confirmable_lsn: i64,
    pub cluster_id: String,
    #[serde(default)]
    pub partitions: Vec<PartitionEnd>,
    #[serde(default)]
    pub topics: Vec<TopicShape>,
    #[serde(default)]
    pub resnapshot_until_lsn: Option<i64>,
    #[serde(default)]
    pub handed_over_at: Option<i64>,
    #[serde(default)]
    pub left_out_at: Option<i64>,
    pub written_at: i64,
}

/// Last offset in one partition that an earlier transaction is known to have written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionEnd {
    pub topic_name: String,
    pub topic_uuid: String,
    pub partition_number: i32,
    pub last_offset: i64,
}

/// What decides in which partition of a topic a key is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicShape {
    pub topic_name: String,
    pub topic_uuid: String,
    pub partition_count: i32,
}

impl Record for Position {
    const NAME: &'static str = "Position";
    const SCHEMA: &'static str = include_str!("../avro/Position.avsc");
    const TOPIC: Topic = Topic::CdcPositions;
}
