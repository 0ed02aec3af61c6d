//! Changes of vhosts, users, keys, settings and tokens: stored first, then sent to all shards and the exchange.

use std::sync::Arc;

use tokio::sync::oneshot;
use webrocket_state::{Command, Settings, exchange::ExchangeCommand, vhost::VhostId};
use webrocket_wire::{BackendKey, SingleAccessToken, UserName, VhostPath};

use super::{
    actor::Actor,
    link::{nothing, tell},
    random,
    refusal::Refusal,
    request::{Caller, NewUser, Reply, Request, Sent, SettingsChange, UserChange, VhostView},
    tokens::{TokenError, TokenRequest},
    vhosts::Entry,
};
use crate::store::{StoredVhost, UserRecord, VhostRecord};

impl Actor {
    /// Carries out a request and answers it. A caller who is gone changes nothing: the request
    /// was made.
    pub(super) async fn handle_request(&mut self, request: Request) {
        if request.is_stored() {
            // What came first is stored first.
            self.commit_channel_changes().await;
        }
        match request {
            Request::ListVhosts(reply) => answer(reply, Ok(self.vhosts.iter().map(Entry::view).collect())),
            Request::ShowVhost(path, reply) => answer(reply, self.vhosts.at(&path).map(Entry::view)),
            Request::AddVhost(path, reply) => answer(reply, self.add_vhost(path).await),
            Request::RemoveVhost(path, reply) => answer(reply, self.remove_vhost(path).await),
            Request::RegenerateToken(path, reply) => answer(reply, self.regenerate_token(path).await),
            Request::ListKeys(path, reply) => {
                answer(reply, self.vhosts.at(&path).map(|entry| Arc::clone(&entry.keys)));
            }
            Request::AddKey(path, key, reply) => answer(reply, self.add_key(path, key).await),
            Request::RemoveKey(path, key, reply) => answer(reply, self.remove_key(path, key).await),
            Request::AddUser(path, user, reply) => answer(reply, self.add_user(path, user).await),
            Request::ChangeUser(path, name, change, reply) => {
                answer(reply, self.change_user(path, name, change).await);
            }
            Request::RemoveUser(path, name, reply) => answer(reply, self.remove_user(path, name).await),
            Request::ChangeSettings(path, change, reply) => {
                answer(reply, self.change_settings(path, change).await);
            }
            Request::ListChannels(path, reply) => answer(reply, self.list_channels(&path)),
            Request::DescribeChannel(caller, channel, reply) => {
                answer(reply, self.describe_channel(&caller, channel));
            }
            Request::IssueToken(caller, request, reply) => answer(reply, self.issue_token(&caller, request)),
            Request::ChangeChannel { caller, channel, open, reply } => {
                self.queue_channel_request(&caller, channel, open, reply);
            }
            Request::Publish(pass, channel, publications, reply) => {
                answer(reply, self.publish(&pass, &channel, publications));
            }
            Request::SendMessages(pass, sid, messages, reply) => {
                answer(reply, self.send_messages(&pass, sid, &messages));
            }
            Request::OpenSource(pass, request, reply) => answer(reply, self.open_source(&pass, request)),
            Request::ListWorkers(path, reply) => answer(reply, self.list_workers(&path)),
            Request::ShowQueue(path, reply) => answer(reply, self.show_queue(&path)),
        }
    }

    async fn add_vhost(&mut self, path: VhostPath) -> Result<Sent<VhostView>, Refusal> {
        if self.vhosts.contains(&path) {
            return Err(Refusal::VhostExists(path));
        }
        let record = VhostRecord { token: random::access_token(), settings: Settings::default() };
        let stored =
            StoredVhost { path: path.clone(), record: record.clone(), users: Vec::new(), keys: Vec::new() };
        self.stored(move |store| store.put_vhost(&path, &record)).await?;
        tracing::info!(vhost = %stored.path, "vhost added");
        let entry = self.vhosts.insert(stored);
        let view = entry.view();
        self.link.ask_exchange(|ticket| entry.access(ticket), nothing());
        self.figures.vhosts.set(self.vhosts.len());
        Ok(self.send_vhost(view.clone(), view))
    }

