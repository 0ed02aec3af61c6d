//! A shard among sessions, without sockets: what measurements of the machine start from.
//!
//! Speaks to [`Shard`] only as a driver does: bytes in, ranges out. Owns no case and measures nothing.

#![allow(dead_code, reason = "each target that includes this module uses a part of it")]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use webrocket_state::{
    Command, Directory, Input, Machine, Party, SessionRef, Settings, Shard, ShardConfig, ShardId,
    ShardMessage, User, Vhost, VhostId,
    command::Ticket,
    encoding::{Encoding, Encodings},
    ids::RequestRef,
    message::OwnerRequest,
    settings::Anonymous,
    slots::SessionSlot,
};
use webrocket_wire::{Rights, handshake::example_head};

const VHOST: VhostId = VhostId(0);

/// As long as what a driver receives into.
const INPUT_BYTES: usize = 64 * 1024;

/// A shard with one vhost, `/w`, where anonymous sessions may read and write; its clock stands still.
pub(crate) struct Crowd {
    pub(crate) shard: Shard,
    directory: Directory,
    now: Instant,
    /// What the machine is handed: it unmasks in place, so each frame is copied here.
    input: Vec<u8>,
}

/// What a flush came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Flushed {
    pub(crate) sends: usize,
    pub(crate) bytes: usize,
}

impl Crowd {
    /// A shard without sessions. Its vhost has the users `u0`, `u1`, … without secrets.
    pub(crate) fn new(users: usize) -> Self {
        Self::among(1, users)
    }

    /// The same as the first of so many shards, of which the others are not there.
    pub(crate) fn among(shards: u16, users: usize) -> Self {
        let user = User { rights: Rights::READ_WRITE, has_secret: false, generation: 1 };
        let name = |index: usize| format!("u{index}").parse().expect("a valid name");
        let vhost = Arc::new(Vhost {
            id: VHOST,
            path: "/w".parse().expect("a valid path"),
            settings: Settings { anonymous: Anonymous::ReadWrite, ..Settings::default() },
            users: (0..users).map(|index| (name(index), user)).collect(),
            channels: Arc::default(),
        });
        let directory = Directory::new(shards, 1);
        let shard = Shard::new(ShardConfig {
            id: ShardId(0),
            directory: directory.clone(),
            encodings: Encodings::default(),
            seed: [7; 32],
            handshake_timeout: Duration::from_secs(10),
            close_timeout: Duration::from_secs(5),
        });
        let mut crowd =
            Self { shard, directory, now: Instant::now(), input: Vec::with_capacity(INPUT_BYTES) };
        crowd.command(Command::PutVhost { ticket: Ticket::new(0), vhost });
        crowd
    }

    /// A shard whose `followers` sessions subscribe the channel `world` and nothing else.
    pub(crate) fn following(followers: usize) -> (Self, Vec<SessionRef>) {
        let mut crowd = Self::new(0);
        crowd.open("world");
        let subscribe = masked(r#"{"subscribe":{"channel":"world"}}"#);
        let sessions: Vec<_> = (0..followers).map(|_| crowd.connect()).collect();
        for session in &sessions {
            crowd.receive(*session, &subscribe);
        }
        assert_eq!(crowd.flush().sends, followers, "each is told that it subscribed");
        (crowd, sessions)
    }

    /// A channel that this shard owns, opened.
    pub(crate) fn open_own(&mut self) -> String {
        let own = |name: &String| {
            let channel = name.parse().expect("a valid name");
            self.directory.owner(VHOST, &channel) == ShardId(0)
        };
        let name = (0..).map(|number| format!("c{number}")).find(own).expect("every second");
        self.open(&name);
        name
    }

    /// A session of another shard subscribes a channel that this one owns.
    pub(crate) fn subscribe_from(&mut self, shard: ShardId, channel: &str) {
        let session = SessionRef { shard, slot: SessionSlot(0), generation: 0 };
        let asked = OwnerRequest::Subscribe {
            request: RequestRef { session, number: 0 },
            vhost: VHOST,
            channel: channel.parse().expect("a valid name"),
            encoding: Encoding::PLAIN,
            may_create: false,
            joining: None,
        };
        self.shard.handle(self.now, Input::Message { from: shard, message: ShardMessage::Request(asked) });
    }

    /// Takes what waits for another shard; how many messages that is.
    pub(crate) fn pass_on(&mut self, shard: ShardId) -> usize {
        std::iter::from_fn(|| self.shard.next_message(self.now, shard)).count()
    }

    /// Opens a channel, as a backend does.
    pub(crate) fn open(&mut self, channel: &str) {
        let channel = channel.parse().expect("a valid name");
        self.command(Command::OpenChannel { ticket: Ticket::new(0), vhost: VHOST, channel });
    }

    fn command(&mut self, command: Command) {
        self.shard.handle(self.now, Input::Command(command));
        assert!(self.shard.next_report().is_some(), "each command is reported");
    }

    /// A new session that speaks WWFP and has been greeted.
    pub(crate) fn connect(&mut self) -> SessionRef {
        let session = self.shard.accept(self.now, "127.0.0.1:1".parse().expect("a valid address"));
        self.receive(session, example_head("/w?protocol=wwfp", "").as_bytes());
        assert_eq!(self.flush().sends, 1, "it is greeted");
        session
    }

    /// A new session of a user, who has no secret.
    pub(crate) fn connect_as(&mut self, user: &str) -> SessionRef {
        let session = self.connect();
        self.receive(session, &masked(&format!(r#"{{"auth":{{"user":"{user}"}}}}"#)));
        assert_eq!(self.flush().sends, 1, "it is told that it is authenticated");
        session
    }

    /// Hands over what a session's peer sent.
    pub(crate) fn receive(&mut self, session: SessionRef, bytes: &[u8]) {
        self.input.clear();
        self.input.extend_from_slice(bytes);
        self.shard.handle(self.now, Input::Received { session, bytes: &mut self.input });
    }

    /// Flushes all that waits, every socket taking all it is offered.
    pub(crate) fn flush(&mut self) -> Flushed {
        let mut flushed = Flushed::default();
        while let Some(session) = self.shard.next_flush(self.now) {
            let bytes = self.shard.pending(session).len();
            flushed.sends += 1;
            flushed.bytes += bytes;
            self.shard.handle(self.now, Input::Sent { session, bytes });
        }
        flushed
    }
}

/// A client's text frame.
pub(crate) fn masked(text: &str) -> Vec<u8> {
    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
    let mut frame = vec![0x81];
    match text.len() {
        short @ 0..126 => frame.push(0x80 | u8::try_from(short).expect("in range")),
        long => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&u16::try_from(long).expect("less than 64 KiB").to_be_bytes());
        }
    }
    frame.extend_from_slice(&MASK);
    frame.extend(text.bytes().zip(MASK.into_iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}

/// What a session sends to broadcast `data_bytes` of text on `channel`, without `ref`.
pub(crate) fn broadcast(channel: &str, data_bytes: usize) -> Vec<u8> {
    let text = "x".repeat(data_bytes);
    masked(&format!(
        r#"{{"broadcast":{{"channel":"{channel}","event":"message","data":{{"text":"{text}"}}}}}}"#
    ))
}
