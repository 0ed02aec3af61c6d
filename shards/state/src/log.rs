//! A channel's log on one shard: what its subscribers still have to take.
//!
//! A broadcast is appended once; every subscriber that waits holds a cursor, a position in
//! bytes since the log began, always at a frame boundary. The log is a chain of segments; a
//! segment goes when the last cursor has passed it, and a log that all have drained keeps none. A segment that is
//! full is frozen: it never changes again, and who reads in another way than by a cursor may hold it by reference
//! ([`Log::frozen`]), also when the log has let it go.
//!
//! Two sorts of cursors: *followers* receive nothing but this log, so an append concerns them
//! without being told: one that stands at the end waits again by itself, and the log only counts
//! those. *Visitors* are told of each append and hold a cursor only while they wait.

use std::{collections::VecDeque, sync::Arc};

/// The length at which a segment is full, in bytes. A record is never split, so a segment may be
/// longer by one record.
const SEGMENT_BYTES: usize = 64 * 1024;

/// How many empty buffers are kept for the next segments.
const SPARE_MAX: usize = 64;

/// Buffers of drained segments, shared by all logs of a shard, and what those logs hold.
#[derive(Debug, Default)]
pub struct SparePool {
    spare: Vec<Arc<Vec<u8>>>,
    held_bytes: u64,
}

impl SparePool {
    /// The bytes that all logs hold.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        self.held_bytes
    }

    fn take(&mut self) -> Arc<Vec<u8>> {
        self.spare.pop().unwrap_or_default()
    }

    fn give(&mut self, mut buffer: Arc<Vec<u8>>) {
        self.held_bytes -= buffer.len() as u64;
        // Unless somebody reads on.
        if self.spare.len() < SPARE_MAX
            && buffer.capacity() <= 2 * SEGMENT_BYTES
            && let Some(bytes) = Arc::get_mut(&mut buffer)
        {
            bytes.clear();
            self.spare.push(buffer);
        }
    }
}

/// Which sort of cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cursor {
    /// Receives nothing but this log.
    Follower,
    /// Is told of each append.
    Visitor,
}

#[derive(Debug)]
struct Segment {
    start: u64,
    end: u64,
    /// Nobody else holds them before they are full, and afterwards nobody writes.
    bytes: Arc<Vec<u8>>,
    /// Cursors that wait at a position within this segment.
    readers: u32,
}

impl Segment {
    fn is_full(&self) -> bool {
        self.bytes.len() >= SEGMENT_BYTES
    }
}

/// The log.
#[derive(Debug, Default)]
pub struct Log {
    segments: VecDeque<Segment>,
    end: u64,
    /// Followers that stand at the end.
    idle: u32,
}

