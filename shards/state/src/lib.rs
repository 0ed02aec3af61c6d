//! What a shard and the exchange decide.
//!
//! A [`Shard`](shard::Shard) is a state machine: it is told what happened and the time, and says
//! what to do. It owns no socket, starts no thread and reads no clock, so the whole broker,
//! many shards of it, runs in one thread under a seed (`shards/sim`).
//!
//! | room | what lives there |
//! | --- | --- |
//! | [`machine`] | the contract with whatever drives a state machine |
//! | [`shard`] | the broker's state machine, put together of the parts below |
//! | [`connection`], [`outgoing`] | one WebSocket connection, its close, its own bytes |
//! | [`sessions`], [`session`], [`sids`], [`deadlines`] | the sessions of a shard, what one is in each state |
//! | [`answers`], [`identity`], [`rate`], [`addresses`] | one session: its open requests in order, who it is, limits |
//! | [`fanout`], [`views`], [`log`] | fan-out: channels by encoding, cursors, what is flushed next |
//! | [`event`], [`encoding`] | what a channel says, and how it becomes bytes |
//! | [`channels`], [`members`], [`directory`] | channels at their owner, who is present, and who owns which |
//! | [`ids`], [`slots`] | what shards call each other's sessions, requests and channels |
//! | [`message`], [`link`] | what shards say to each other, the way there, and who must wait for it |
//! | [`command`], [`vhost`], [`vhosts`], [`settings`] | what the control thread and the shards say to each other |
//! | [`exchange`] | the backends: clients, workers, triggers |
//! | [`pattern`] | which channels or events a backend means |

#![forbid(unsafe_code)]

pub mod addresses;
pub mod answers;
pub mod channels;
pub mod command;
pub mod connection;
pub mod deadlines;
pub mod directory;
pub mod encoding;
pub mod event;
pub mod exchange;
pub mod fanout;
pub mod identity;
pub mod ids;
pub mod link;
pub mod log;
pub mod machine;
pub mod members;
pub mod message;
pub mod metrics;
pub mod outgoing;
pub mod pattern;
pub mod rate;
pub mod session;
pub mod sessions;
pub mod settings;
pub mod shard;
pub mod sids;
pub mod slots;
pub mod vhost;
pub mod vhosts;
pub mod views;

pub use command::{Command, Report};
pub use directory::Directory;
pub use exchange::Exchange;
pub use ids::{SessionRef, ShardId};
pub use machine::{Action, Input, Machine, Party};
pub use message::ShardMessage;
pub use settings::Settings;
pub use shard::{Shard, ShardConfig};
pub use vhost::{User, Vhost, VhostId};
