//! A direct message of the backend.

/// A direct message.
#[derive(Debug)]
pub struct Message {
    /// To which browser.
    pub to: usize,
    /// Whether it was sent to that browser's own vhost.
    pub is_addressed: bool,
    /// Shards that have not answered.
    pub unanswered: usize,
    /// Shards that said that they delivered it.
    pub found: usize,
    pub(super) received: usize,
}
