//! Runs machines: one pinned host per shard, one epoll set each, queues between them.

pub mod mailbox;
pub mod wake;
