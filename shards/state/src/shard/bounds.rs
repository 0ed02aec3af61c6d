//! How much a session may cause before it is not read, and how long a slice of long work is.

/// With more of a session's own bytes waiting than this, it is not read.
pub(super) const OUTPUT_PAUSE_BYTES: usize = 64 * 1024;

/// With more bytes in open broadcasts of one session than this, it is not read.
pub(super) const OPEN_BROADCAST_BYTES_MAX: usize = 256 * 1024;

/// How many sessions, or ends of their subscriptions, one slice of long work concerns.
pub(super) const SLICE_SESSIONS: usize = 256;
