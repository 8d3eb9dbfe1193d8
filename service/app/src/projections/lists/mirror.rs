//! The mirror in Redis: what the projection asks of a server. One connection, made anew after any failure.
//!
//! Every write changes a position too, from a text that never comes back, in one script. So whatever became of a write that
//! failed, trying again is safe, also if the server, held for a while, still carries out the first attempt afterwards.

use super::names::{EVERY_NAME, Left, entry_name, position_name};
use crate::config::Secret;
use crate::journal::Partition;
use crate::wire::list::mirrored_to_json;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, FromRedisValue, RedisError};
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use verdict_core::lists::{ListEntry, ListKey};

/// A connection that takes longer than this, its handshake included, is none.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);
/// The longest script takes milliseconds.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// Names looked at in one step of a walk over all of them: the server does nothing else meanwhile.
const NAMES_PER_STEP: u32 = 512;

const SCRIPT: &str = include_str!("script.lua");

/// Why the mirror was not read or written.
#[derive(Clone, Debug, Error)]
pub enum MirrorError {
    /// The server failed, or cannot be reached.
    #[error("Redis at {server}: {what}")]
    Server {
        /// Host and port.
        server: Arc<str>,
        /// What it or the system says.
        what: Arc<str>,
    },
    /// It is a node of a cluster.
    #[error("Redis at {server} is a cluster, which is not supported: redis.url must name a single server ({what})")]
    Cluster {
        /// Host and port.
        server: Arc<str>,
        /// What it says.
        what: Arc<str>,
    },
    /// Somebody else moved a position, or all is gone.
    #[error("Redis at {server}: expected position {expected:?} of partition {partition}, found {found:?}")]
    Moved {
        /// Host and port.
        server: Arc<str>,
        /// The partition.
        partition: Partition,
        /// What was left there.
        expected: Box<str>,
        /// What is there.
        found: Box<str>,
    },
}

/// A change of an entry; `None` removes it.
pub(super) type Change<'a> = (&'a ListKey, Option<&'a ListEntry>);

/// Where a position is moved.
#[derive(Clone, Copy, Debug)]
pub(super) struct Move<'a> {
    pub(super) partition: Partition,
    /// What must be there; "" stands for nothing.
    pub(super) from: &'a str,
    pub(super) to: &'a str,
}

/// See the module.
#[derive(Debug)]
pub struct ListMirror {
    client: Client,
    server: Arc<str>,
    connection: Option<MultiplexedConnection>,
}

impl ListMirror {
    /// A mirror at this URL; nothing is connected yet.
    ///
    /// # Errors
    /// The URL cannot be read.
    pub fn new(url: &Secret) -> Result<Self, MirrorError> {
        // The library's words could show a part of the URL.
        let failed = |_| MirrorError::Server { server: "redis.url".into(), what: "expected a URL of Redis".into() };
        let client = Client::open(url.expose()).map_err(failed)?;
        let server = client.get_connection_info().addr().to_string().into();
        Ok(Self { client, server, connection: None })
    }

    /// Takes every position away, so that whoever keeps the mirror writes all of it again.
    ///
    /// # Errors
    /// The server cannot be reached, or fails.
    pub async fn forget(&mut self, partitions: Partition) -> Result<(), MirrorError> {
        let mut command = redis::cmd("DEL");
        (0..partitions).for_each(|partition| _ = command.arg(position_name(partition)));
        self.ask(&command).await
    }

    /// What stands as the position of each partition.
    pub(super) async fn positions(&mut self, partitions: Partition) -> Result<Vec<Option<String>>, MirrorError> {
        let mut command = redis::cmd("MGET");
        (0..partitions).for_each(|partition| _ = command.arg(position_name(partition)));
        let found: Vec<Option<Vec<u8>>> = self.ask(&command).await?;
        Ok(found.into_iter().map(|text| text.map(|text| String::from_utf8_lossy(&text).into_owned())).collect())
    }

    /// Whether every partition has a position, none being written again.
    ///
    /// # Errors
    /// The server cannot be reached, or fails.
    pub async fn is_whole(&mut self, partitions: Partition) -> Result<bool, MirrorError> {
        let found = self.positions(partitions).await?;
        Ok(found.iter().all(|found| found.as_deref().and_then(Left::parse).is_some()))
    }

