//! What a shard decides.
//!
//! A [`Shard`](shard::Shard) is a state machine: it is told what happened and the time, and says
//! what to do. It owns no socket, starts no thread and reads no clock, so the whole broker,
//! many shards of it, runs in one thread under a seed (`shards/sim`).

#![forbid(unsafe_code)]

pub mod directory;
pub mod machine;
pub mod message;
pub mod metrics;
pub mod settings;
pub mod vhost;

pub use directory::Directory;
pub use machine::{Action, Input, Machine};
pub use message::{Command, Report, SessionRef, ShardId, ShardMessage};
pub use settings::Settings;
pub use vhost::{User, Vhost, VhostId};
