//! What holds of any file and any command line.

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt,
};

use clap::Parser;

use super::*;

/// Between the file and the arguments of an input. No UTF-8 text has this byte.
const BETWEEN: u8 = 0xff;

/// `input` is a TOML file and arguments, with [`BETWEEN`] between them.
pub fn config(input: &[u8]) {
    let mut pieces = input.split(|byte| *byte == BETWEEN);
    let Ok(file) = std::str::from_utf8(pieces.next().unwrap_or_default()) else { return };
    what_is_taken_can_be_used(file, pieces.map(|piece| OsStr::from_bytes(piece).to_owned()));
}

/// A file is understood, or a line of it is wrong. What file and arguments are taken for is in its ranges, and means
/// the same when it is written into a file.
pub(crate) fn what_is_taken_can_be_used(file: &str, arguments: impl Iterator<Item = OsString>) {
    let path = Path::new("webrocket.toml");
    let of_file = Config::parse(file, path).unwrap_or_else(|error| {
        let ConfigError::Parse { line, message, .. } = error else { panic!("{error}") };
        assert!((1..=file.matches('\n').count() + 1).contains(&line), "line {line}");
        assert!(!message.contains('\n'), "{message:?}");
        Config::default()
    });
    let Ok(flags) = Flags::try_parse_from([OsString::from("webrocket-server")].into_iter().chain(arguments))
    else {
        return;
    };
    let config = match flags.over(of_file) {
        Ok(config) => config,
        Err(ConfigError::Range { .. }) => return,
        Err(other) => panic!("{other}"),
    };
    assert!((1..=1024).contains(&config.shard_count()));
    if let Some(name) = &config.node_name {
        assert_eq!(Path::new(name).file_name(), Some(name.as_ref()));
    }
    // A path need not be text, but only text can stand in a file.
    if let Ok(written) = toml::to_string(&config) {
        assert_eq!(
            Config::parse(&written, path).expect("what is written is understood"),
            config,
            "{written}"
        );
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_file_and_arguments_are_taken_or_refused(
            file in "(shards|node-name|io|pin|websocket-addr|log-level| = |\"|\n|[0-9]{1,5}|auto|true|\\[|::1|\\PC){0,12}",
            arguments in proptest::collection::vec("--(shards|io|pin|node-name|dev)(=[a-z0-9.]{0,4})?|\\PC{0,4}", 0..4),
        ) {
            super::what_is_taken_can_be_used(&file, arguments.into_iter().map(Into::into));
        }
    }
}
