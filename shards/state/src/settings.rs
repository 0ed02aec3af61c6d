//! A vhost's settings: every limit has a name, a unit, a default and a range.

use std::fmt;

use serde::{Deserialize, Serialize};
use webrocket_wire::{Rights, handshake::Dialect};

/// What sessions may do on open channels before they authenticate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Anonymous {
    /// In WWFP on a vhost without users `READ` and `WRITE`, otherwise nothing.
    #[default]
    #[serde(rename = "auto")]
    Auto,
    /// Nothing.
    #[serde(rename = "none")]
    None,
    /// `READ`.
    #[serde(rename = "read")]
    Read,
    /// `READ` and `WRITE`.
    #[serde(rename = "read,write")]
    ReadWrite,
}

impl Anonymous {
    /// The rights of an anonymous session that speaks `dialect` on a vhost with or without users.
    #[must_use]
    pub fn rights(self, dialect: Dialect, has_users: bool) -> Rights {
        match (self, dialect) {
            (Self::Auto, Dialect::Wwfp) if !has_users => Rights::READ_WRITE,
            (Self::Auto, Dialect::Classic | Dialect::Wwfp) | (Self::None, _) => Rights::NONE,
            (Self::Read, _) => Rights::READ,
            (Self::ReadWrite, _) => Rights::READ_WRITE,
        }
    }
}

macro_rules! settings {
    ($($(#[$doc:meta])* $name:ident: $default:literal in $range:expr;)*) => {
        /// Limits and timeouts of one vhost.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct Settings {
            /// What sessions may do on open channels before they authenticate.
            pub anonymous: Anonymous,
            $($(#[$doc])* pub $name: u32,)*
        }

        impl Default for Settings {
            fn default() -> Self {
                Self { anonymous: Anonymous::Auto, $($name: $default,)* }
            }
        }

        impl Settings {
            /// Checks every number against its range.
            ///
            /// # Errors
            /// The first setting that is out of its range.
            pub fn check(&self) -> Result<(), SettingOutOfRange> {
                $({
                    let range = $range;
                    if !range.contains(&self.$name) {
                        return Err(SettingOutOfRange {
                            name: stringify!($name),
                            value: self.$name,
                            least: *range.start(),
                            most: *range.end(),
                        });
                    }
                })*
                Ok(())
            }
        }
    };
}

settings! {
    /// Channels of the vhost. At the bound: `ACCESS_DENIED` with a reason.
    channels_max: 10_000 in 0..=10_000_000;
    /// Subscriptions of one session. At the bound: `ACCESS_DENIED` with a reason.
    subscriptions_max: 1_000 in 0..=10_000;
    /// Length of the data that a subscriber joins or leaves with, in bytes as written. Over it: 400 with a reason.
    presence_data_bytes_max: 1_024 in 0..=65_536;
    /// Length of one message from a client, in bytes. Over it: closed with 1009.
    message_bytes_max: 65_536 in 128..=67_108_864;
    /// Bytes that may wait for one session. Over it: closed with 4008.
    lag_bytes_max: 1_048_576 in 1_024..=1_073_741_824;
    /// How long waiting bytes may go without the session taking any, in milliseconds. Then: closed with 4008.
    stall_timeout_ms: 30_000 in 100..=86_400_000;
    /// After how much silence a session is sent a ping, in milliseconds.
    ping_interval_ms: 25_000 in 100..=86_400_000;
    /// After how much silence a session is closed, in milliseconds.
    idle_timeout_ms: 60_000 in 200..=86_400_000;
    /// Requests of one session that wait for another shard's answer. At the bound: its socket is not read.
    requests_outstanding_max: 256 in 1..=65_536;
    /// Messages a session may send in a second; 0 is no limit. Over it: closed with 1008.
    messages_per_second_max: 0 in 0..=1_000_000_000;
    /// Bytes a session may send in a second; 0 is no limit. Over it: closed with 1008.
    bytes_per_second_max: 0 in 0..=1_000_000_000;
    /// Sessions from one address; 0 is no limit. At the bound: 429 before the upgrade.
    connections_per_address_max: 0 in 0..=1_000_000_000;
    /// Triggers that wait while all workers that could take them are busy. At the bound: `ASSIGNATION_FAILED`, 503.
    trigger_queue_max: 10_000 in 0..=10_000_000;
    /// Bytes of the triggers that wait. At the bound: `ASSIGNATION_FAILED`, 503.
    trigger_queue_bytes_max: 67_108_864 in 0..=4_294_967_295;
    /// How often a trigger is given to another worker after one had it. Then: given up, counted and logged.
    trigger_redeliveries_max: 5 in 0..=1_000_000;
}

/// A setting that is out of its range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SettingOutOfRange {
    /// The setting's name.
    pub name: &'static str,
    /// What it was to be.
    pub value: u32,
    /// The least value that it may have.
    pub least: u32,
    /// The greatest value that it may have.
    pub most: u32,
}

impl fmt::Display for SettingOutOfRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {}, but must be from {} to {}", self.name, self.value, self.least, self.most)
    }
}

impl std::error::Error for SettingOutOfRange {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_in_range_and_read_back() {
        let settings = Settings::default();
        assert_eq!(settings.check(), Ok(()));
        let text = serde_json::to_string(&settings).unwrap();
        assert!(text.starts_with(r#"{"anonymous":"auto","channels_max":10000,"#), "{text}");
        assert_eq!(serde_json::from_str::<Settings>(&text).unwrap(), settings);
    }

    #[test]
    fn a_setting_out_of_range_is_named() {
        let error = Settings { ping_interval_ms: 1, ..Settings::default() }.check().unwrap_err();
        assert_eq!(error.to_string(), "ping_interval_ms is 1, but must be from 100 to 86400000");
    }
}
