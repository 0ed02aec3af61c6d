//! Messages in sentences for people.

/// The beginning of a message, for a human.
pub(crate) fn excerpt(message: &[u8]) -> String {
    const CHARACTERS: usize = 160;
    let text = String::from_utf8_lossy(message);
    match text.char_indices().nth(CHARACTERS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::excerpt;

    #[test]
    fn a_long_message_is_cut_between_characters() {
        assert_eq!(excerpt("µ".repeat(160).as_bytes()), "µ".repeat(160));
        assert_eq!(excerpt("µ".repeat(161).as_bytes()), "µ".repeat(160) + "…");
    }

    #[test]
    fn what_is_no_text_is_told_all_the_same() {
        assert_eq!(excerpt(b"a\xff"), "a\u{fffd}");
    }
}
