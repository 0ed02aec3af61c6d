//! What holds of any bytes that stand in a store.

use super::{
    format::{FORMAT, META},
    *,
};

/// Between entries of an input. No UTF-8 text has this byte, nor the next.
const BETWEEN: u8 = 0xff;
/// Between the parts of an entry.
const WITHIN: u8 = 0xfe;

/// `input` is the record of a vhost or a user.
pub fn record(input: &[u8]) {
    match VhostRecord::from_bytes(input) {
        Ok(VhostRecord { token, settings }) => {
            let bytes = VhostRecord { token, settings }.to_bytes();
            let again = VhostRecord::from_bytes(&bytes).expect("what is written is read");
            assert_eq!((again.token, again.settings), (token, settings));
        }
        Err(error) => names_no_content(&error),
    }
    match UserRecord::from_bytes(input) {
        Ok(record) => assert_eq!(UserRecord::from_bytes(&record.to_bytes()).expect("as above"), record),
        Err(error) => names_no_content(&error),
    }
}

/// What cannot be read may be a secret.
fn names_no_content(error: &BadRecord) {
    let why = &*error.0;
    let is_place = why.strip_prefix("column ").is_some_and(|column| column.parse::<usize>().is_ok());
    assert!(is_place || why.starts_with("the ") || why == NoSecretHash.to_string(), "{why}");
}

/// `input` is what stands in a store: entries with [`BETWEEN`] between them, each a letter for the table and then key
/// and value, with [`WITHIN`] between their parts.
pub fn store(input: &[u8]) {
    let database = Database::builder().create_with_backend(InMemoryBackend::new()).expect("memory");
    let transaction = database.begin_write().expect("a transaction");
    for entry in input.split(|byte| *byte == BETWEEN) {
        insert(&transaction, entry).expect("memory");
    }
    transaction.commit().expect("memory");
    if let Ok(store) = Store::with(database, PathBuf::from("(in memory)")) {
        what_is_read_can_be_changed(&store).expect("what is read can be changed");
    }
}

fn insert(transaction: &WriteTransaction, entry: &[u8]) -> Result<(), StoreError> {
    let Some((table, entry)) = entry.split_first() else { return Ok(()) };
    let parts: Vec<&[u8]> = entry.split(|byte| *byte == WITHIN).collect();
    let text = |index: usize| parts.get(index).and_then(|part| std::str::from_utf8(part).ok());
    let number = || text(0)?.parse::<u64>().ok();
    match (table, text(0), text(1), parts.as_slice()) {
        (b'f', ..) => {
            if let Some(format) = number() {
                transaction.open_table(META)?.insert(FORMAT, format)?;
            }
        }
        (b'g', ..) => {
            if let Some(generation) = number() {
                transaction.open_table(META)?.insert(NEXT_GENERATION, generation)?;
            }
        }
        (b'v', Some(path), _, [_, record]) => {
            transaction.open_table(VHOSTS)?.insert(path, *record)?;
        }
        (b'u', Some(path), Some(name), [_, _, record]) => {
            transaction.open_table(USERS)?.insert((path, name), *record)?;
        }
        (b'c', Some(path), Some(name), [_, _]) => {
            transaction.open_table(CHANNELS)?.insert((path, name), ())?;
        }
        (b'k', Some(path), Some(key), [_, _]) => {
            transaction.open_table(KEYS)?.insert((path, key), ())?;
        }
        _ => {}
    }
    Ok(())
}

/// A store that a node could start with takes every change; a vhost that is removed leaves nothing.
fn what_is_read_can_be_changed(store: &Store) -> Result<(), StoreError> {
    let Ok(vhosts) = store.vhosts() else { return Ok(()) };
    for vhost in &vhosts {
        let Ok(channels) = store.channels(&vhost.path) else { return Ok(()) };
        store.put_vhost(&vhost.path, &vhost.record)?;
        for (name, record) in &vhost.users {
            store.put_user(&vhost.path, name, record)?;
        }
        for key in &vhost.keys {
            store.add_key(&vhost.path, *key)?;
        }
        let open = |channel| ChannelWrite { vhost: vhost.path.clone(), channel, open: true };
        let writes: Vec<_> = channels.into_iter().map(open).collect();
        assert_eq!(store.write_channels(&writes)?, vec![false; writes.len()], "all are there already");
    }
    assert_eq!(format!("{:?}", store.vhosts()?), format!("{vhosts:?}"), "what was written was there already");
    for vhost in &vhosts {
        store.remove_vhost(&vhost.path)?;
        assert_eq!(store.channels(&vhost.path)?, []);
    }
    assert!(store.vhosts()?.is_empty());
    if let Some(vhost) = vhosts.first() {
        store.put_vhost(&vhost.path, &vhost.record)?;
        let joe: UserName = "joe".parse().expect("a name");
        let added = store.add_user(&vhost.path, &joe, Rights::READ, None);
        let left = store.vhosts()?;
        assert_eq!((left.len(), left[0].keys.len()), (1, 0));
        assert_eq!(left[0].users, added.into_iter().map(|record| (joe.clone(), record)).collect::<Vec<_>>());
    }
    Ok(())
}
