//! Request bodies: each bounded in length and time, all together in memory.
//!
//! A body is given room before it is read: as much as it says to have, or as much as it may have.
//! It waits where there is none. The number of waiting bodies is bounded by that of connections, and
//! so is the memory of small bodies, which need no room: whoever holds it all does not hold up others.

use std::{sync::Arc, time::Duration};

use axum::{
    body::{Body, HttpBody},
    http::{HeaderMap, header},
};
use http_body_util::BodyExt;
use hyper::body::SizeHint;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use crate::control::{figures::ControlFigures, refusal::Refusal};

/// Bytes of all bodies that are in memory at the same moment, unless a single one may be longer.
const ROOM_BYTES: usize = 64 << 20;
/// The length of a body that needs no room.
const SMALL_BYTES: u32 = 64 << 10;
/// How long a body may take to arrive once there is room for it.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes that are read of a body that nobody wants.
const DISCARD_BYTES_MAX: u64 = 64 << 20;
/// How long a body that nobody wants is read.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(5);

/// The room for bodies.
pub(super) struct Bodies {
    bytes_max: u32,
    small_bytes: u32,
    room: Arc<Semaphore>,
    room_bytes: usize,
    timeout: Duration,
    figures: Arc<ControlFigures>,
}

/// The body of a request that is being answered.
pub(super) struct Upload {
    body: Option<Body>,
    /// The client sends the body only when it is asked for.
    waits_to_be_asked: bool,
}

/// A body that was read. Its room is free again when it is dropped.
pub(super) struct Bytes {
    bytes: Vec<u8>,
    _room: Room,
}

/// Room that is taken.
struct Room {
    permit: Option<OwnedSemaphorePermit>,
    bodies: Arc<Semaphore>,
    room_bytes: usize,
    figures: Arc<ControlFigures>,
}

/// A body that waits for room.
struct Waiting<'a>(&'a ControlFigures);

impl Bodies {
    /// Room for bodies of at most `bytes_max` bytes each.
    pub(super) fn new(bytes_max: u32, figures: Arc<ControlFigures>) -> Self {
        let room_bytes = ROOM_BYTES.max(bytes_max as usize);
        let room = Arc::new(Semaphore::new(room_bytes));
        Self { bytes_max, small_bytes: SMALL_BYTES, room, room_bytes, timeout: TIMEOUT, figures }
    }

    /// The same with less room and time; no body is small.
    #[cfg(test)]
    pub(super) fn with(self, room_bytes: usize, timeout: Duration) -> Self {
        Self { small_bytes: 0, room: Arc::new(Semaphore::new(room_bytes)), room_bytes, timeout, ..self }
    }

    /// Reads a body once there is room for it.
    ///
    /// # Errors
    /// It is too long, too slow, or breaks off.
    pub(super) async fn read(&self, upload: &mut Upload) -> Result<Bytes, Refusal> {
        let declared = upload.body.as_ref().map_or(SizeHint::with_exact(0), HttpBody::size_hint);
        if declared.lower() > u64::from(self.bytes_max) {
            return Err(Refusal::TooLarge(self.bytes_max as usize));
        }
        let most = declared.upper().map_or(self.bytes_max, |upper| {
            u32::try_from(upper).map_or(self.bytes_max, |upper| upper.min(self.bytes_max))
        });
        let mut room = self.reserve(most).await;
        let mut bytes = Vec::with_capacity(usize::try_from(declared.lower()).expect("it is not too large"));
        match timeout(self.timeout, self.receive(upload, &mut bytes)).await {
            Ok(Ok(())) => room.keep(bytes.len()),
            Ok(Err(refusal)) => return Err(refusal),
            Err(_) => {
                // Whoever sends so slowly is not waited for any longer.
                upload.body = None;
                return Err(Refusal::SlowBody);
            }
        }
        Ok(Bytes { bytes, _room: room })
    }

