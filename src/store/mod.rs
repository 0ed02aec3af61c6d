//! What outlives the process: vhosts, their users, keys, settings and explicitly opened channels.
//!
//! One redb database in the data directory, or in memory (`--dev`). Every change is durable when
//! its method returns. Methods block for some milliseconds; the control thread, the only writer,
//! runs them aside. The store checks nothing twice: whether a user's vhost exists is its caller's
//! business. Single access tokens are not here: a restart voids them.

mod error;
mod format;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod record;
mod secret;

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use redb::{
    Database, DatabaseError, Durability, ReadableDatabase, ReadableTable, StorageError, WriteTransaction,
    backends::InMemoryBackend,
};
use webrocket_wire::{BackendKey, ChannelName, Rights, UserName, VhostPath};

pub use error::StoreError;
pub use record::{ChannelWrite, StoredVhost, UserRecord, VhostRecord};
pub use secret::{NoSecretHash, SecretHash};

use format::{CHANNELS, KEYS, META, NEXT_GENERATION, USERS, VHOSTS};
use record::BadRecord;

/// The database's name in the data directory.
pub const FILE_NAME: &str = "webrocket.redb";

/// Memory for pages of the database, in bytes. It is small and read once.
const CACHE_BYTES: usize = 16 << 20;

/// The store. Clones share it.
#[derive(Debug, Clone)]
pub struct Store {
    database: Arc<Database>,
    file: Arc<Path>,
}

impl Store {
    /// Opens the store in `directory`; makes both where they do not exist.
    ///
    /// The file is readable by its owner only: it holds access tokens.
    ///
    /// # Errors
    /// The directory or the file cannot be used, another process has it open, it is damaged, or
    /// a later version of WebRocket wrote it.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        let path = directory.join(FILE_NAME);
        let file = open_file(directory, &path)?;
        let database = Database::builder().set_cache_size(CACHE_BYTES).create_file(file);
        Self::with(database.map_err(|error| opening_failed(error, &path))?, path)
    }

    /// A store that forgets everything at the end of the process.
    ///
    /// # Errors
    /// None that is known.
    pub fn in_memory() -> Result<Self, StoreError> {
        let path = PathBuf::from("(in memory)");
        let database = Database::builder().create_with_backend(InMemoryBackend::new());
        Self::with(database.map_err(|error| opening_failed(error, &path))?, path)
    }

    fn with(database: Database, file: PathBuf) -> Result<Self, StoreError> {
        format::prepare(&database, &file)?;
        Ok(Self { database: Arc::new(database), file: file.into() })
    }

    /// All vhosts with their users and keys, by path.
    ///
    /// # Errors
    /// The store failed.
    pub fn vhosts(&self) -> Result<Vec<StoredVhost>, StoreError> {
        let transaction = self.database.begin_read()?;
        let users = transaction.open_table(USERS)?;
        let keys = transaction.open_table(KEYS)?;
        let mut vhosts = Vec::new();
        for entry in transaction.open_table(VHOSTS)?.iter()? {
            let (path, record) = entry?;
            let path: VhostPath = self.name(path.value())?;
            let record = self.read(VhostRecord::from_bytes(record.value()))?;
            let mut of_vhost = Vec::new();
            for entry in users.range(below(path.as_str()))? {
                let (key, record) = entry?;
                of_vhost
                    .push((self.name(key.value().1)?, self.read(UserRecord::from_bytes(record.value()))?));
            }
            let mut its_keys = Vec::new();
            for entry in keys.range(below(path.as_str()))? {
                its_keys.push(self.name(entry?.0.value().1)?);
            }
            vhosts.push(StoredVhost { path, record, users: of_vhost, keys: its_keys });
        }
        Ok(vhosts)
    }

    /// The explicitly opened channels of a vhost, by name.
    ///
    /// # Errors
    /// The store failed.
    pub fn channels(&self, vhost: &VhostPath) -> Result<Vec<ChannelName>, StoreError> {
        let table = self.database.begin_read()?.open_table(CHANNELS)?;
        let mut channels = Vec::new();
        for entry in table.range(below(vhost.as_str()))? {
            channels.push(self.name(entry?.0.value().1)?);
        }
        Ok(channels)
    }

    /// Adds a vhost, or replaces its token and settings.
    ///
    /// # Errors
    /// The store failed; nothing changed.
    pub fn put_vhost(&self, vhost: &VhostPath, record: &VhostRecord) -> Result<(), StoreError> {
        self.write(|transaction| {
            transaction.open_table(VHOSTS)?.insert(vhost.as_str(), record.to_bytes().as_slice())?;
            Ok(())
        })
    }

    /// Removes a vhost with its users, keys and channels.
    ///
    /// # Errors
    /// The store failed; nothing changed.
    pub fn remove_vhost(&self, vhost: &VhostPath) -> Result<(), StoreError> {
        self.write(|transaction| {
            transaction.open_table(VHOSTS)?.remove(vhost.as_str())?;
            transaction.open_table(USERS)?.retain_in(below(vhost.as_str()), |_, _| false)?;
            transaction.open_table(CHANNELS)?.retain_in(below(vhost.as_str()), |_, ()| false)?;
            transaction.open_table(KEYS)?.retain_in(below(vhost.as_str()), |_, ()| false)?;
            Ok(())
        })
    }

    /// Adds a user under a generation that no user has had.
    ///
    /// # Errors
    /// The store failed; nothing changed.
    pub fn add_user(
        &self,
        vhost: &VhostPath,
        name: &UserName,
        rights: Rights,
        secret: Option<SecretHash>,
    ) -> Result<UserRecord, StoreError> {
        self.write(|transaction| {
            let mut meta = transaction.open_table(META)?;
            let generation = meta.get(NEXT_GENERATION)?.map_or(1, |next| next.value());
            let next = generation.checked_add(1);
            meta.insert(
                NEXT_GENERATION,
                next.ok_or_else(|| self.corrupt("no generation is left".to_owned()))?,
            )?;
            let record = UserRecord { rights, secret, generation };
            let key = (vhost.as_str(), name.as_str());
            transaction.open_table(USERS)?.insert(key, record.to_bytes().as_slice())?;
            Ok(record)
        })
    }

    /// Replaces a user's record.
    ///
    /// # Errors
    /// The store failed; nothing changed.
    pub fn put_user(
        &self,
        vhost: &VhostPath,
        name: &UserName,
        record: &UserRecord,
    ) -> Result<(), StoreError> {
        self.write(|transaction| {
            let key = (vhost.as_str(), name.as_str());
            transaction.open_table(USERS)?.insert(key, record.to_bytes().as_slice())?;
            Ok(())
        })
    }

    /// Removes a user.
    ///
    /// # Errors
    /// The store failed; nothing changed.
    pub fn remove_user(&self, vhost: &VhostPath, name: &UserName) -> Result<(), StoreError> {
        self.write(|transaction| {
            transaction.open_table(USERS)?.remove((vhost.as_str(), name.as_str()))?;
            Ok(())
        })
    }

    /// Adds a key of a vhost's backends.
    ///
    /// # Errors
    /// The store failed; nothing changed.
    pub fn add_key(&self, vhost: &VhostPath, key: BackendKey) -> Result<(), StoreError> {
        self.write(|transaction| {
            let key = key.to_string();
            transaction.open_table(KEYS)?.insert((vhost.as_str(), key.as_str()), ())?;
            Ok(())
        })
    }

    /// Removes a key of a vhost's backends.
    ///
    /// # Errors
    /// The store failed; nothing changed.
    pub fn remove_key(&self, vhost: &VhostPath, key: BackendKey) -> Result<(), StoreError> {
        self.write(|transaction| {
            let key = key.to_string();
            transaction.open_table(KEYS)?.remove((vhost.as_str(), key.as_str()))?;
            Ok(())
        })
    }

    /// Writes several channels at once, in order: one transaction costs as much as one channel.
    /// Says of each whether that changed anything.
    ///
    /// # Errors
    /// The store failed; nothing changed.
    pub fn write_channels(&self, writes: &[ChannelWrite]) -> Result<Vec<bool>, StoreError> {
        self.write(|transaction| {
            let mut table = transaction.open_table(CHANNELS)?;
            let mut changed = Vec::with_capacity(writes.len());
            for write in writes {
                let key = (write.vhost.as_str(), write.channel.as_str());
                changed.push(if write.open {
                    table.insert(key, ())?.is_none()
                } else {
                    table.remove(key)?.is_some()
                });
            }
            Ok(changed)
        })
    }

    /// Runs `change` in one transaction that is durable once this returns.
    fn write<T>(
        &self,
        change: impl FnOnce(&WriteTransaction) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        let result = change(&transaction)?;
        transaction.commit()?;
        Ok(result)
    }

    fn name<N: std::str::FromStr>(&self, text: &str) -> Result<N, StoreError> {
        text.parse().map_err(|_| self.corrupt(format!("{text:?} is no name")))
    }

    fn read<T>(&self, record: Result<T, BadRecord>) -> Result<T, StoreError> {
        record.map_err(|error| self.corrupt(error.to_string()))
    }

    fn corrupt(&self, detail: String) -> StoreError {
        StoreError::Corrupt { file: self.file.to_path_buf(), detail }
    }
}

