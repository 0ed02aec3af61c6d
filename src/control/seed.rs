//! What a server started with `--dev` holds from the beginning.

use webrocket_state::{Settings, identity::Secret, settings::Anonymous};
use webrocket_wire::{ChannelName, Rights, UserName, VhostPath};

use super::random;
use crate::store::{ChannelWrite, SecretHash, Store, StoreError, VhostRecord};

/// The vhost of the demo page.
const VHOST: &str = "/demo";
/// The channels of the demo page: where everybody chats, who is there, and a room for some.
const CHANNELS: [&str; 3] = ["lobby", "presence-lobby", "private-room"];
/// Which of them a single access token lets its bearer into; a channel pattern.
pub(super) const TOKEN_CHANNELS: &str = "presence-lobby|private-room";
/// The secret of the demo users who have one.
const SECRET: &str = "demo";
/// The demo users.
const USERS: [(&str, Rights, bool); 3] =
    [("reader", Rights::READ, false), ("writer", Rights::READ_WRITE, true), ("manager", Rights::ALL, true)];

/// The vhost of the demo page.
pub(super) fn vhost() -> VhostPath {
    VHOST.parse().expect("the path is valid")
}

/// Adds the vhost `/demo`, where anonymous sessions may read and write, the users `reader`,
/// `writer` and `manager`, of whom the latter two have the secret `demo`, and the channels
/// `lobby`, `presence-lobby` and `private-room`. To be called on an empty store.
///
/// # Errors
/// The store failed.
pub fn seed_dev(store: &Store) -> Result<(), StoreError> {
    let path = vhost();
    let settings = Settings { anonymous: Anonymous::ReadWrite, ..Settings::default() };
    store.put_vhost(&path, &VhostRecord { token: random::access_token(), settings })?;
    for (name, rights, has_secret) in USERS {
        let name: UserName = name.parse().expect("the name is valid");
        let secret = has_secret.then(|| SecretHash::of_public(&Secret::new(SECRET)));
        store.add_user(&path, &name, rights, secret)?;
    }
    let opened = CHANNELS.map(|name| {
        let channel: ChannelName = name.parse().expect("the name is valid");
        ChannelWrite { vhost: path.clone(), channel, open: true }
    });
    store.write_channels(&opened)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demo_is_as_documented() {
        let store = Store::in_memory().unwrap();
        seed_dev(&store).unwrap();
        let vhosts = store.vhosts().unwrap();
        assert_eq!(vhosts.len(), 1);
        assert_eq!(vhosts[0].record.settings.anonymous, Anonymous::ReadWrite);
        let users: Vec<_> = vhosts[0].users.iter().map(|(name, user)| (name.as_str(), user.rights)).collect();
        assert_eq!(
            users,
            [("manager", Rights::ALL), ("reader", Rights::READ), ("writer", Rights::READ_WRITE)]
        );
        assert!(vhosts[0].users[0].1.secret.as_ref().unwrap().matches(&Secret::new("demo")));
        assert!(vhosts[0].users[1].1.secret.is_none());
        let channels = store.channels(&vhost()).unwrap();
        assert_eq!(channels.iter().map(ChannelName::as_str).collect::<Vec<_>>(), CHANNELS);
    }

    #[test]
    fn a_token_is_for_all_channels_that_need_one() {
        let needs_token = |name: &&str| name.starts_with("presence-") || name.starts_with("private-");
        let needing: Vec<_> = CHANNELS.into_iter().filter(needs_token).collect();
        assert_eq!(TOKEN_CHANNELS.split('|').collect::<Vec<_>>(), needing);
    }
}
