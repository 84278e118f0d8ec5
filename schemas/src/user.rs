//! `User`, a person's public profile. Field docs are in `avro/User.avsc`.
#![allow(missing_docs, reason = "the schema documents every field")]

use serde::{Deserialize, Serialize};

use crate::{record::Record, topics::Topic};

/// A person's public profile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    pub user_id: String,
    #[serde(default)]
    pub display_name: Option<String>,
    #[serde(default)]
    pub avatar_url: Option<String>,
    #[serde(default)]
    pub email: Option<String>,
    pub updated_at: i64,
}

impl Record for User {
    const NAME: &'static str = "User";
    const SCHEMA: &'static str = include_str!("../avro/User.avsc");
    const TOPIC: Topic = Topic::ChatUsers;
}
