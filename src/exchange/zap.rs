//! Who is let in: libzmq asks about every connection, in the middle of its handshake.
//!
//! A connection presents its vhost's path as user and the vhost's access token as password (PLAIN), or, where the
//! server has a key pair, its public key, whose secret half libzmq has seen it to have (CURVE). It is given a
//! `User-Id`, which libzmq attaches to all that it sends. Refused ones are told so and do not come again;
//! nobody is refused while the answer could be another one soon.
//!
//! Source: docs/protocol.md, "ZeroMQ exchange"; ZeroMQ RFC 27 (ZAP), 24 (PLAIN) and 26 (CURVE).

use std::{fmt, str::FromStr};

use webrocket_state::exchange::Pass;
use zmq::{DONTWAIT, SNDMORE, Socket};

use super::{connections::Number, entrance::Entrance};

const VERSION: &[u8] = b"1.0";

/// What a connection was let in as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Admission {
    pub(super) pass: Pass,
    pub(super) number: Number,
}

/// As it stands in the `User-Id`.
impl fmt::Display for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.pass, self.number.0)
    }
}

/// A text that is no [`Admission`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NoAdmission;

impl FromStr for Admission {
    type Err = NoAdmission;

    fn from_str(text: &str) -> Result<Self, NoAdmission> {
        let (pass, number) = text.split_once('/').ok_or(NoAdmission)?;
        Ok(Self {
            pass: pass.parse().map_err(|_| NoAdmission)?,
            number: Number(number.parse().map_err(|_| NoAdmission)?),
        })
    }
}

/// What a connection presents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Credentials<'a> {
    Plain { user: &'a [u8], password: &'a [u8] },
    Curve { key: &'a [u8; 32] },
}

/// A question of libzmq.
pub(super) struct Question {
    frames: Vec<Vec<u8>>,
}

impl Question {
    /// The next question, if there is one. Another one comes only once it is answered.
    pub(super) fn next(zap: &Socket) -> Option<Self> {
        zap.recv_multipart(DONTWAIT).ok().map(|frames| Self { frames })
    }

    /// Which entrance the connection is at, and what it presents; `None` if it is no such connection.
    pub(super) fn credentials(&self) -> Option<(Entrance, Credentials<'_>)> {
        let frames: Vec<&[u8]> = self.frames.iter().map(Vec::as_slice).collect();
        let [VERSION, _, domain, _, _, presented @ ..] = &frames[..] else { return None };
        let entrances = [Entrance::Exchange, Entrance::Stream];
        let entrance = entrances.into_iter().find(|entrance| entrance.domain().as_bytes() == *domain)?;
        let credentials = match *presented {
            [b"PLAIN", user, password] => Credentials::Plain { user, password },
            [b"CURVE", key] => Credentials::Curve { key: key.try_into().ok()? },
            _ => return None,
        };
        Some((entrance, credentials))
    }

    /// Answers it: lets the connection in, or not.
    pub(super) fn answer(self, zap: &Socket, admission: Option<Admission>) {
        let id = self.frames.get(1).map(Vec::as_slice).unwrap_or_default();
        let user = admission.map(|admission| admission.to_string()).unwrap_or_default();
        let (code, text) = if admission.is_some() { ("200", "OK") } else { ("400", "Unauthorized") };
        let frames = [VERSION, id, code.as_bytes(), text.as_bytes(), user.as_bytes()];
        // A connection that is gone meanwhile needs no answer.
        let _ = frames
            .into_iter()
            .try_for_each(|frame| zap.send(frame, DONTWAIT | SNDMORE))
            .and_then(|()| zap.send(&b""[..], DONTWAIT));
    }
}

/// The password does not stay in memory.
impl Drop for Question {
    fn drop(&mut self) {
        for frame in &mut self.frames {
            frame.fill(0);
            std::hint::black_box(frame);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use webrocket_state::VhostId;

    fn question(frames: &[&[u8]]) -> Question {
        Question { frames: frames.iter().map(|frame| frame.to_vec()).collect() }
    }

    #[test]
    fn an_admission_is_read_as_it_was_written() {
        let pass = Pass { vhost: VhostId(7), generation: 3 };
        let admission = Admission { pass, number: Number(19) };
        assert_eq!(admission.to_string(), "7.3/19");
        assert_eq!("7.3/19".parse(), Ok(admission));
        for text in ["", "7.3", "7/19", "7.3/", "7.3/x", "7.3/19/1"] {
            assert_eq!(text.parse::<Admission>(), Err(NoAdmission), "{text}");
        }
    }

    #[test]
    fn plain_credentials_of_a_known_entrance_count() {
        let plain: [&[u8]; 8] = [b"1.0", b"1", b"stream", b"127.0.0.1", b"", b"PLAIN", b"/moon", b"secret"];
        let asked = question(&plain);
        let presented = Credentials::Plain { user: b"/moon", password: b"secret" };
        assert_eq!(asked.credentials(), Some((Entrance::Stream, presented)));
        assert_eq!(question(&plain[..7]).credentials(), None, "no password");
        for (index, other) in [(0, &b"2.0"[..]), (2, b"elsewhere"), (5, b"NULL"), (5, b"CURVE")] {
            let mut frames = plain;
            frames[index] = other;
            assert_eq!(question(&frames).credentials(), None, "{other:?}");
        }
    }

    #[test]
    fn a_key_counts_if_it_is_as_long_as_a_key() {
        let key = [7; 32];
        let curve: [&[u8]; 7] = [b"1.0", b"1", b"exchange", b"127.0.0.1", b"", b"CURVE", &key];
        let asked = question(&curve);
        assert_eq!(asked.credentials(), Some((Entrance::Exchange, Credentials::Curve { key: &key })));
        for (index, other) in [(2, &b""[..]), (5, b"PLAIN"), (6, &key[1..]), (6, b"")] {
            let mut frames = curve;
            frames[index] = other;
            assert_eq!(question(&frames).credentials(), None, "{other:?}");
        }
        assert_eq!(question(&[&curve[..], &[b""]].concat()).credentials(), None, "a frame too many");
    }
}
