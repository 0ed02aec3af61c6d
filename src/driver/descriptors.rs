//! File descriptors: as many as the process may have, and some kept free.
//!
//! Connections of browsers must never take the last ones: the control API, health checks and the
//! store need theirs just then.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, RawFd},
};

/// Descriptors kept free where the limit is high: HTTP and control connections at their bounds,
/// and some for files.
const RESERVE: u64 = 1536;

/// Raises the process's limit to the most that it may have; returns that.
///
/// # Errors
/// The system does not tell its limits, or does not let them be raised.
pub fn raise_limit() -> io::Result<u64> {
    let mut limit = limit()?;
    if limit.rlim_cur < limit.rlim_max {
        limit.rlim_cur = limit.rlim_max;
        // SAFETY: reads one live struct.
        if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(limit.rlim_cur)
}

/// The least descriptor that is kept for others than browsers and backends. The kernel always gives the least
/// that is free, so its number tells how many are in use.
pub(crate) fn ceiling() -> io::Result<RawFd> {
    Ok(ceiling_of(limit()?.rlim_cur))
}

fn ceiling_of(limit: u64) -> RawFd {
    RawFd::try_from(limit - RESERVE.min(limit / 4)).unwrap_or(RawFd::MAX)
}

/// Whether a descriptor below `ceiling` is free.
pub(super) fn is_one_free(any: impl AsFd, ceiling: RawFd) -> bool {
    any.as_fd().try_clone_to_owned().is_ok_and(|next| next.as_raw_fd() < ceiling)
}

fn limit() -> io::Result<libc::rlimit> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: writes one live struct.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_are_kept_free() {
        assert_eq!(ceiling_of(128), 96);
        assert_eq!(ceiling_of(20_000), 18_464);
        assert_eq!(ceiling_of(libc::RLIM_INFINITY), RawFd::MAX);
    }

    #[test]
    fn the_next_descriptor_tells() {
        let stderr = io::stderr();
        assert!(is_one_free(&stderr, RawFd::MAX));
        assert!(!is_one_free(&stderr, 2));
    }
}
