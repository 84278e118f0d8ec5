//! A client of the WebSocket for benches and tests.
