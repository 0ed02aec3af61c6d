//! What a run is about.

/// What a run is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Theme {
    /// Nobody is slow, nobody goes, nothing is closed: what is promised then is checked exactly.
    Calm,
    /// Everything at once.
    Chaos,
    /// Long bursts of broadcasts through small queues past shards that are late.
    Storm,
    /// Presence channels that everybody enters and leaves all the time.
    Churn,
    /// More sessions than one slice of long work concerns, and channels and vhosts that change under them.
    Crowd,
    /// Triggers above all, for backends that come and go.
    Work,
}

impl Theme {
    /// All themes.
    pub const ALL: [Self; 6] = [Self::Calm, Self::Chaos, Self::Storm, Self::Churn, Self::Crowd, Self::Work];
}