    /// Makes changes of a partition and moves its position, all or nothing.
    pub(super) async fn write<'a>(
        &mut self,
        step: Move<'_>,
        changes: impl Iterator<Item = Change<'a>> + Clone,
    ) -> Result<(), MirrorError> {
        let (moved, found): (u8, Vec<u8>) = self.ask(&script(step, changes)).await?;
        if moved == 1 {
            return Ok(());
        }
        Err(self.moved(step.partition, step.from, String::from_utf8_lossy(&found)))
    }

    pub(super) fn moved(&self, partition: Partition, expected: &str, found: impl Into<Box<str>>) -> MirrorError {
        MirrorError::Moved {
            server: Arc::clone(&self.server),
            partition,
            expected: expected.into(),
            found: found.into(),
        }
    }

    /// Some of the mirror's names behind a cursor, and the next cursor; it is 0 at the start and at the end.
    pub(super) async fn names(&mut self, cursor: u64) -> Result<(u64, Vec<Vec<u8>>), MirrorError> {
        let mut command = redis::cmd("SCAN");
        command.arg(cursor).arg("MATCH").arg(EVERY_NAME).arg("COUNT").arg(NAMES_PER_STEP);
        self.ask(&command).await
    }

    /// Removes what no partition vouches for.
    pub(super) async fn remove(&mut self, name: &[u8]) -> Result<(), MirrorError> {
        self.ask(redis::cmd("DEL").arg(name)).await
    }

    async fn ask<T: FromRedisValue>(&mut self, command: &Cmd) -> Result<T, MirrorError> {
        let asked = match self.connected().await {
            Ok(connection) => command.query_async(connection).await,
            Err(error) => Err(error),
        };
        asked.map_err(|error| {
            self.connection = None;
            self.failed(&error)
        })
    }

    async fn connected(&mut self) -> Result<&mut MultiplexedConnection, RedisError> {
        if self.connection.is_none() {
            let config = AsyncConnectionConfig::new()
                .set_connection_timeout(Some(CONNECT_WITHIN))
                .set_response_timeout(Some(ANSWER_WITHIN));
            self.connection = Some(self.client.get_multiplexed_async_connection_with_config(&config).await?);
        }
        // invariant: it was just made if it was missing
        self.connection.as_mut().ok_or_else(|| std::io::Error::from(std::io::ErrorKind::NotConnected).into())
    }

    fn failed(&self, error: &RedisError) -> MirrorError {
        let (server, what) = (Arc::clone(&self.server), error.to_string().into());
        if error.is_cluster_error() {
            MirrorError::Cluster { server, what }
        } else {
            MirrorError::Server { server, what }
        }
    }
}

fn script<'a>(step: Move<'_>, changes: impl Iterator<Item = Change<'a>> + Clone) -> Cmd {
    let mut command = redis::cmd("EVAL");
    command.arg(SCRIPT).arg(1 + changes.clone().count()).arg(position_name(step.partition));
    changes.clone().for_each(|(key, _)| _ = command.arg(entry_name(key)));
    command.arg(step.from).arg(step.to);
    let mut value = Vec::new();
    for (_, entry) in changes {
        value.clear();
        if let Some(entry) = entry {
            mirrored_to_json(entry, &mut value);
        }
        command.arg(value.as_slice());
        match entry.and_then(|entry| entry.expires_at) {
            Some(end) => command.arg(end.as_millis()),
            None => command.arg(""),
        };
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;
    use redis::{ErrorKind, ServerErrorKind};
    use tokio::io::AsyncReadExt;
    use verdict_core::lists::{List, ListKind};
    use verdict_core::time::Timestamp;

    #[test]
    fn a_script_names_every_key_and_says_what_becomes_of_it() {
        let key = |value: &str| ListKey { list: List::Block, kind: ListKind::User, value: value.into() };
        let (one, other) = (key("u-1"), key("u-2"));
        let entry = ListEntry {
            list: List::Block,
            reason: "why".into(),
            alert_id: None,
            expires_at: Some(Timestamp::from_millis(1_795_435_200_000)),
        };
        let changes = [(&one, Some(&entry)), (&other, None)];
        let command = script(Move { partition: 4, from: "", to: "8:0" }, changes.into_iter());
        let found: Vec<String> = command
            .args_iter()
            .map(|arg| match arg {
                redis::Arg::Simple(bytes) => String::from_utf8_lossy(bytes).into_owned(),
                _ => panic!("no cursor"),
            })
            .collect();
        let value = r#"{"reason":"why","source":"api","alert_id":null,"expires_at":"2026-11-23T12:00:00.000Z"}"#;
        let keys = ["3", "verdict:position:4", "verdict:block:user:u-1", "verdict:block:user:u-2"];
        let expected = [&["EVAL", SCRIPT][..], &keys, &["", "8:0", value, "1795435200000", "", ""]].concat();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_cluster_is_called_one_and_no_password_is_shown() {
        let mirror = ListMirror::new(&Secret::new("redis://u:hunter2@localhost:1/")).unwrap();
        let moved =
            RedisError::from((ErrorKind::Server(ServerErrorKind::Moved), "MOVED", "1 10.0.0.1:6379".to_owned()));
        let (cluster, lost) = (mirror.failed(&moved), mirror.failed(&std::io::Error::other("gone").into()));
        assert!(cluster.to_string().contains("at localhost:1 is a cluster, which is not supported"), "{cluster}");
        assert_eq!(lost.to_string(), "Redis at localhost:1: gone");
        assert!(!format!("{mirror:?}").contains("hunter2"), "{mirror:?}");
    }

    #[tokio::test]
    async fn tls_is_spoken_where_it_is_asked_for() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("rediss://localhost:{}", listener.local_addr().unwrap().port());
        let mut mirror = ListMirror::new(&Secret::new(url)).unwrap();
        let served = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut record = [0; 3];
            stream.read_exact(&mut record).await.unwrap();
            record
        };
        let (asked, record) = futures_util::future::join(mirror.positions(1), served).await;
        // A handshake, of any version that begins with 3.
        assert_eq!(record[..2], [0x16, 0x03]);
        assert!(matches!(asked, Err(MirrorError::Server { .. })), "{asked:?}");
    }
}
