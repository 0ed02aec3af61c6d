//! Channels of a backend's vhost: opened, closed, shown, and broadcast on.

use std::fmt::Write;

use axum::{
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use webrocket_state::command::{ChannelInfo, ChannelNotFound};
use webrocket_wire::{ChannelKind, ChannelName, Publication, VhostPath, presence};

use super::{
    answer::{accepted, json},
    events::{self, Event, WINDOW},
};
use crate::control::{
    refusal::Refusal,
    request::{Control, Pass, Request},
};

/// `POST /<vhost>/channels/<name>`: accepted, whether it was open already or not.
pub(super) async fn open(
    control: &Control,
    pass: Pass,
    vhost: &VhostPath,
    name: &str,
) -> Result<Response, Refusal> {
    let channel: ChannelName =
        name.parse().map_err(|error| Refusal::Invalid(format!("{name:?} is no channel name: {error}")))?;
    let location = format!("{vhost}/channels/{channel}");
    match change(control, pass, channel, true).await {
        Ok(()) | Err(Refusal::ChannelExists(_)) => {}
        Err(refusal) => return Err(refusal),
    }
    Ok(([(header::LOCATION, location)], accepted()).into_response())
}

/// `DELETE /<vhost>/channels/<name>`: accepted; its subscribers are told.
pub(super) async fn close(control: &Control, pass: Pass, name: &str) -> Result<Response, Refusal> {
    change(control, pass, known(name)?, false).await?;
    Ok(accepted())
}

/// `GET /<vhost>/channels/<name>`: `{"channel":{"name","type","subscribers":{"size"}}}`. The
/// subscribers of a presence channel are its visible members, with their `list`.
pub(super) async fn show(control: &Control, pass: Pass, name: &str) -> Result<Response, Refusal> {
    let channel = known(name)?;
    let request = |reply| Request::DescribeChannel(pass.into(), channel.clone(), reply);
    match control.ask_one(request).await? {
        Ok(channel) => Ok(json(StatusCode::OK, description(&channel))),
        Err(ChannelNotFound) => Err(Refusal::NoChannel(channel)),
    }
}

/// `POST /<vhost>/channels/<name>/events`: accepted once all events have their place in the
/// channel's order.
///
/// A channel that is closed while they are sent may have received the first of them.
pub(super) async fn broadcast(
    control: &Control,
    pass: Pass,
    name: &str,
    body: &[u8],
) -> Result<Response, Refusal> {
    let events = events::parse(body)?;
    let channel = known(name)?;
    if events.is_empty() {
        show(control, pass, name).await?;
    }
    for window in events.chunks(WINDOW) {
        let publication =
            |event: &Event<'_>| Publication::new(event.name, event.data, &channel, None).share();
        let publications = window.iter().map(publication).collect();
        let published = |reply| Request::Publish(pass, channel.clone(), publications, reply);
        let replies = control.ask_shards(published).await?;
        if replies.contains(&Err(ChannelNotFound)) {
            return Err(Refusal::NoChannel(channel));
        }
    }
    Ok(accepted())
}

async fn change(control: &Control, pass: Pass, channel: ChannelName, open: bool) -> Result<(), Refusal> {
    let caller = pass.into();
    control.ask(|reply| Request::ChangeChannel { caller, channel, open, reply }).await
}

/// The name of a channel that may exist.
fn known(name: &str) -> Result<ChannelName, Refusal> {
    name.parse().map_err(|_| Refusal::NoResource)
}

/// Written by hand: names are plain text, and members' entries stand as they are.
fn description(channel: &ChannelInfo) -> String {
    let kind = match channel.kind() {
        ChannelKind::Open => "open",
        ChannelKind::Private => "private",
        ChannelKind::Presence => "presence",
    };
    let mut text = format!(r#"{{"channel":{{"name":"{}","type":"{kind}","subscribers":{{"#, channel.name);
    match &channel.members {
        Some(members) => {
            let _ = write!(text, r#""size":{},"list":[{}]"#, members.len(), presence::list(members));
        }
        None => {
            let _ = write!(text, r#""size":{}"#, channel.subscribers);
        }
    }
    text.push_str("}}}");
    text
}
