//! A client's message: one JSON object whose first key is the event.
//!
//! The text is read once. Values stay slices of it: names are unescaped where they are used, `data`
//! never is. Further keys beside the first are checked as JSON and ignored; of a key that stands
//! twice in a payload the last counts, as in JavaScript.
//!
//! Source: docs/protocol.md, "Messages".

use std::borrow::Cow;

use crate::{
    event::Data,
    json::{Json, NotJson, Scanner},
    members,
};

/// A client's message, taken apart as far as both dialects need it.
#[derive(Debug)]
pub struct ClientMessage<'a> {
    /// The first key.
    pub event: Cow<'a, str>,
    /// Its value.
    pub payload: Payload<'a>,
}

/// The value of a message's first key.
#[derive(Debug)]
pub enum Payload<'a> {
    /// An object: the members that some request knows.
    Object(Fields<'a>),
    /// `true`.
    True,
    /// Anything else.
    Other,
}

/// The members of a payload, as they were written.
#[derive(Debug, Default, Clone, Copy)]
pub struct Fields<'a> {
    /// `channel`
    pub channel: Option<Json<'a>>,
    /// `event`
    pub event: Option<Json<'a>>,
    /// `data`
    pub data: Option<Data<'a>>,
    /// `user`
    pub user: Option<Json<'a>>,
    /// `secret`
    pub secret: Option<Json<'a>>,
    /// `token`
    pub token: Option<Json<'a>>,
    /// `hidden`
    pub hidden: Option<Json<'a>>,
    /// `trigger`
    pub trigger: Option<Json<'a>>,
    /// `ref`
    pub reference: Option<Json<'a>>,
}

/// The text is no message: not JSON, no object, no key, or nested too deep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MalformedMessage;

impl<'a> ClientMessage<'a> {
    /// Takes a message apart.
    ///
    /// # Errors
    /// [`MalformedMessage`]
    pub fn parse(text: &'a str) -> Result<Self, MalformedMessage> {
        let mut scanner = Scanner::new(text);
        let mut message = None;
        scanner.object(|scanner, key| {
            if message.is_some() {
                return scanner.skip();
            }
            let event = key.name().ok_or(NotJson::Malformed)?;
            message = Some(Self { event, payload: Payload::scan(scanner)? });
            Ok(())
        })?;
        scanner.end()?;
        message.ok_or(MalformedMessage)
    }
}

impl From<NotJson> for MalformedMessage {
    fn from(_: NotJson) -> Self {
        Self
    }
}

impl<'a> Payload<'a> {
    /// Takes a value apart like the payload of a message.
    #[must_use]
    pub fn new(value: Json<'a>) -> Self {
        Self::scan(&mut Scanner::new(value.text())).expect("it was checked to be JSON")
    }

    /// Reads a text once: takes its value apart like the payload of a message, or each of the value's elements, in
    /// order, if it is an array. Whether it is one.
    ///
    /// What `take` was given counts only if all of the text is JSON.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn each(text: &'a str, mut take: impl FnMut(Self)) -> Result<bool, NotJson> {
        let mut scanner = Scanner::new(text);
        let is_array = scanner.token() == b'[';
        if is_array {
            scanner.array(|scanner| Self::scan(scanner).map(&mut take))?;
        } else {
            take(Self::scan(&mut scanner)?);
        }
        scanner.end()?;
        Ok(is_array)
    }

    fn scan(scanner: &mut Scanner<'a>) -> Result<Self, NotJson> {
        if scanner.token() == b'{' {
            return Fields::scan(scanner).map(Self::Object);
        }
        Ok(if scanner.value()?.text() == "true" { Self::True } else { Self::Other })
    }
}

impl<'a> Fields<'a> {
    fn scan(scanner: &mut Scanner<'a>) -> Result<Self, NotJson> {
        let mut fields = Self::default();
        scanner.object(|scanner, key| {
            let name = key.name();
            match name.as_deref() {
                Some("data") => fields.data = Some(Data::scan(scanner)?),
                name => match name.and_then(|name| fields.named(name)) {
                    Some(field) => *field = Some(scanner.value()?),
                    None => scanner.skip()?,
                },
            }
            Ok(())
        })?;
        Ok(fields)
    }

    /// The place of the member with this name, if some request knows it.
    fn named(&mut self, name: &str) -> Option<&mut Option<Json<'a>>> {
        Some(match name {
            "channel" => &mut self.channel,
            "event" => &mut self.event,
            "user" => &mut self.user,
            "secret" => &mut self.secret,
            "token" => &mut self.token,
            "hidden" => &mut self.hidden,
            "trigger" => &mut self.trigger,
            "ref" => &mut self.reference,
            _ => return None,
        })
    }
}

/// The text of a message's payload: the value of its first key, if that is an object.
#[must_use]
pub fn payload_text(text: &str) -> Option<&str> {
    let member = members::of(text).into_iter().next()?;
    let payload = member.value.text();
    payload.starts_with('{').then_some(payload)
}

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
#[cfg(test)]
mod tests;
