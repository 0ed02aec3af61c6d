//! What can go wrong with the store, each in one sentence that says what to do.

use std::{io, path::PathBuf};

/// The store cannot be opened, read or changed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The data directory cannot be made or written.
    #[error("the data directory {} cannot be used: {source}; make it writable or name another one", .directory.display())]
    Directory {
        /// The directory.
        directory: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The database file cannot be opened.
    #[error("the store {} cannot be opened: {source}", .file.display())]
    File {
        /// The database file.
        file: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Another process has the store open.
    #[error("the store {} is in use by another process; stop that one or name another data directory", .file.display())]
    Locked {
        /// The database file.
        file: PathBuf,
    },
    /// A later version of WebRocket wrote the store.
    #[error(
        "the store {} has format {found}, but this version of WebRocket knows formats up to {known}; use the version that wrote it or a later one",
        .file.display()
    )]
    Newer {
        /// The database file.
        file: PathBuf,
        /// The format of the store.
        found: u64,
        /// The latest format that this version knows.
        known: u64,
    },
    /// The file is no store, or a damaged one.
    #[error("the store {} is damaged ({detail}); restore it from a backup or move it away", .file.display())]
    Corrupt {
        /// The database file.
        file: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// Reading or writing failed while the store was in use; nothing changed.
    #[error("the store failed: {0}")]
    Failed(#[source] Box<redb::Error>),
}

/// The errors of single steps all mean the same here: the store failed.
macro_rules! failed_from {
    ($($error:ty),*) => {
        $(impl From<$error> for StoreError {
            fn from(error: $error) -> Self {
                Self::Failed(Box::new(error.into()))
            }
        })*
    };
}

failed_from!(
    redb::TransactionError,
    redb::TableError,
    redb::StorageError,
    redb::CommitError,
    redb::SetDurabilityError
);
