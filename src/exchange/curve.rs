//! The server's CURVE key pair, where it has one.
//!
//! The secret key stands in a file of its own, which the server only reads; the public one follows from it. All
//! of it needs a libzmq that has CURVE: the one that is built along has not, the system's has.
//!
//! Source: docs/protocol.md, "CURVE"; ZeroMQ RFC 26.

use std::{
    ffi::{CString, c_char, c_int},
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use webrocket_wire::SecretKey;

unsafe extern "C" {
    /// One of libzmq's functions to which `zmq-sys` does not lead.
    fn zmq_curve_public(public: *mut c_char, secret: *const c_char) -> c_int;
}

/// A key pair.
#[derive(Debug, Clone)]
pub struct KeyPair {
    secret: SecretKey,
    public: String,
}

/// There is no key pair to be had.
#[derive(Debug, thiserror::Error)]
pub enum KeyPairError {
    /// libzmq was built without CURVE.
    #[error(
        "this build cannot do CURVE, because the libzmq in it cannot; install the system's (Debian: libzmq3-dev) \
         and build with --config 'target.{arch}-unknown-linux-gnu.zmq.rustc-link-lib=[\"zmq\"]'",
        arch = std::env::consts::ARCH
    )]
    NoCurve,
    /// The file cannot be read, or made.
    #[error("the secret key file {} cannot be used: {source}", .file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Everybody on the machine can be the server.
    #[error(
        "the secret key file {file} is open to everybody (mode {mode:03o}); close it with chmod o= {file}, \
         and make another key if others may have seen this one",
        file = .file.display()
    )]
    Open {
        /// The file.
        file: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The file holds something else.
    #[error("the secret key file {} holds no secret key, which is 40 characters of Z85", .file.display())]
    Content {
        /// The file.
        file: PathBuf,
    },
}

impl KeyPair {
    /// The pair whose secret key stands in `file`.
    ///
    /// # Errors
    /// libzmq has no CURVE, or the file cannot be read, is open to everybody or holds no key.
    pub fn load(file: &Path) -> Result<Self, KeyPairError> {
        if zmq::has("curve") != Some(true) {
            return Err(KeyPairError::NoCurve);
        }
        let secret = read(file)?;
        let public = public(&secret).ok_or_else(|| KeyPairError::Content { file: file.to_owned() })?;
        Ok(Self { secret, public })
    }

    /// A new pair, of random.
    ///
    /// # Errors
    /// libzmq has no CURVE.
    pub fn generate() -> Result<Self, KeyPairError> {
        let pair = zmq::CurveKeyPair::new().map_err(|_| KeyPairError::NoCurve)?;
        let secret = SecretKey::from_bytes(pair.secret_key);
        let public = public(&secret).expect("libzmq takes what it made");
        Ok(Self { secret, public })
    }

    /// Writes the secret key to a new file that is closed to everybody but its owner.
    ///
    /// # Errors
    /// The file is there already, or cannot be made.
    pub fn save(&self, file: &Path) -> Result<(), KeyPairError> {
        let open = || OpenOptions::new().write(true).create_new(true).mode(0o600).open(file);
        let write = |mut opened: File| {
            writeln!(opened, "{}", self.secret.reveal())?;
            opened.sync_all()
        };
        open().and_then(write).map_err(|source| KeyPairError::File { file: file.to_owned(), source })
    }

    /// The secret key.
    #[must_use]
    pub fn secret(&self) -> &SecretKey {
        &self.secret
    }

    /// The public key in Z85, by which backends know the server.
    #[must_use]
    pub fn public(&self) -> &str {
        &self.public
    }
}

/// The key in a file.
fn read(file: &Path) -> Result<SecretKey, KeyPairError> {
    let failed = |source| KeyPairError::File { file: file.to_owned(), source };
    let mode = fs::metadata(file).map_err(failed)?.permissions().mode() & 0o777;
    if mode & 0o007 != 0 {
        return Err(KeyPairError::Open { file: file.to_owned(), mode });
    }
    let text = fs::read_to_string(file).map_err(failed)?;
    text.trim().parse().map_err(|_| KeyPairError::Content { file: file.to_owned() })
}

/// The public half in Z85.
fn public(secret: &SecretKey) -> Option<String> {
    let secret = CString::new(secret.reveal()).expect("Z85 has no NUL");
    let mut public = [0_u8; 41];
    // SAFETY: the secret key is 40 characters and a NUL, and there is room for as many.
    let result = unsafe { zmq_curve_public(public.as_mut_ptr().cast(), secret.as_ptr()) };
    let text = public[..40].to_vec();
    (result == 0).then(|| String::from_utf8(text).expect("Z85 is ASCII"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;

    const SECRET: &str = "JTKVSB%%)wK0E.X)V>+}o?pNmC{O&4W4b!Ni{Lh6";
    const PUBLIC: &str = "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7";

    fn has_curve() -> bool {
        zmq::has("curve") == Some(true)
    }

    #[test]
    fn a_secret_key_is_read_from_a_file_that_is_closed() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("key");
        assert!(matches!(read(&file), Err(KeyPairError::File { .. })));
        let put = |text: &str, mode| {
            fs::write(&file, text).unwrap();
            fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
        };
        for mode in [0o644, 0o604, 0o602] {
            put(SECRET, mode);
            let message = read(&file).unwrap_err().to_string();
            assert!(message.contains(&format!("mode {mode:o}")) && !message.contains(SECRET), "{message}");
        }
        for mode in [0o600, 0o440] {
            put(&format!("{SECRET}\n"), mode);
            assert_eq!(read(&file).unwrap(), SECRET.parse().unwrap());
            fs::remove_file(&file).unwrap();
        }
        for text in ["", "s3cr3t", &SECRET[1..]] {
            put(text, 0o600);
            let message = read(&file).unwrap_err().to_string();
            assert!(message.ends_with("holds no secret key, which is 40 characters of Z85"), "{message}");
        }
    }

    #[test]
    fn without_curve_there_is_no_pair() {
        let directory = tempfile::tempdir().unwrap();
        let made = KeyPair::generate();
        if !has_curve() {
            let message = made.unwrap_err().to_string();
            assert!(message.contains("build with --config 'target."), "{message}");
            let message = KeyPair::load(&directory.path().join("key")).unwrap_err();
            assert!(matches!(message, KeyPairError::NoCurve), "{message}");
            return;
        }
        let (made, file) = (made.unwrap(), directory.path().join("key"));
        made.save(&file).unwrap();
        assert!(matches!(made.save(&file), Err(KeyPairError::File { .. })), "it is there already");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let loaded = KeyPair::load(&file).unwrap();
        assert_eq!((loaded.public(), loaded.secret()), (made.public(), made.secret()));
        assert_eq!(public(&SECRET.parse().unwrap()).as_deref(), Some(PUBLIC));
        assert!(!format!("{made:?}").contains(&made.secret().reveal()));
    }
}
