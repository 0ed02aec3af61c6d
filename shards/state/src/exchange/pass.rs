//! What somebody was let in with, as it is written down in a connection's `User-Id`.

use std::{fmt, str::FromStr};

use crate::vhost::VhostId;

/// What somebody was let in with: a vhost, and which of its access tokens and sets of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pass {
    /// The vhost.
    pub vhost: VhostId,
    /// Counts how often something was taken away from who may be let in: a pass from before is worth nothing.
    pub generation: u64,
}

/// As it stands in the `User-Id` of a connection.
impl fmt::Display for Pass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.vhost.0, self.generation)
    }
}

/// A text that is no [`Pass`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoPass;

impl FromStr for Pass {
    type Err = NoPass;

    fn from_str(text: &str) -> Result<Self, NoPass> {
        let (vhost, generation) = text.split_once('.').ok_or(NoPass)?;
        Ok(Self {
            vhost: VhostId(vhost.parse().map_err(|_| NoPass)?),
            generation: generation.parse().map_err(|_| NoPass)?,
        })
    }
}
