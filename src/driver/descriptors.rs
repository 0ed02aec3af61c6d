//! File descriptors: as many as the process may have, and some kept free.
//!
//! Connections of browsers must never take the last ones: the control API, health checks and the
//! store need theirs just then.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, RawFd},
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors kept free where the limit is high: HTTP and control connections at their bounds,
/// and some for files.
const RESERVE: u64 = 1536;

/// Raises the process's limit to the most that it may have.
///
/// # Errors
/// The system does not let it be raised.
pub fn raise_limit() -> io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return Ok(());
    }
    Ok(setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?)
}

/// The least descriptor that is kept for others than browsers and backends. The kernel always gives the least
/// that is free, so its number tells how many are in use.
pub(crate) fn ceiling() -> RawFd {
    ceiling_of(getrlimit(Resource::Nofile).current)
}

/// The same where the process may have so many, or any number.
fn ceiling_of(limit: Option<u64>) -> RawFd {
    let ceiling = limit.map(|limit| limit - RESERVE.min(limit / 4));
    ceiling.and_then(|ceiling| RawFd::try_from(ceiling).ok()).unwrap_or(RawFd::MAX)
}

/// Whether a descriptor below `ceiling` is free.
pub(super) fn is_one_free(any: impl AsFd, ceiling: RawFd) -> bool {
    any.as_fd().try_clone_to_owned().is_ok_and(|next| next.as_raw_fd() < ceiling)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_are_kept_free() {
        assert_eq!(ceiling_of(Some(128)), 96);
        assert_eq!(ceiling_of(Some(20_000)), 18_464);
        assert_eq!(ceiling_of(Some(u64::MAX)), RawFd::MAX);
        assert_eq!(ceiling_of(None), RawFd::MAX);
    }

    #[test]
    fn the_next_descriptor_tells() {
        let stderr = io::stderr();
        assert!(is_one_free(&stderr, RawFd::MAX));
        assert!(!is_one_free(&stderr, 2));
    }
}
