//! The hot path, cut into cases: `hot_path` takes the time of each, `instructions` counts.
//!
//! A case is what happens again and again on a server at work; what was needed to get there is made
//! before, and what a run changed is put back after it. Input is the same in every process, hash keys and sizes
//! of the allocator's pages apart. No case has a socket: what the kernel costs is `receive`'s subject.
//!
//! | module | subject |
//! | --- | --- |
//! | `case` | what a case is |
//! | `framing` | bytes to messages, messages to frames, and what is between |
//! | `fanout` | logs and cursors; broadcasts through a whole shard |
//! | `channels` | finding a channel, subscribing it, joining it |
//! | `hop` | from one party's queue to another |

mod case;
mod channels;
mod fanout;
mod framing;
pub(crate) mod hop;

pub(crate) use case::{Case, Subject};

/// All cases, those of a group one behind the other.
pub(crate) fn all() -> impl Iterator<Item = &'static Case> {
    [framing::CASES, fanout::CASES, channels::CASES, hop::CASES].into_iter().flatten()
}