    async fn receive(&self, upload: &mut Upload, bytes: &mut Vec<u8>) -> Result<(), Refusal> {
        let Some(body) = &mut upload.body else { return Ok(()) };
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else {
                upload.body = None;
                return Err(Refusal::Invalid("the body could not be read".to_owned()));
            };
            let Ok(data) = frame.into_data() else { continue };
            if bytes.len() + data.len() > self.bytes_max as usize {
                return Err(Refusal::TooLarge(self.bytes_max as usize));
            }
            bytes.extend_from_slice(&data);
        }
        upload.body = None;
        Ok(())
    }

    async fn reserve(&self, bytes: u32) -> Room {
        let bytes = if bytes <= self.small_bytes { 0 } else { bytes };
        let permit = match Arc::clone(&self.room).try_acquire_many_owned(bytes) {
            Ok(permit) => permit,
            Err(_) => {
                let _waiting = Waiting::new(&self.figures);
                let permit = Arc::clone(&self.room).acquire_many_owned(bytes).await;
                permit.expect("the room is never closed")
            }
        };
        let room = Room {
            permit: Some(permit),
            bodies: Arc::clone(&self.room),
            room_bytes: self.room_bytes,
            figures: Arc::clone(&self.figures),
        };
        room.show();
        room
    }
}

impl Upload {
    /// The body of a request with these headers.
    pub(super) fn new(headers: &HeaderMap, body: Body) -> Self {
        let body = (!body.is_end_stream()).then_some(body);
        Self { body, waits_to_be_asked: headers.contains_key(header::EXPECT) }
    }

    /// Reads on aside, for a while, what was not wanted: a client that sends on into a closed
    /// connection would not hear its answer.
    pub(super) fn discard_rest(self) {
        let Some(mut body) = self.body else { return };
        if self.waits_to_be_asked || body.size_hint().lower() > DISCARD_BYTES_MAX {
            return;
        }
        tokio::spawn(timeout(DISCARD_TIMEOUT, async move {
            let mut left = DISCARD_BYTES_MAX;
            while let Some(Ok(frame)) = body.frame().await {
                let length = frame.data_ref().map_or(0, |data| data.len() as u64);
                let Some(rest) = left.checked_sub(length) else { return };
                left = rest;
            }
        }));
    }
}

impl std::ops::Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Room {
    /// Gives back what is not needed.
    fn keep(&mut self, bytes: usize) {
        if let Some(permit) = &mut self.permit {
            drop(permit.split(permit.num_permits().saturating_sub(bytes)));
        }
        self.show();
    }

    fn show(&self) {
        self.figures.http_body_bytes.set(self.room_bytes - self.bodies.available_permits());
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        drop(self.permit.take());
        self.show();
    }
}

impl<'a> Waiting<'a> {
    fn new(figures: &'a ControlFigures) -> Self {
        figures.http_bodies_waiting.increment();
        Self(figures)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.http_bodies_waiting.decrement();
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, io, pin::Pin, task::Poll};

    use axum::body::Bytes as Chunk;
    use http_body_util::{
        Full,
        channel::{Channel, Sender},
    };

    use super::*;
    use crate::control::fake_node::{HANG, within};

    fn upload(body: Body) -> Upload {
        Upload::new(&HeaderMap::new(), body)
    }

    fn whole(length: usize) -> Upload {
        upload(Body::new(Full::new(Chunk::from(vec![b'x'; length]))))
    }

    /// A body that does not say how long it is, and stays open.
    fn open() -> (Sender<Chunk, io::Error>, Upload) {
        let (sender, body) = Channel::new(8);
        (sender, upload(Body::new(body)))
    }

    fn bodies(bytes_max: u32, room: usize) -> Bodies {
        Bodies::new(bytes_max, Arc::default()).with(room, HANG)
    }

    /// Goes on with `reading` as far as it can. It must not come to its end.
    async fn begin<T>(reading: &mut Pin<Box<impl Future<Output = T>>>) {
        let ended = poll_fn(|context| Poll::Ready(reading.as_mut().poll(context).is_ready())).await;
        assert!(!ended, "it waits");
    }

    async fn refusal(bodies: &Bodies, upload: &mut Upload) -> Refusal {
        bodies.read(upload).await.err().expect("it is refused")
    }

