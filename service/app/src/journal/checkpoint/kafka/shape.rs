//! The records of `verdict.profiles` that make a checkpoint.
//!
//! | key | value |
//! |---|---|
//! | `u/` and the user id | version 1, n 8, checksum 4, the profile |
//! | `lists/P` | version 1, checksum 4, the entries as `lists` has them |
//! | `trimmed/P` | version 1, checksum 4 over the key as well, where the journal begins, as `trimmed` has it |
//! | `mark/P` | version 1, checksum 4, the mark as `marker` has it, its position, its sources |
//!
//! Numbers are little endian. The checksums are those of `profiles.db`, of the mark over all of the value; they cover the
//! partition and the user id, so that what stands in the wrong place is damage.

use super::super::{ListSnapshot, Mark, ProfileSnapshot, lists, marker, profile_checksum};
use super::Sources;
use crate::journal::{Partition, Position};
use crate::kafka::Message;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What the keys of profiles begin with; no other key does.
pub(super) const USER: &[u8] = b"u/";
/// The first byte of every value.
const VERSION: u8 = 1;
/// Bytes before a profile.
const PROFILE_HEAD: usize = 13;

/// A mark with what goes with it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Marked {
    pub(super) mark: Mark,
    pub(super) position: Option<Position>,
    pub(super) sources: Sources,
}

/// The stored form of a mark; its fields and their order are the format of version 1.
#[derive(Serialize, Deserialize)]
struct MarkedV1<'a> {
    /// As in `profiles.db`.
    mark: &'a [u8],
    /// Offset, epoch and n.
    position: Option<(u64, u64, u64)>,
    /// Topic, partition and next offset.
    sources: Vec<(&'a str, i32, i64)>,
}

pub(super) fn mark_key(partition: Partition) -> String {
    format!("mark/{partition}")
}

pub(super) fn lists_key(partition: Partition) -> String {
    format!("lists/{partition}")
}

fn message(topic: &Arc<str>, partition: Partition, key: Vec<u8>, value: Vec<u8>) -> Message {
    Message {
        topic: Arc::clone(topic),
        partition: Some(partition),
        key: Some(key.into()),
        value: Some(value.into()),
        headers: Vec::new(),
    }
}

pub(super) fn profile(topic: &Arc<str>, profile: &ProfileSnapshot) -> Message {
    let mut value = Vec::with_capacity(PROFILE_HEAD + profile.bytes.len());
    value.push(VERSION);
    value.extend_from_slice(&profile.n.to_le_bytes());
    value.extend_from_slice(&(profile_checksum(profile) as u32).to_le_bytes());
    value.extend_from_slice(&profile.bytes);
    message(topic, profile.partition, [USER, profile.user_id.as_bytes()].concat(), value)
}

/// What a record of a profile says, or what is wrong with whose.
pub(super) fn read_profile(partition: Partition, key: &[u8], value: &[u8]) -> Result<ProfileSnapshot, String> {
    let user_id = key.strip_prefix(USER).unwrap_or(key);
    let named = |what: String| format!("the profile of user {:?}: {what}", String::from_utf8_lossy(user_id));
    let user_id: Box<str> = std::str::from_utf8(user_id).map_err(|error| named(error.to_string()))?.into();
    let (head, bytes) = match value.split_first_chunk::<PROFILE_HEAD>() {
        Some((head, bytes)) if head[0] == VERSION => (head, bytes.to_vec()),
        _ => return Err(named(unlike(value))),
    };
    let mut n = [0; 8];
    n.copy_from_slice(&head[1..9]);
    let profile = ProfileSnapshot { user_id, partition, n: u64::from_le_bytes(n), bytes };
    let expected = u32::from_le_bytes([head[9], head[10], head[11], head[12]]);
    let found = profile_checksum(&profile) as u32;
    if found == expected { Ok(profile) } else { Err(named(differs(expected, found))) }
}

pub(super) fn lists(topic: &Arc<str>, snapshot: &ListSnapshot) -> Result<Message, Arc<str>> {
    let body = lists::encode(&snapshot.entries).map_err(|error| Arc::from(error.to_string()))?;
    let value = checked(lists::checksum(snapshot.partition, &body) as u32, &body);
    Ok(message(topic, snapshot.partition, lists_key(snapshot.partition).into_bytes(), value))
}

pub(super) fn read_lists(partition: Partition, value: &[u8]) -> Result<ListSnapshot, String> {
    let named = |what: String| format!("the list entries of partition {partition}: {what}");
    let body = verified(value, |body| lists::checksum(partition, body) as u32).map_err(named)?;
    Ok(ListSnapshot { partition, entries: lists::decode(body).map_err(named)? })
}

pub(super) fn mark(
    topic: &Arc<str>,
    mark: &Mark,
    position: Option<Position>,
    sources: &Sources,
) -> Result<Message, Arc<str>> {
    let failed = |error: postcard::Error| Arc::from(error.to_string());
    let stored = marker::encode(mark).map_err(failed)?;
    let body = MarkedV1 {
        mark: &stored,
        position: position.map(|Position { offset, epoch, n }| (offset, epoch, n)),
        sources: sources.iter().map(|((topic, partition), next)| (&**topic, *partition, *next)).collect(),
    };
    let body = postcard::to_stdvec(&body).map_err(failed)?;
    let value = checked(mark_checksum(mark.partition, &body), &body);
    Ok(message(topic, mark.partition, mark_key(mark.partition).into_bytes(), value))
}

