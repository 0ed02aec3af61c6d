//! What the store keeps of each thing, and how it is written.

use serde::{Deserialize, Serialize};
use webrocket_state::Settings;
use webrocket_wire::{AccessToken, BackendKey, ChannelName, Rights, UserName, VhostPath};

use super::SecretHash;

/// A vhost as stored, without its users, keys and channels.
#[derive(Debug, Clone)]
pub struct VhostRecord {
    /// The credential of its backends.
    pub token: AccessToken,
    /// Its limits and timeouts.
    pub settings: Settings,
}

/// A user as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserRecord {
    /// What its sessions may do.
    pub rights: Rights,
    /// The hash of its secret, if it has one.
    pub secret: Option<SecretHash>,
    /// Given once, never to another user.
    pub generation: u64,
}

/// A vhost with its users and keys.
#[derive(Debug, Clone)]
pub struct StoredVhost {
    /// Its path.
    pub path: VhostPath,
    /// Its own data.
    pub record: VhostRecord,
    /// Its users, by name.
    pub users: Vec<(UserName, UserRecord)>,
    /// The public keys of its backends.
    pub keys: Vec<BackendKey>,
}

/// A channel that is to be in the store, or no longer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelWrite {
    /// The channel's vhost.
    pub vhost: VhostPath,
    /// Its name.
    pub channel: ChannelName,
    /// Whether it is opened or closed.
    pub open: bool,
}

/// A value that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("a record cannot be read: {0}")]
pub(super) struct BadRecord(pub(super) String);

#[derive(Serialize, Deserialize)]
struct VhostValue {
    token: String,
    settings: Settings,
}

#[derive(Serialize, Deserialize)]
struct UserValue {
    rights: u8,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
    generation: u64,
}

impl VhostRecord {
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let value = VhostValue { token: self.token.reveal(), settings: self.settings };
        serde_json::to_vec(&value).expect("a record is plain data")
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, BadRecord> {
        let value: VhostValue = parse(bytes)?;
        let token = value.token.parse().map_err(|_| BadRecord("the access token is none".to_owned()))?;
        Ok(Self { token, settings: value.settings })
    }
}

impl UserRecord {
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let value = UserValue {
            rights: self.rights.bits(),
            secret: self.secret.as_ref().map(SecretHash::phc),
            generation: self.generation,
        };
        serde_json::to_vec(&value).expect("a record is plain data")
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, BadRecord> {
        let value: UserValue = parse(bytes)?;
        let rights =
            Rights::from_bits(value.rights).ok_or_else(|| BadRecord("the rights are none".to_owned()))?;
        let secret = value.secret.as_deref().map(SecretHash::from_phc).transpose();
        let secret = secret.map_err(|error| BadRecord(error.to_string()))?;
        Ok(Self { rights, secret, generation: value.generation })
    }
}

/// Reads JSON. The error names the place, never the content: that may be a secret.
fn parse<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, BadRecord> {
    serde_json::from_slice(bytes).map_err(|error| BadRecord(format!("column {}", error.column())))
}
