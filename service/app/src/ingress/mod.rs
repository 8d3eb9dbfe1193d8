//! Where events enter. Each way in parses with `wire` and hands valid events to `actors::gateway`.

pub mod file;
pub mod http;
pub mod kafka;
