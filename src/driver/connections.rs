//! The sockets of a shard, by the machine's session slots.
//!
//! Sixteen bytes a connection: no buffers, no addresses, no tasks. A generation that does not fit
//! finds nothing, so late events and actions are harmless.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use webrocket_state::SessionRef;

/// An open connection.
#[derive(Debug)]
pub(super) struct Connection {
    socket: OwnedFd,
    generation: u32,
    /// The kernel has something to read: bytes, the end, or an error. With edges nobody repeats it.
    pub(super) is_readable: bool,
    /// Behind what can be read stands the end of the stream, for which no further edge comes.
    pub(super) is_hung_up: bool,
    /// It stands on the ready list.
    pub(super) is_listed: bool,
    /// The last send was short: the machine waits for room.
    pub(super) is_full: bool,
    /// The end of the stream was read: there is nothing more to come.
    pub(super) is_at_end: bool,
}

impl Connection {
    /// Its socket.
    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Notes what an event says about reading; whether the connection now belongs on the ready list.
    pub(super) fn note_readable(&mut self, is_hung_up: bool) -> bool {
        if self.is_at_end {
            return false;
        }
        self.is_readable = true;
        self.is_hung_up |= is_hung_up;
        !std::mem::replace(&mut self.is_listed, true)
    }
}

/// All connections of a shard.
#[derive(Debug, Default)]
pub(super) struct Connections {
    slots: Vec<Option<Connection>>,
}

impl Connections {
    /// Puts an accepted connection into its session's slot, which must be free.
    pub(super) fn insert(&mut self, session: SessionRef, socket: OwnedFd) -> &Connection {
        let index = index(session);
        if index >= self.slots.len() {
            self.slots.resize_with(index + 1, || None);
        }
        let slot = &mut self.slots[index];
        assert!(slot.is_none(), "the machine gave slot {index} anew before it closed the old connection");
        slot.insert(Connection {
            socket,
            generation: session.generation,
            is_readable: false,
            is_hung_up: false,
            is_listed: false,
            is_full: false,
            is_at_end: false,
        })
    }

    /// The session's connection, if it is still open.
    pub(super) fn find(&mut self, session: SessionRef) -> Option<&mut Connection> {
        let connection = self.slots.get_mut(index(session))?.as_mut()?;
        (connection.generation == session.generation).then_some(connection)
    }

    /// The socket of a session whose connection is open.
    pub(super) fn socket(&self, session: SessionRef) -> Option<BorrowedFd<'_>> {
        let connection = self.slots.get(index(session))?.as_ref()?;
        (connection.generation == session.generation).then(|| connection.socket())
    }

    /// Takes the session's socket away.
    pub(super) fn remove(&mut self, session: SessionRef) -> Option<OwnedFd> {
        self.find(session)?;
        self.slots[index(session)].take().map(|connection| connection.socket)
    }
}

fn index(session: SessionRef) -> usize {
    session.slot.index()
}

#[cfg(test)]
mod tests {
    use super::*;
    use webrocket_state::{ShardId, slots::SessionSlot};

    #[test]
    fn a_stale_generation_finds_nothing() {
        let session = |generation| SessionRef { shard: ShardId(0), slot: SessionSlot(5), generation };
        let null = || OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        let mut connections = Connections::default();
        connections.insert(session(1), null());
        assert!(connections.find(session(0)).is_none() && connections.remove(session(0)).is_none());
        assert!(connections.remove(session(1)).is_some());
        connections.insert(session(2), null());
        assert!(connections.find(session(1)).is_none() && connections.find(session(2)).is_some());
    }

    #[test]
    fn a_connection_is_sixteen_bytes() {
        assert_eq!(size_of::<Option<Connection>>(), 16);
    }
}