impl Log {
    /// The position behind the last record.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Bytes held.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.segments.front().map_or(0, |first| self.end - first.start)
    }

    /// A follower joins at the end; returns its position.
    pub fn follow(&mut self) -> u64 {
        self.idle += 1;
        self.end
    }

    /// A visitor begins to wait at `position`, the start of a record that is still held.
    pub fn visit(&mut self, position: u64) {
        self.segment_at(position).readers += 1;
    }

    /// Appends a record; returns its position. All followers wait for it now; visitors are the
    /// caller's to tell, and [`Log::trim`] is to be called when it has.
    pub fn append(&mut self, pool: &mut SparePool, write: impl FnOnce(&mut Vec<u8>)) -> u64 {
        let position = self.end;
        if self.segments.back().is_none_or(Segment::is_full) {
            self.segments.push_back(Segment {
                start: position,
                end: position,
                bytes: pool.take(),
                readers: 0,
            });
        }
        let last = self.segments.back_mut().expect("just made sure");
        last.readers += std::mem::take(&mut self.idle);
        let bytes = Arc::get_mut(&mut last.bytes).expect("only full segments are shared");
        write(bytes);
        last.end = last.start + bytes.len() as u64;
        self.end = last.end;
        pool.held_bytes += self.end - position;
        position
    }

    /// The full segments that are still held, oldest first, each with the position of its first byte, a frame
    /// boundary. Whoever clones one may read it as long as he likes.
    pub fn frozen(&self) -> impl Iterator<Item = (u64, &Arc<Vec<u8>>)> {
        let full = self.segments.iter().filter(|segment| segment.is_full());
        full.map(|segment| (segment.start, &segment.bytes))
    }

    /// The bytes from `position` to the end of its segment, one contiguous range; empty at the end.
    #[must_use]
    pub fn slice(&self, position: u64) -> &[u8] {
        if position == self.end {
            return &[];
        }
        let segment = &self.segments[self.index_of(position)];
        &segment.bytes[offset(segment, position)..]
    }

    /// Copies everything from `position` to the end behind `out`.
    pub fn copy_to(&self, position: u64, out: &mut Vec<u8>) {
        let mut position = position;
        while position < self.end {
            let slice = self.slice(position);
            out.extend_from_slice(slice);
            position += slice.len() as u64;
        }
    }

    /// Moves a cursor that waits at `from` to `to`. At the end a follower stays, a visitor is gone.
    pub fn advance(&mut self, cursor: Cursor, from: u64, to: u64, pool: &mut SparePool) {
        debug_assert!(from <= to && to <= self.end);
        if from == to {
            return;
        }
        if to < self.end {
            let (old, new) = (self.index_of(from), self.index_of(to));
            if old == new {
                return;
            }
            self.segments[new].readers += 1;
        } else if cursor == Cursor::Follower {
            self.idle += 1;
        }
        self.release(from, pool);
    }

    /// A cursor at `position` is gone.
    pub fn leave(&mut self, cursor: Cursor, position: u64, pool: &mut SparePool) {
        if position < self.end {
            self.release(position, pool);
        } else if cursor == Cursor::Follower {
            assert!(self.idle > 0, "a follower left a log that it did not follow");
            self.idle -= 1;
        }
    }

    /// Frees segments for which nobody waits.
    pub fn trim(&mut self, pool: &mut SparePool) {
        while self.segments.front().is_some_and(|first| first.readers == 0) {
            let first = self.segments.pop_front().expect("just seen");
            pool.give(first.bytes);
        }
    }

    fn release(&mut self, position: u64, pool: &mut SparePool) {
        let segment = self.segment_at(position);
        assert!(segment.readers > 0, "a cursor left a segment that it did not wait in");
        segment.readers -= 1;
        if segment.readers == 0 {
            self.trim(pool);
        }
    }

    fn segment_at(&mut self, position: u64) -> &mut Segment {
        let index = self.index_of(position);
        &mut self.segments[index]
    }

    fn index_of(&self, position: u64) -> usize {
        assert!(position < self.end, "a cursor waits before the end");
        // Most logs have one segment, and most cursors wait in the oldest.
        if self.segments.front().is_some_and(|first| position < first.end) {
            return 0;
        }
        self.segments.partition_point(|segment| segment.end <= position)
    }
}

