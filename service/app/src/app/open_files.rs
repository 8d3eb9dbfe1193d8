//! Room for connections among the files that the process may have open.
//!
//! A process that runs out of them can neither accept a connection nor open a file of its own. So the limit is raised as
//! far as the system lets it, and no more connections are taken than fit beside what the service itself needs.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::warn;

/// Files that the service opens for itself: journal, profiles and reviews with their logs, the model, sockets to listen
/// on, and a reserve.
const OWN_FILES: u64 = 128;

/// Makes room for so many connections; gives how many there is room for.
pub(super) fn make_room(connections: usize) -> usize {
    let wanted = (connections as u64).saturating_add(OWN_FILES);
    let limit = getrlimit(Resource::Nofile);
    let raised = raise(limit.current, limit.maximum, wanted);
    let allowed = match raised {
        Some(current) => {
            let new = Rlimit { current: Some(current), maximum: limit.maximum };
            setrlimit(Resource::Nofile, new).map_or(limit.current, |()| Some(current))
        }
        None => limit.current,
    };
    let fitting = fitting(connections, allowed);
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
fn fitting(connections: usize, allowed: Option<u64>) -> usize {
    let room = allowed.map_or(u64::MAX, |allowed| allowed.saturating_sub(OWN_FILES).max(1));
    usize::try_from(room).unwrap_or(usize::MAX).min(connections)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits() {
        let check = |current, maximum, expected_raise, expected_fitting| {
            let raised = raise(current, maximum, 1_000 + OWN_FILES);
            assert_eq!(raised, expected_raise, "{current:?} {maximum:?}");
            assert_eq!(fitting(1_000, raised.or(current)), expected_fitting, "{current:?} {maximum:?}");
        };
        check(Some(1_024), Some(1 << 20), Some(1_128), 1_000);
        check(Some(1_024), None, Some(1_128), 1_000);
        check(Some(4_096), Some(4_096), None, 1_000);
        check(None, None, None, 1_000);
        check(Some(256), Some(512), Some(512), 384);
        check(Some(512), Some(512), None, 384);
        check(Some(16), Some(16), None, 1);
    }
}
