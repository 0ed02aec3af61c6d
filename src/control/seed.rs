//! What a server started with `--dev` holds from the beginning.

use webrocket_state::{Settings, message::Secret, settings::Anonymous};
use webrocket_wire::{Rights, UserName, VhostPath};

use super::random;
use crate::store::{SecretHash, Store, StoreError, VhostRecord};

/// The vhost of the demo page.
const VHOST: &str = "/demo";
/// The secret of the demo users who have one.
const SECRET: &str = "demo";
/// The demo users.
const USERS: [(&str, Rights, bool); 3] =
    [("reader", Rights::READ, false), ("writer", Rights::READ_WRITE, true), ("manager", Rights::ALL, true)];

/// Adds the vhost `/demo`, where anonymous sessions may read and write, and the users `reader`,
/// `writer` and `manager`; the latter two have the secret `demo`. To be called on an empty store.
///
/// # Errors
/// The store failed.
pub fn seed_dev(store: &Store) -> Result<(), StoreError> {
    let path: VhostPath = VHOST.parse().expect("the path is valid");
    let settings = Settings { anonymous: Anonymous::ReadWrite, ..Settings::default() };
    store.put_vhost(&path, &VhostRecord { token: random::access_token(), settings })?;
    for (name, rights, has_secret) in USERS {
        let name: UserName = name.parse().expect("the name is valid");
        let secret = has_secret.then(|| SecretHash::of_public(&Secret::new(SECRET)));
        store.add_user(&path, &name, rights, secret)?;
    }
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
    }
}