/// The entries of one vhost. Names and keys are printable ASCII, so DEL is above all of them.
fn below(vhost: &str) -> std::ops::RangeInclusive<(&str, &str)> {
    (vhost, "")..=(vhost, "\u{7f}")
}

/// Opens or makes the database file, closed to everybody but its owner.
fn open_file(directory: &Path, path: &Path) -> Result<File, StoreError> {
    let unusable = |source| StoreError::Directory { directory: directory.to_owned(), source };
    fs::create_dir_all(directory).map_err(unusable)?;
    let new = !path.exists();
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let file = options.open(path).map_err(|source| {
        if new { unusable(source) } else { StoreError::File { file: path.to_owned(), source } }
    })?;
    let secured = file.metadata().and_then(|metadata| {
        if metadata.permissions().mode() & 0o077 != 0 {
            file.set_permissions(Permissions::from_mode(0o600))
        } else {
            Ok(())
        }
    });
    secured.map_err(|source| StoreError::File { file: path.to_owned(), source })?;
    if new {
        File::open(directory).and_then(|directory| directory.sync_all()).map_err(unusable)?;
    }
    Ok(file)
}

fn opening_failed(error: DatabaseError, path: &Path) -> StoreError {
    let file = path.to_owned();
    match error {
        DatabaseError::DatabaseAlreadyOpen => StoreError::Locked { file },
        DatabaseError::Storage(StorageError::Io(source)) if source.kind() != io::ErrorKind::InvalidData => {
            StoreError::File { file, source }
        }
        other => StoreError::Corrupt { file, detail: other.to_string() },
    }
}

#[cfg(test)]
mod tests;
