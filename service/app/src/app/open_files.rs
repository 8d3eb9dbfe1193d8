//! Room for connections among the files that the process may have open.
//!
//! A process that runs out of them can neither accept a connection nor open a file of its own. So the limit is raised as
//! far as the system lets it, and no more connections are taken than fit beside what the service itself needs.

use crate::actors::originals::READS_AT_ONCE;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::warn;

/// Files that the service opens for itself: journal, profiles and reviews with their logs, the model, sockets to listen
/// on, and a reserve.
const BASE: u64 = 128;

/// Files that a decision which is read back takes: its segment, twice while that has no index.
const FILES_PER_READ: u64 = 2;

/// Files of a worker's thread: what its runtime waits on, and is woken by.
const FILES_PER_WORKER: u64 = 4;

/// Files that a service of so many shards and workers opens for itself.
pub(super) fn own_files(shards: u16, workers: usize) -> u64 {
    BASE + FILES_PER_READ * READS_AT_ONCE as u64 * u64::from(shards) + FILES_PER_WORKER * workers as u64
}

/// Makes room for so many connections beside the service's own files; gives how many there is room for.
pub(super) fn make_room(connections: usize, own: u64) -> usize {
    let wanted = (connections as u64).saturating_add(own);
    let limit = getrlimit(Resource::Nofile);
    let raised = raise(limit.current, limit.maximum, wanted);
    let allowed = match raised {
        Some(current) => {
            let new = Rlimit { current: Some(current), maximum: limit.maximum };
            setrlimit(Resource::Nofile, new).map_or(limit.current, |()| Some(current))
        }
        None => limit.current,
    };
    let fitting = fitting(connections, allowed, own);
    if fitting < connections {
        warn!(
            open_files = allowed,
            max_connections = connections,
            "the limit on open files (ulimit -n) has room for {fitting} connections only; raise it to {wanted}"
        );
    }
    fitting
}

/// What the limit is to be raised to, `None` when it stands high enough or as high as it may. A limit of `None` is none.
fn raise(current: Option<u64>, maximum: Option<u64>, wanted: u64) -> Option<u64> {
    let possible = maximum.map_or(wanted, |maximum| maximum.min(wanted));
    current.filter(|current| *current < possible).map(|_| possible)
}

/// How many connections fit under a limit, at least one.
fn fitting(connections: usize, allowed: Option<u64>, own: u64) -> usize {
    let room = allowed.map_or(u64::MAX, |allowed| allowed.saturating_sub(own).max(1));
    usize::try_from(room).unwrap_or(usize::MAX).min(connections)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits() {
        let own = 128;
        let check = |current, maximum, expected_raise, expected_fitting| {
            let raised = raise(current, maximum, 1_000 + own);
            assert_eq!(raised, expected_raise, "{current:?} {maximum:?}");
            assert_eq!(fitting(1_000, raised.or(current), own), expected_fitting, "{current:?} {maximum:?}");
        };
        check(Some(1_024), Some(1 << 20), Some(1_128), 1_000);
        check(Some(1_024), None, Some(1_128), 1_000);
        check(Some(4_096), Some(4_096), None, 1_000);
        check(None, None, None, 1_000);
        check(Some(256), Some(512), Some(512), 384);
        check(Some(512), Some(512), None, 384);
        check(Some(16), Some(16), None, 1);
    }

    #[test]
    fn every_shard_reads_and_every_worker_waits() {
        assert_eq!(own_files(2, 2), 128 + 2 * 16 + 2 * 4);
        assert_eq!(own_files(1_024, 256), 128 + 1_024 * 16 + 256 * 4);
    }
}
