//! Channels of a vhost, as their owners see them now.

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::{Value, json};
use webrocket_state::message::{ChannelInfo, Outcome};
use webrocket_wire::ChannelName;

use super::{Shared, body::Body, created, name, vhosts};
use crate::control::{refusal::Refusal, request::Request};

/// The body of `POST …/channels`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Open {
    name: String,
}

/// `GET …/channels`: `{"channels": [{"name", "type", "opened", "subscribers": {"size"}}, …]}`,
/// by name, those included that exist only while they are subscribed.
pub(super) async fn list(
    State(api): Shared,
    Path(vhost): Path<String>,
) -> Result<impl IntoResponse, Refusal> {
    let path = vhosts::path(&vhost)?;
    let mut channels = Vec::new();
    for outcome in api.control.ask_shards(|reply| Request::ListChannels(path, reply)).await? {
        match outcome {
            Outcome::Channels(of_shard) => channels.extend(of_shard),
            Outcome::VhostNotFound => return Err(Refusal::NoResource),
            other => unreachable!("a list of channels was asked for, not {other:?}"),
        }
    }
    channels.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    let channels: Vec<_> = channels.iter().map(description).collect();
    Ok(Json(json!({ "channels": channels })))
}

/// `POST …/channels`: `{"name", "type"}`. The channel stays until it is closed.
pub(super) async fn open(
    State(api): Shared,
    Path(vhost): Path<String>,
    Body(body): Body<Open>,
) -> Result<Response, Refusal> {
    let caller = vhosts::path(&vhost)?.into();
    let name: ChannelName = channel_name(&body.name)?;
    let channel = name.clone();
    api.control.ask(|reply| Request::ChangeChannel { caller, channel, open: true, reply }).await?;
    let made = json!({ "name": name, "type": name.kind() });
    Ok(created(&["vhosts", &vhost, "channels", name.as_str()], made))
}

/// `GET …/channels/<name>`: `{"name", "type", "opened", "subscribers": {"size"}, "members"?}`;
/// `members` are the visible `uid`s of a presence channel in order of joining.
pub(super) async fn show(
    State(api): Shared,
    Path((vhost, name)): Path<(String, String)>,
) -> Result<impl IntoResponse, Refusal> {
    let caller = vhosts::path(&vhost)?.into();
    let name = channel_name(&name)?;
    let asked = api.control.ask_shards(|reply| Request::DescribeChannel(caller, name.clone(), reply));
    match asked.await?.pop() {
        Some(Outcome::Channel(channel)) => Ok(Json(description(&channel))),
        Some(Outcome::ChannelNotFound | Outcome::VhostNotFound) => Err(Refusal::NoChannel(name)),
        other => unreachable!("a channel was asked for, not {other:?}"),
    }
}

/// `DELETE …/channels/<name>`: its subscribers are told.
pub(super) async fn close(
    State(api): Shared,
    Path((vhost, name)): Path<(String, String)>,
) -> Result<impl IntoResponse, Refusal> {
    let caller = vhosts::path(&vhost)?.into();
    let channel = channel_name(&name)?;
    api.control.ask(|reply| Request::ChangeChannel { caller, channel, open: false, reply }).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn channel_name(text: &str) -> Result<ChannelName, Refusal> {
    name("channel name", text)
}

fn description(channel: &ChannelInfo) -> Value {
    let mut description = json!({
        "name": channel.name,
        "type": channel.kind(),
        "opened": channel.opened,
        "subscribers": { "size": channel.subscribers },
    });
    if let Some(members) = &channel.members {
        description["members"] = members.iter().map(|member| Value::from(&*member.uid)).collect();
    }
    description
}
