//! The store's tables, their format version, and the way from an earlier version to this one.
//!
//! | table | key | value |
//! | --- | --- | --- |
//! | `meta` | `format`, `next_generation` | a number |
//! | `vhosts` | path | JSON: access token, settings |
//! | `users` | path, name | JSON: rights, secret's hash, generation |
//! | `channels` | path, name | nothing: the key says that the channel is open |
//! | `keys` | path, public key in Z85 | nothing: backends with this key are the vhost's |

use std::path::Path;

use redb::{Database, ReadableDatabase, TableDefinition, TableHandle, WriteTransaction};

use super::StoreError;

pub(super) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
pub(super) const VHOSTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("vhosts");
pub(super) const USERS: TableDefinition<'_, (&str, &str), &[u8]> = TableDefinition::new("users");
pub(super) const CHANNELS: TableDefinition<'_, (&str, &str), ()> = TableDefinition::new("channels");
pub(super) const KEYS: TableDefinition<'_, (&str, &str), ()> = TableDefinition::new("keys");

/// Key in [`META`]: the format version.
pub(super) const FORMAT: &str = "format";
/// Key in [`META`]: the generation of the next user that is added.
pub(super) const NEXT_GENERATION: &str = "next_generation";

/// Changes a store of one format into the next.
type Upgrade = fn(&WriteTransaction) -> Result<(), StoreError>;

/// The upgrade at index `n` leads from format `n + 1` to `n + 2`.
const UPGRADES: &[Upgrade] = &[add_keys];

/// The format that this version writes.
#[cfg(test)]
pub(super) const CURRENT: u64 = UPGRADES.len() as u64 + 1;

/// Makes the tables of a new store, upgrades an older one, refuses a newer one. All in one
/// transaction: a crash leaves the store as it was.
pub(super) fn prepare(database: &Database, file: &Path) -> Result<(), StoreError> {
    prepare_with(database, file, UPGRADES)
}

fn prepare_with(database: &Database, file: &Path, upgrades: &[Upgrade]) -> Result<(), StoreError> {
    let current = upgrades.len() as u64 + 1;
    let found = found(database, file)?;
    if found == Some(current) {
        return Ok(());
    }
    let transaction = database.begin_write()?;
    match found {
        Some(found) if found > current => {
            return Err(StoreError::Newer { file: file.to_owned(), found, known: current });
        }
        Some(found) => {
            let done = usize::try_from(found - 1).expect("below the number of upgrades");
            for (upgrade, from) in upgrades[done..].iter().zip(found..) {
                tracing::info!(from, to = from + 1, "upgrading the store");
                upgrade(&transaction)?;
            }
        }
        None => {
            transaction.open_table(VHOSTS)?;
            transaction.open_table(USERS)?;
            transaction.open_table(CHANNELS)?;
            transaction.open_table(KEYS)?;
            transaction.open_table(META)?.insert(NEXT_GENERATION, 1)?;
        }
    }
    transaction.open_table(META)?.insert(FORMAT, current)?;
    transaction.commit()?;
    Ok(())
}

/// To format 2: vhosts have keys of backends.
fn add_keys(transaction: &WriteTransaction) -> Result<(), StoreError> {
    transaction.open_table(KEYS)?;
    Ok(())
}

/// The store's format; none if it is new.
fn found(database: &Database, file: &Path) -> Result<Option<u64>, StoreError> {
    let corrupt = |detail: &str| StoreError::Corrupt { file: file.to_owned(), detail: detail.to_owned() };
    let transaction = database.begin_read()?;
    let mut tables = transaction.list_tables()?;
    if !tables.any(|table| table.name() == META.name()) {
        let empty = transaction.list_tables()?.next().is_none();
        return if empty { Ok(None) } else { Err(corrupt("it holds something else")) };
    }
    match transaction.open_table(META)?.get(FORMAT)?.map(|version| version.value()) {
        Some(version) if version > 0 => Ok(Some(version)),
        _ => Err(corrupt("its format is unknown")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use redb::{ReadableTable, backends::InMemoryBackend};

    fn database() -> Database {
        Database::builder().create_with_backend(InMemoryBackend::new()).unwrap()
    }

    fn format(database: &Database) -> u64 {
        found(database, Path::new("test")).unwrap().unwrap()
    }

    #[test]
    fn a_newer_format_is_refused() {
        let database = database();
        prepare(&database, Path::new("test")).unwrap();
        let transaction = database.begin_write().unwrap();
        transaction.open_table(META).unwrap().insert(FORMAT, CURRENT + 1).unwrap();
        transaction.commit().unwrap();
        let error = prepare(&database, Path::new("test")).unwrap_err();
        assert!(
            matches!(error, StoreError::Newer { found, known: CURRENT, .. } if found == CURRENT + 1),
            "{error}"
        );
        assert_eq!(format(&database), CURRENT + 1, "nothing was changed");
    }

    #[test]
    fn an_older_format_is_upgraded_step_by_step() {
        fn add(transaction: &WriteTransaction, amount: u64) -> Result<(), StoreError> {
            let mut meta = transaction.open_table(META)?;
            let before = meta.get("steps")?.map_or(0, |steps| steps.value());
            meta.insert("steps", before * 10 + amount)?;
            Ok(())
        }
        let database = database();
        prepare_with(&database, Path::new("test"), &[]).unwrap();
        prepare_with(&database, Path::new("test"), &[|t| add(t, 1), |t| add(t, 2)]).unwrap();
        prepare_with(&database, Path::new("test"), &[|t| add(t, 1), |t| add(t, 2), |t| add(t, 3)]).unwrap();
        assert_eq!(format(&database), 4);
        let meta = database.begin_read().unwrap().open_table(META).unwrap();
        assert_eq!(meta.get("steps").unwrap().unwrap().value(), 123);
    }

    /// The tables of format 1 had no keys.
    #[test]
    fn a_store_without_keys_gets_room_for_them() {
        let database = database();
        let transaction = database.begin_write().unwrap();
        transaction.open_table(VHOSTS).unwrap().insert("/a", &b"{}"[..]).unwrap();
        transaction.open_table(META).unwrap().insert(FORMAT, 1).unwrap();
        transaction.commit().unwrap();
        prepare(&database, Path::new("test")).unwrap();
        assert_eq!(format(&database), CURRENT);
        let transaction = database.begin_read().unwrap();
        assert_eq!(transaction.open_table(KEYS).unwrap().iter().unwrap().count(), 0);
        assert_eq!(transaction.open_table(VHOSTS).unwrap().get("/a").unwrap().unwrap().value(), b"{}");
    }

    #[test]
    fn another_programs_database_is_refused() {
        let database = database();
        let transaction = database.begin_write().unwrap();
        transaction.open_table(TableDefinition::<&str, u64>::new("songs")).unwrap();
        transaction.commit().unwrap();
        assert!(matches!(prepare(&database, Path::new("test")), Err(StoreError::Corrupt { .. })));
    }
}
