//! On which processors the server runs, and on which the load test: apart, where there are enough.

use crate::process::{processors, run_on};

/// The processors of both sides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Placement {
    servers: Vec<usize>,
    own: Vec<usize>,
}

impl Placement {
    /// One processor for each of the server's shards, the first ones, and the rest for the load test. With too few
    /// of them both sides share all.
    pub(crate) fn of(shards: u32) -> anyhow::Result<Self> {
        Ok(Self::among(processors()?, shards as usize))
    }

    fn among(all: &[usize], shards: usize) -> Self {
        match all.split_at_checked(shards) {
            Some((servers, own)) if !own.is_empty() => Self { servers: servers.to_vec(), own: own.to_vec() },
            Some(_) | None => Self { servers: all.to_vec(), own: all.to_vec() },
        }
    }

    /// Starts a server on its processors; this thread runs on its own ones from then on.
    ///
    /// # Errors
    /// The server's; the system does not let this process choose processors.
    pub(crate) fn start<T>(&self, server: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
        run_on(&self.servers)?;
        let started = server();
        run_on(&self.own)?;
        started
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_are_apart_where_there_is_room() {
        let apart = Placement { servers: vec![0], own: vec![1, 2] };
        assert_eq!(Placement::among(&[0, 1, 2], 1), apart);
        let shared = Placement { servers: vec![4, 5], own: vec![4, 5] };
        assert_eq!(Placement::among(&[4, 5], 2), shared);
        assert_eq!(Placement::among(&[4, 5], 3), shared);
    }
}