fn offset(segment: &Segment, position: u64) -> usize {
    usize::try_from(position - segment.start).expect("a segment is in memory")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_drained_log_keeps_nothing() {
        let (mut log, mut pool) = (Log::default(), SparePool::default());
        let first = log.follow();
        let second = log.follow();
        log.append(&mut pool, |out| out.extend_from_slice(b"hello"));
        assert_eq!(log.slice(first), b"hello");
        log.advance(Cursor::Follower, first, log.end(), &mut pool);
        assert_eq!(log.bytes(), 5);
        log.advance(Cursor::Follower, second, log.end(), &mut pool);
        assert_eq!((log.bytes(), log.segments.len(), log.idle), (0, 0, 2));
    }

    #[test]
    fn nobody_listens_nothing_stays() {
        let (mut log, mut pool) = (Log::default(), SparePool::default());
        log.append(&mut pool, |out| out.extend_from_slice(b"hello"));
        log.trim(&mut pool);
        assert_eq!((log.bytes(), log.end()), (0, 5));
    }

    #[test]
    fn a_full_segment_outlives_the_log_for_whom_holds_it() {
        let (mut log, mut pool) = (Log::default(), SparePool::default());
        let cursor = log.follow();
        for byte in 0..3u8 {
            log.append(&mut pool, |out| out.extend_from_slice(&[byte; SEGMENT_BYTES]));
        }
        let held: Vec<_> = log.frozen().map(|(start, bytes)| (start, Arc::clone(bytes))).collect();
        assert_eq!(
            held.iter().map(|(start, _)| *start).collect::<Vec<_>>(),
            [0, 1, 2].map(|n| n * SEGMENT_BYTES as u64)
        );
        assert_eq!(log.slice(cursor), &**held[0].1);
        log.advance(Cursor::Follower, cursor, log.end(), &mut pool);
        log.append(&mut pool, |out| out.extend_from_slice(b"next"));
        assert_eq!((log.frozen().count(), pool.held_bytes()), (0, 4));
        assert!(held[1].1.iter().all(|byte| *byte == 1), "nobody has written where he reads");
    }

    /// One cursor as the naive model sees it: everything it still has to take.
    #[derive(Debug)]
    struct Reader {
        cursor: Cursor,
        position: Option<u64>,
        waits_for: Vec<u8>,
    }

    #[derive(Debug, Clone)]
    enum Step {
        Join(bool),
        Append(u16),
        Take(usize, u16),
        Leave(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            1 => any::<bool>().prop_map(Step::Join),
            4 => (1u16..30_000).prop_map(Step::Append),
            4 => (any::<usize>(), any::<u16>()).prop_map(|(who, bytes)| Step::Take(who, bytes)),
            1 => any::<usize>().prop_map(Step::Leave),
        ]
    }

    proptest! {
        #[test]
        fn every_cursor_takes_what_came_after_it_joined(steps in proptest::collection::vec(step(), 1..120)) {
            let (mut log, mut pool) = (Log::default(), SparePool::default());
            let mut readers: Vec<Reader> = Vec::new();
            let mut next_byte = 0u8;
            for step in steps {
                match step {
                    Step::Join(true) => {
                        let position = Some(log.follow());
                        readers.push(Reader { cursor: Cursor::Follower, position, waits_for: Vec::new() });
                    }
                    Step::Join(false) => {
                        readers.push(Reader { cursor: Cursor::Visitor, position: None, waits_for: Vec::new() });
                    }
                    Step::Append(length) => {
                        next_byte = next_byte.wrapping_add(1);
                        let record = vec![next_byte; usize::from(length)];
                        let at = log.append(&mut pool, |out| out.extend_from_slice(&record));
                        for reader in &mut readers {
                            reader.waits_for.extend_from_slice(&record);
                            if reader.position.is_none() {
                                log.visit(at);
                                reader.position = Some(at);
                            }
                        }
                        log.trim(&mut pool);
                    }
                    Step::Take(who, bytes) if !readers.is_empty() => {
                        let index = who % readers.len();
                        let reader = &mut readers[index];
                        let Some(position) = reader.position else { continue };
                        let slice = log.slice(position);
                        let count = slice.len().min(usize::from(bytes));
                        prop_assert_eq!(&slice[..count], &reader.waits_for[..count]);
                        prop_assert_eq!(slice.is_empty(), reader.waits_for.is_empty());
                        reader.waits_for.drain(..count);
                        let to = position + count as u64;
                        log.advance(reader.cursor, position, to, &mut pool);
                        let gone = reader.cursor == Cursor::Visitor && to == log.end();
                        reader.position = (!gone).then_some(to);
                    }
                    Step::Leave(who) if !readers.is_empty() => {
                        let reader = readers.swap_remove(who % readers.len());
                        if let Some(position) = reader.position {
                            log.leave(reader.cursor, position, &mut pool);
                        }
                    }
                    Step::Take(..) | Step::Leave(_) => {}
                }
                if readers.iter().all(|reader| reader.waits_for.is_empty()) {
                    prop_assert_eq!(log.segments.len(), 0);
                }
            }
        }
    }
}