    #[tokio::test]
    async fn a_body_is_limited_however_it_comes() {
        let bodies = bodies(10, 100);
        assert_eq!(bodies.read(&mut whole(10)).await.unwrap().len(), 10);
        assert_eq!(bodies.read(&mut upload(Body::empty())).await.unwrap().len(), 0);
        assert_eq!(refusal(&bodies, &mut whole(11)).await, Refusal::TooLarge(10));
        let (mut sender, mut upload) = open();
        for _ in 0..3 {
            sender.send_data(Chunk::from_static(b"1234")).await.unwrap();
        }
        assert_eq!(refusal(&bodies, &mut upload).await, Refusal::TooLarge(10));
        assert!(upload.body.is_some(), "the rest can be discarded");
        assert_eq!(bodies.figures.http_body_bytes.value(), 0);
    }

    #[tokio::test]
    async fn bodies_wait_for_room_in_order() {
        let bodies = bodies(10, 15);
        let (mut sender, mut first) = open();
        let mut reading = Box::pin(bodies.read(&mut first));
        begin(&mut reading).await;
        assert_eq!(bodies.figures.http_body_bytes.value(), 10);
        let mut second = whole(8);
        let mut waiting = Box::pin(bodies.read(&mut second));
        begin(&mut waiting).await;
        assert_eq!(bodies.figures.http_bodies_waiting.value(), 1);
        sender.send_data(Chunk::from_static(b"1234")).await.unwrap();
        begin(&mut reading).await;
        begin(&mut waiting).await;
        drop(sender);
        let first = within(reading).await.unwrap();
        assert_eq!(&*first, b"1234");
        assert_eq!(within(waiting).await.unwrap().len(), 8, "room that was not needed is given back at once");
        assert_eq!(bodies.figures.http_body_bytes.value(), 4);
        drop(first);
        assert_eq!(bodies.figures.http_body_bytes.value(), 0);
        assert_eq!(bodies.figures.http_bodies_waiting.value(), 0);
    }

    #[tokio::test]
    async fn whoever_gives_up_waits_no_longer() {
        let bodies = bodies(10, 10);
        let held = bodies.read(&mut whole(10)).await.unwrap();
        let mut given_up = whole(1);
        let mut waiting = Box::pin(bodies.read(&mut given_up));
        begin(&mut waiting).await;
        assert_eq!(bodies.figures.http_bodies_waiting.value(), 1);
        let nothing = bodies.read(&mut upload(Body::empty())).await;
        assert_eq!(nothing.unwrap().len(), 0, "no body needs no room");
        drop(waiting);
        assert_eq!(bodies.figures.http_bodies_waiting.value(), 0);
        drop(held);
        assert_eq!(bodies.read(&mut whole(10)).await.unwrap().len(), 10);
    }

    #[tokio::test]
    async fn small_bodies_need_no_room() {
        let bodies = Bodies::new(10, Arc::default()).with(10, HANG);
        let bodies = Bodies { small_bytes: 3, ..bodies };
        let held = bodies.read(&mut whole(10)).await.unwrap();
        let mut larger = whole(4);
        let mut waiting = Box::pin(bodies.read(&mut larger));
        begin(&mut waiting).await;
        assert_eq!(bodies.figures.http_bodies_waiting.value(), 1);
        assert_eq!(bodies.read(&mut whole(3)).await.unwrap().len(), 3);
        drop(held);
        assert_eq!(within(waiting).await.unwrap().len(), 4);
    }

    #[tokio::test]
    async fn a_body_that_does_not_come_is_given_up() {
        let bodies = Bodies::new(10, Arc::default()).with(10, Duration::from_millis(10));
        let (_sender, mut upload) = open();
        assert_eq!(refusal(&bodies, &mut upload).await, Refusal::SlowBody);
        assert!(upload.body.is_none());
        assert_eq!(bodies.room.available_permits(), 10);
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_refused() {
        let (mut sender, mut upload) = open();
        sender.send_data(Chunk::from_static(b"1")).await.unwrap();
        sender.abort(io::Error::other("gone"));
        let refusal = refusal(&bodies(10, 10), &mut upload).await;
        assert_eq!(refusal, Refusal::Invalid("the body could not be read".to_owned()));
    }
}
