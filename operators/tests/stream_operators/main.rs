//! The stream operators on a real Kafka and a real registry.

mod ends;
mod faults;
mod refusals;
mod replay;
mod support;