    async fn remove_vhost(&mut self, path: VhostPath) -> Result<Sent<()>, Refusal> {
        let vhost = self.vhosts.at(&path)?.vhost.id;
        self.stored({
            let path = path.clone();
            move |store| store.remove_vhost(&path)
        })
        .await?;
        tracing::info!(vhost = %path, "vhost removed");
        self.vhosts.remove(&path);
        self.tokens.remove_vhost(vhost);
        self.figures.vhosts.set(self.vhosts.len());
        self.figures.tokens.set(self.tokens.len());
        let (told, replies) = oneshot::channel();
        self.link.ask_everybody(
            |ticket| Command::RemoveVhost { ticket, vhost },
            |ticket| ExchangeCommand::RemoveVhost { ticket, vhost },
            tell(told),
        );
        Ok(Sent { value: (), replies })
    }

    /// Shards know nothing of access tokens. Over HTTP the new one is in effect at once, over ZeroMQ
    /// once the exchange has cut off who holds the old one.
    async fn regenerate_token(&mut self, path: VhostPath) -> Result<Sent<VhostView>, Refusal> {
        let token = random::access_token();
        let record = VhostRecord { token, ..self.vhosts.at(&path)?.record() };
        self.stored({
            let path = path.clone();
            move |store| store.put_vhost(&path, &record)
        })
        .await?;
        tracing::info!(vhost = %path, "access token regenerated");
        let entry = self.vhosts.at_mut(&path)?;
        entry.token = token;
        let view = entry.view();
        self.send_access(&path, view)
    }

    async fn add_key(&mut self, path: VhostPath, key: BackendKey) -> Result<Sent<()>, Refusal> {
        self.vhosts.check_new_key(&path, &key)?;
        self.stored({
            let path = path.clone();
            move |store| store.add_key(&path, key)
        })
        .await?;
        tracing::info!(vhost = %path, %key, "key added");
        Arc::make_mut(&mut self.vhosts.at_mut(&path)?.keys).insert(key);
        self.send_access(&path, ())
    }

    async fn remove_key(&mut self, path: VhostPath, key: BackendKey) -> Result<Sent<()>, Refusal> {
        if !self.vhosts.at(&path)?.keys.contains(&key) {
            return Err(Refusal::NoKey(key));
        }
        self.stored({
            let path = path.clone();
            move |store| store.remove_key(&path, key)
        })
        .await?;
        tracing::info!(vhost = %path, %key, "key removed");
        Arc::make_mut(&mut self.vhosts.at_mut(&path)?.keys).remove(&key);
        self.send_access(&path, ())
    }

    async fn add_user(&mut self, path: VhostPath, user: NewUser) -> Result<Sent<VhostView>, Refusal> {
        if self.vhosts.at(&path)?.vhost.users.contains_key(&user.name) {
            return Err(Refusal::UserExists(user.name));
        }
        let NewUser { name, rights, secret } = user;
        let record = self
            .stored({
                let (path, name) = (path.clone(), name.clone());
                move |store| store.add_user(&path, &name, rights, secret)
            })
            .await?;
        let entry = self.vhosts.at_mut(&path)?;
        entry.put_user(name, record);
        let view = entry.view();
        Ok(self.send_vhost(view.clone(), view))
    }

    /// Keeps the user's generation: its sessions go on, under the new rights.
    async fn change_user(
        &mut self,
        path: VhostPath,
        name: UserName,
        change: UserChange,
    ) -> Result<Sent<VhostView>, Refusal> {
        let entry = self.vhosts.at(&path)?;
        let user = entry.user(&name)?;
        let secret = match change.secret {
            Some(secret) => secret,
            None => entry.secrets.get(&name).map(|hash| (**hash).clone()),
        };
        let rights = change.rights.unwrap_or(user.rights);
        let record = UserRecord { rights, secret, generation: user.generation };
        self.stored({
            let (path, name, record) = (path.clone(), name.clone(), record.clone());
            move |store| store.put_user(&path, &name, &record)
        })
        .await?;
        let entry = self.vhosts.at_mut(&path)?;
        entry.put_user(name, record);
        let view = entry.view();
        Ok(self.send_vhost(view.clone(), view))
    }

    async fn remove_user(&mut self, path: VhostPath, name: UserName) -> Result<Sent<()>, Refusal> {
        self.vhosts.at(&path)?.user(&name)?;
        self.stored({
            let (path, name) = (path.clone(), name.clone());
            move |store| store.remove_user(&path, &name)
        })
        .await?;
        let entry = self.vhosts.at_mut(&path)?;
        entry.remove_user(&name);
        let view = entry.view();
        Ok(self.send_vhost(view, ()))
    }

