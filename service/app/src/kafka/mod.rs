//! What everything that speaks to Kafka shares: the settings that the protocol fixes, how a client logs and fails, and
//! what is known of a topic (PROTOCOL).
//!
//! It knows no record, source or projection, and none of the rooms that do: they build their clients from
//! [`KafkaSettings`], so that no two of them disagree on what a produce or a fetch means. Property values are secrets:
//! nothing here shows one.

mod compacted;
mod context;
mod hearing;
mod inspect;
mod scan;
mod scribe;
mod scribes;
mod sender;
mod settings;
#[cfg(test)]
pub(crate) mod testing;
mod topics;

pub use compacted::{Compacted, Small};
pub use context::ClientLog;
pub use inspect::{Inspector, TopicFacts, Watermarks, fetched_watermarks, watermarks};
pub use scan::Scan;
pub use scribe::{Committed, Message, Scribe, ScribeError};
pub use scribes::Scribes;
pub use sender::{SendError, Sender};
pub use settings::{KafkaSettings, MAX_MESSAGE_BYTES};
pub use topics::{Topic, TopicFindings, judge};

use thiserror::Error;

/// Why a client cannot be made or asked. No message shows the value of a property.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum KafkaError {
    /// The configuration is not one that librdkafka takes.
    #[error("kafka.properties: {0}")]
    Property(Box<str>),
    /// A client could not be made.
    #[error("expected a Kafka client, found: {0}")]
    Client(Box<str>),
    /// The brokers did not answer, or refused.
    #[error("the brokers did not say {what}: {why}")]
    Brokers {
        /// What was asked.
        what: Box<str>,
        /// What became of it.
        why: Box<str>,
    },
    /// There is no such topic.
    #[error("expected topic `{0}`, found none; create it, or set kafka.topic_prefix")]
    NoTopic(Box<str>),
}
