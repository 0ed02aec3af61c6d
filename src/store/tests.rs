use super::*;
use webrocket_state::{Settings, identity::Secret, settings::Anonymous};
use webrocket_wire::AccessToken;

fn path(text: &str) -> VhostPath {
    text.parse().unwrap()
}

fn user(text: &str) -> UserName {
    text.parse().unwrap()
}

fn key(byte: u8) -> BackendKey {
    BackendKey::from_bytes([byte; 32])
}

fn write(vhost: &str, channel: &str, open: bool) -> ChannelWrite {
    ChannelWrite { vhost: path(vhost), channel: channel.parse().unwrap(), open }
}

fn record(byte: u8) -> VhostRecord {
    let settings = Settings { anonymous: Anonymous::Read, channels_max: 7, ..Settings::default() };
    VhostRecord { token: AccessToken::from_bytes([byte; 20]), settings }
}

#[test]
fn what_was_stored_is_there_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    store.put_vhost(&path("/a"), &record(1)).unwrap();
    store.put_vhost(&path("/a/b"), &record(2)).unwrap();
    let secret = SecretHash::of(&Secret::new("pw"));
    let joe = store.add_user(&path("/a"), &user("joe"), Rights::READ, Some(secret)).unwrap();
    store.add_user(&path("/a"), &user("eve"), Rights::READ, None).unwrap();
    let ann = store.add_user(&path("/a/b"), &user("ann"), Rights::ALL, None).unwrap();
    store.remove_user(&path("/a"), &user("eve")).unwrap();
    for (vhost, byte) in [("/a", 9), ("/a", 1), ("/a", 9), ("/a", 2), ("/a/b", 3)] {
        store.add_key(&path(vhost), key(byte)).unwrap();
    }
    store.remove_key(&path("/a"), key(2)).unwrap();
    assert_eq!(
        store
            .write_channels(&[write("/a", "x", true), write("/a", "y", true), write("/a", "x", true)])
            .unwrap(),
        [true, true, false]
    );
    let closed = [write("/a", "z", true), write("/a", "z", false), write("/a", "never", false)];
    assert_eq!(store.write_channels(&closed).unwrap(), [true, true, false]);
    drop(store);

    let store = Store::open(directory.path()).unwrap();
    let vhosts = store.vhosts().unwrap();
    assert_eq!(vhosts.iter().map(|vhost| vhost.path.as_str()).collect::<Vec<_>>(), ["/a", "/a/b"]);
    assert_eq!(vhosts[0].record.token, record(1).token);
    assert_eq!(vhosts[0].record.settings, record(1).settings);
    assert_eq!(vhosts[0].users, [(user("joe"), joe)]);
    assert_eq!(vhosts[1].users, [(user("ann"), ann)]);
    assert_eq!((&*vhosts[0].keys, &*vhosts[1].keys), (&[key(1), key(9)][..], &[key(3)][..]));
    let channels = store.channels(&path("/a")).unwrap();
    assert_eq!(channels.iter().map(ChannelName::as_str).collect::<Vec<_>>(), ["x", "y"]);
    assert_eq!(store.channels(&path("/a/b")).unwrap(), []);
}

#[test]
fn a_removed_vhost_leaves_nothing_and_takes_nothing_else() {
    let store = Store::in_memory().unwrap();
    for vhost in ["/a", "/a-b", "/a/b"] {
        store.put_vhost(&path(vhost), &record(1)).unwrap();
        store.add_user(&path(vhost), &user("joe"), Rights::READ, None).unwrap();
        store.write_channels(&[write(vhost, "x", true)]).unwrap();
        store.add_key(&path(vhost), key(1)).unwrap();
    }
    store.remove_vhost(&path("/a")).unwrap();
    store.put_vhost(&path("/a"), &record(1)).unwrap();
    let vhosts = store.vhosts().unwrap();
    assert_eq!(
        vhosts.iter().map(|vhost| (vhost.users.len(), vhost.keys.len())).collect::<Vec<_>>(),
        [(0, 0), (1, 1), (1, 1)]
    );
    assert_eq!(store.channels(&path("/a")).unwrap(), []);
    assert_eq!(store.channels(&path("/a-b")).unwrap().len(), 1);
}

#[test]
fn a_generation_is_given_once() {
    let directory = tempfile::tempdir().unwrap();
    let mut given = Vec::new();
    for _ in 0..3 {
        let store = Store::open(directory.path()).unwrap();
        given.push(store.add_user(&path("/a"), &user("joe"), Rights::READ, None).unwrap().generation);
        store.remove_user(&path("/a"), &user("joe")).unwrap();
    }
    assert_eq!(given, [1, 2, 3]);
}

/// Only a damaged store says so, and a generation must not be given twice.
#[test]
fn without_a_generation_no_user_is_added() {
    let store = Store::in_memory().unwrap();
    store
        .write(|transaction| Ok(transaction.open_table(META)?.insert(NEXT_GENERATION, u64::MAX)?.is_some()))
        .unwrap();
    let error = store.add_user(&path("/a"), &user("joe"), Rights::READ, None).unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
}

#[test]
fn the_file_is_closed_to_others() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join(FILE_NAME);
    drop(Store::open(directory.path()).unwrap());
    let mode = || fs::metadata(&file).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(), 0o600);
    fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
    drop(Store::open(directory.path()).unwrap());
    assert_eq!(mode(), 0o600);
}

#[test]
fn a_store_in_use_and_a_damaged_one_are_told() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    assert!(matches!(Store::open(directory.path()), Err(StoreError::Locked { .. })));
    drop(store);
    for damaged in [b"no database".to_vec(), vec![0; 8192], b"x".repeat(100_000)] {
        fs::write(directory.path().join(FILE_NAME), damaged).unwrap();
        let error = Store::open(directory.path()).unwrap_err();
        assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
    }
}

#[test]
fn a_directory_that_cannot_be_used_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    let error = Store::open(&file.join("data")).unwrap_err();
    assert!(error.to_string().starts_with("the data directory "), "{error}");
}