    async fn change_settings(
        &mut self,
        path: VhostPath,
        change: SettingsChange,
    ) -> Result<Sent<Settings>, Refusal> {
        let entry = self.vhosts.at(&path)?;
        let settings = changed(entry.vhost.settings, change)?;
        let record = VhostRecord { settings, ..entry.record() };
        self.stored({
            let path = path.clone();
            move |store| store.put_vhost(&path, &record)
        })
        .await?;
        let entry = self.vhosts.at_mut(&path)?;
        Arc::make_mut(&mut entry.vhost).settings = settings;
        let view = entry.view();
        Ok(self.send_vhost(view, settings))
    }

    fn issue_token(&mut self, caller: &Caller, request: TokenRequest) -> Result<SingleAccessToken, Refusal> {
        let vhost = self.vhosts.of_caller(caller)?.vhost.id;
        Ok(self.issue_checked(vhost, request)?)
    }

    /// Issues a token for somebody of the vhost.
    pub(super) fn issue_checked(
        &mut self,
        vhost: VhostId,
        request: TokenRequest,
    ) -> Result<SingleAccessToken, TokenError> {
        let issued = self.tokens.issue(std::time::Instant::now(), vhost, request);
        if let Err(TokenError::Full(_)) = issued {
            self.figures.tokens_refused_total.increment();
        }
        self.figures.tokens.set(self.tokens.len());
        issued
    }

    /// Sends to the exchange whom it lets in to the vhost.
    fn send_access<T>(&mut self, path: &VhostPath, value: T) -> Result<Sent<T>, Refusal> {
        let entry = self.vhosts.at(path)?;
        let (told, replies) = oneshot::channel();
        self.link.ask_exchange(|ticket| entry.access(ticket), tell(told));
        Ok(Sent { value, replies })
    }

    /// Sends a vhost's new snapshot to all shards and the exchange.
    fn send_vhost<T>(&mut self, view: VhostView, value: T) -> Sent<T> {
        let (told, replies) = oneshot::channel();
        let vhost = view.vhost;
        self.link.ask_everybody(
            |ticket| Command::PutVhost { ticket, vhost: Arc::clone(&vhost) },
            |ticket| ExchangeCommand::PutVhost { ticket, vhost: Arc::clone(&vhost) },
            tell(told),
        );
        Sent { value, replies }
    }
}

/// Answers a caller, if it still waits.
fn answer<T>(reply: Reply<T>, answer: Result<T, Refusal>) {
    let _ = reply.send(answer);
}

/// The settings with some of them changed.
fn changed(settings: Settings, change: SettingsChange) -> Result<Settings, Refusal> {
    let serde_json::Value::Object(mut all) = serde_json::to_value(settings).expect("settings are plain data")
    else {
        unreachable!("settings are an object");
    };
    for (name, value) in change {
        // Alone first: the error then names the setting.
        let alone = serde_json::Map::from_iter([(name.clone(), value.clone())]);
        serde_json::from_value::<Settings>(alone.into())
            .map_err(|error| Refusal::Invalid(format!("the setting {name} cannot be set: {error}")))?;
        all.insert(name, value);
    }
    let settings: Settings =
        serde_json::from_value(all.into()).map_err(|error| Refusal::Invalid(error.to_string()))?;
    settings.check().map_err(|error| Refusal::Invalid(error.to_string()))?;
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn change(value: &serde_json::Value) -> Result<Settings, String> {
        let before = Settings { channels_max: 5, ..Settings::default() };
        changed(before, value.as_object().unwrap().clone()).map_err(|refusal| refusal.to_string())
    }

    #[test]
    fn only_the_named_settings_change() {
        let settings = change(&json!({"anonymous": "read", "subscriptions_max": 9})).unwrap();
        assert_eq!((settings.channels_max, settings.subscriptions_max), (5, 9));
    }

    #[test]
    fn a_bad_setting_is_named() {
        let text = change(&json!({"channels_max": 1, "colour": 1})).unwrap_err();
        assert!(text.starts_with("the setting colour cannot be set: unknown field"), "{text}");
        let text = change(&json!({"channels_max": "many"})).unwrap_err();
        assert!(text.starts_with("the setting channels_max cannot be set: invalid type"), "{text}");
        let text = change(&json!({"channels_max": 4_000_000_000u32})).unwrap_err();
        assert!(text.starts_with("channels_max is 4000000000, but"), "{text}");
        assert!(change(&json!({"channels_max": null})).is_err());
    }
}
