//! What clients and workers log in this process.

use std::{
    io,
    sync::{Condvar, Mutex, Once, PoisonError},
};

use webrocket_launcher::PATIENCE;

/// All lines since [`keep`], whichever test they belong to.
static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());
static GROWN: Condvar = Condvar::new();

struct Writer;

/// Each line is written as a whole.
impl io::Write for Writer {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line).into_owned();
        LINES.lock().unwrap_or_else(PoisonError::into_inner).push(text);
        GROWN.notify_all();
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Keeps what is logged from now on.
pub(crate) fn keep() {
    static BEGIN: Once = Once::new();
    BEGIN.call_once(|| tracing_subscriber::fmt().with_ansi(false).with_writer(|| Writer).init());
}

/// Waits for a line that contains all `words`.
pub(crate) fn await_line(words: &[&str]) {
    let is_missing =
        |lines: &mut Vec<String>| !lines.iter().any(|line| words.iter().all(|word| line.contains(word)));
    let lines = LINES.lock().unwrap_or_else(PoisonError::into_inner);
    let (lines, result) = GROWN.wait_timeout_while(lines, PATIENCE, is_missing).unwrap();
    assert!(!result.timed_out(), "no line with {words:?} among {lines:?}");
}
