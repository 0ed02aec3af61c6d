//! Channels of a vhost, as their owners see them now.

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::{Value, json};
use webrocket_state::command::{ChannelInfo, ChannelNotFound};
use webrocket_wire::ChannelName;

use super::{answer::created, body::Body, names::name, state::Shared, vhosts};
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
    let of_shards = api.control.ask_shards(|reply| Request::ListChannels(path, reply)).await?;
    let mut channels = of_shards.concat();
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
    let asked = api.control.ask_one(|reply| Request::DescribeChannel(caller, name.clone(), reply));
    match asked.await? {
        Ok(channel) => Ok(Json(description(&channel))),
        Err(ChannelNotFound) => Err(Refusal::NoChannel(name)),
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
