//! The node's cookie: whoever can read its file may control the node.

use std::{
    fmt,
    fs::{self, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use subtle::ConstantTimeEq;
use webrocket_wire::AccessToken;

use super::random;

/// The secret that every request to the control API carries, 40 hexadecimal digits.
/// Not shown in `Debug`.
#[derive(Clone)]
pub struct Cookie(String);

/// The cookie's file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CookieError {
    /// It cannot be read or made.
    #[error("the cookie file {} cannot be used: {source}", .file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It holds something else.
    #[error("the cookie file {} holds no cookie; remove it and a new one is made", .file.display())]
    Content {
        /// The file.
        file: PathBuf,
    },
}

impl Cookie {
    /// Where the cookie of the node `name` lies in the data directory.
    #[must_use]
    pub fn file(directory: &Path, name: &str) -> PathBuf {
        directory.join(format!("{name}.cookie"))
    }

    /// Reads the node's cookie; makes it at the node's first start. Afterwards only the file's
    /// owner can read it.
    ///
    /// # Errors
    /// The file cannot be used, or holds no cookie.
    pub fn load_or_make(directory: &Path, name: &str) -> Result<Self, CookieError> {
        let file = Self::file(directory, name);
        let failed = |source| CookieError::File { file: file.clone(), source };
        match fs::read_to_string(&file) {
            Ok(text) => {
                if fs::metadata(&file).map_err(failed)?.permissions().mode() & 0o077 != 0 {
                    fs::set_permissions(&file, Permissions::from_mode(0o600)).map_err(failed)?;
                }
                let text = text.trim();
                if text.parse::<AccessToken>().is_err() {
                    return Err(CookieError::Content { file });
                }
                Ok(Self(text.to_owned()))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let cookie = Self::random();
                cookie.save(directory, &file).map_err(failed)?;
                Ok(cookie)
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// A cookie that lies in no file.
    #[must_use]
    pub fn random() -> Self {
        Self(random::access_token().reveal())
    }

    /// Whether `presented` is the cookie. Constant time for texts of its length.
    #[must_use]
    pub fn matches(&self, presented: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(presented).into()
    }

    /// The cookie itself: a secret.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Writes the file aside and moves it into place: nobody ever reads half a cookie.
    fn save(&self, directory: &Path, file: &Path) -> io::Result<()> {
        fs::create_dir_all(directory)?;
        let aside = file.with_extension("cookie.new");
        match fs::remove_file(&aside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut written = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside)?;
        writeln!(written, "{}", self.0)?;
        written.sync_all()?;
        fs::rename(&aside, file)?;
        fs::File::open(directory)?.sync_all()
    }
}

impl fmt::Debug for Cookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cookie(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_made_once_and_closed_to_others() {
        let directory = tempfile::tempdir().unwrap();
        let made = Cookie::load_or_make(directory.path(), "moon.base").unwrap();
        assert_eq!(made.reveal().len(), 40);
        let file = Cookie::file(directory.path(), "moon.base");
        let mode = || fs::metadata(&file).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(), 0o600);
        fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
        let read = Cookie::load_or_make(directory.path(), "moon.base").unwrap();
        assert_eq!(read.reveal(), made.reveal());
        assert_eq!(mode(), 0o600);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_cookie_matches_itself_only_and_hides() {
        let cookie = Cookie::random();
        assert!(cookie.matches(cookie.reveal().as_bytes()));
        assert!(!cookie.matches(b""));
        assert!(!cookie.matches(&cookie.reveal().as_bytes()[..39]));
        assert!(!cookie.matches(Cookie::random().reveal().as_bytes()));
        assert_eq!(format!("{cookie:?}"), "Cookie(…)");
    }

    #[test]
    fn a_file_without_a_cookie_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(Cookie::file(directory.path(), "a"), "").unwrap();
        assert!(matches!(Cookie::load_or_make(directory.path(), "a"), Err(CookieError::Content { .. })));
    }
}
