//! How an error is told to a human: what failed, and each cause once.

use std::error::Error;

/// What `error` says, followed by its causes, as far as the text does not end with them already: many errors name
/// their cause themselves.
#[must_use]
pub fn sentence(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use anyhow::Context as _;

    use super::*;
    use crate::config::Config;

    #[test]
    fn a_cause_is_told_once() {
        let missing = Config::read(Path::new("/does/not/exist")).unwrap_err();
        let text = sentence(&missing);
        assert_eq!(text.matches("No such file").count(), 1, "{text}");
        assert!(text.contains("/does/not/exist"), "{text}");
    }

    #[test]
    fn all_causes_are_told() {
        let error = Err::<(), _>(std::io::Error::other("the disk is full"))
            .context("the store failed")
            .context("cannot start")
            .unwrap_err();
        assert_eq!(sentence(error.as_ref()), "cannot start: the store failed: the disk is full");
    }
}
