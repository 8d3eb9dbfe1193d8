//! Real servers for tests: Kafka, PostgreSQL and Redis, each in a folder and on a port of its own, none left behind.
//!
//! They are processes of this machine; `make setup-servers` installs what they need. A test starts one, or shares one
//! with the other tests of its binary and takes names of its own in it:
//!
//! ```no_run
//! use verdict_tests::servers::{Kafka, KafkaOptions, Postgres, Redis};
//! let topics = Kafka::shared().fresh_topics("restart", 12);
//! let journal = topics.name("verdict.journal"); // on Kafka::shared().bootstrap_servers()
//! let database = Postgres::shared().fresh_database(); // a URL
//! let redis = Redis::start();
//! let alone = Kafka::start(KafkaOptions::default()); // with Verdict's topics; may be killed
//! alone.kill();
//! alone.restart(); // on the same port, with its data
//! ```
//!
//! A server ends when its value is dropped, and also when the test's process ends in any way.

mod attendant;
mod kafka;
mod postgres;
mod redis;

pub use kafka::{Kafka, KafkaOptions, Topics};
pub use postgres::Postgres;
pub use redis::Redis;