pub(super) fn read_mark(partition: Partition, value: &[u8]) -> Result<Marked, String> {
    let named = |what: String| format!("the mark of partition {partition}: {what}");
    let body = verified(value, |body| mark_checksum(partition, body)).map_err(named)?;
    let stored: MarkedV1<'_> = postcard::from_bytes(body).map_err(|error| named(error.to_string()))?;
    let sources = stored.sources.into_iter().map(|(topic, partition, next)| ((topic.into(), partition), next));
    Ok(Marked {
        mark: marker::decode(partition, marker::mark_checksum(partition, stored.mark), stored.mark).map_err(named)?,
        position: stored.position.map(|(offset, epoch, n)| Position { offset, epoch, n }),
        sources: sources.collect(),
    })
}

/// A record whose checksum covers its key as well.
pub(super) fn checked_message(topic: &Arc<str>, partition: Partition, key: &str, body: &[u8]) -> Message {
    message(topic, partition, key.as_bytes().to_vec(), checked(keyed_checksum(key, body), body))
}

/// What is in such a record.
pub(super) fn checked_body<'v>(key: &str, value: &'v [u8]) -> Result<&'v [u8], String> {
    verified(value, |body| keyed_checksum(key, body))
}

fn keyed_checksum(key: &str, body: &[u8]) -> u32 {
    let mut hash = crc32fast::Hasher::new();
    hash.update(key.as_bytes());
    hash.update(body);
    hash.finalize()
}

fn mark_checksum(partition: Partition, body: &[u8]) -> u32 {
    marker::mark_checksum(partition, body) as u32
}

fn checked(checksum: u32, body: &[u8]) -> Vec<u8> {
    [&[VERSION], &checksum.to_le_bytes()[..], body].concat()
}

fn verified(value: &[u8], checksum: impl Fn(&[u8]) -> u32) -> Result<&[u8], String> {
    let Some((&[VERSION, a, b, c, d], body)) = value.split_first_chunk::<5>() else { return Err(unlike(value)) };
    let (expected, found) = (u32::from_le_bytes([a, b, c, d]), checksum(body));
    if found == expected { Ok(body) } else { Err(differs(expected, found)) }
}

fn differs(expected: u32, found: u32) -> String {
    format!("expected checksum {expected:08x}, found {found:08x}")
}

fn unlike(value: &[u8]) -> String {
    format!("expected version {VERSION}, found {:?} and {} bytes in all", value.first(), value.len())
}

#[cfg(test)]
mod tests {
    use super::super::super::Totals;
    use super::*;

    fn topic() -> Arc<str> {
        "t1.verdict.profiles".into()
    }

    fn parts(message: &Message) -> (&[u8], &[u8]) {
        (message.key.as_deref().expect("a key"), message.value.as_deref().expect("a value"))
    }

    fn sample() -> ProfileSnapshot {
        ProfileSnapshot { user_id: "mark/3".into(), partition: 3, n: 1 << 40, bytes: vec![7; 20] }
    }

    #[test]
    fn records_come_back_and_keys_do_not_collide() {
        let written = profile(&topic(), &sample());
        let (key, value) = parts(&written);
        assert_eq!((key, written.partition), (&b"u/mark/3"[..], Some(3)));
        assert_eq!(read_profile(3, key, value), Ok(sample()));

        let totals = Totals { decisions: 5, list_changes: 2, ..Totals::default() };
        let expected = Marked {
            mark: Mark { partition: 3, next_n: 7, totals },
            position: Some(Position { offset: 1 << 33, epoch: 12, n: 6 }),
            sources: Sources::from([(("logins".into(), 15), 8), (("transactions".into(), 3), 9)]),
        };
        let written = mark(&topic(), &expected.mark, expected.position, &expected.sources).expect("writes");
        let (key, value) = parts(&written);
        assert_eq!(key, b"mark/3");
        assert_eq!(read_mark(3, value), Ok(expected));

        let written = lists(&topic(), &ListSnapshot { partition: 3, entries: Vec::new() }).expect("writes");
        let (key, value) = parts(&written);
        assert_eq!(key, b"lists/3");
        assert_eq!(read_lists(3, value), Ok(ListSnapshot { partition: 3, entries: Vec::new() }));
    }

    #[test]
    fn damage_is_told_with_its_place() {
        let written = profile(&topic(), &sample());
        let (key, value) = parts(&written);
        let mut flipped = value.to_vec();
        flipped[17] ^= 1;
        let refused = [
            (3, key, &flipped[..], "the profile of user \"mark/3\": expected checksum"),
            (3, &b"u/u-9"[..], value, "the profile of user \"u-9\": expected checksum"),
            (2, key, value, "the profile of user \"mark/3\": expected checksum"),
            (3, key, &value[..12], "the profile of user \"mark/3\": expected version 1, found Some(1) and 12 bytes"),
            (3, key, b"", "the profile of user \"mark/3\": expected version 1, found None"),
            (3, b"u/\xff", value, "the profile of user \"\u{fffd}\": invalid utf-8"),
        ];
        for (partition, key, value, expected) in refused {
            let error = read_profile(partition, key, value).expect_err("must be refused");
            assert!(error.starts_with(expected), "{error}");
        }
        let none = Sources::new();
        let written = mark(&topic(), &Mark { partition: 3, next_n: 7, totals: Totals::default() }, None, &none);
        let written = written.expect("writes");
        let (_, value) = parts(&written);
        assert!(read_mark(2, value).expect_err("another's").starts_with("the mark of partition 2: expected checksum"));
        assert!(read_lists(3, value).expect_err("no lists").starts_with("the list entries of partition 3: "));
        assert!(read_mark(3, b"\x02").expect_err("newer").contains("expected version 1, found Some(2)"));
    }
}
