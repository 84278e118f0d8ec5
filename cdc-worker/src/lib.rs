//! cdc-worker
