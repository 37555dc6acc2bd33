//! How secrets are kept at rest: sealed under a key that the database does not have.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use base64::{Engine as _, prelude::BASE64_STANDARD as BASE64};
use px_core::Random;
use std::{
    ffi::OsString,
    fmt,
    fs::{self, OpenOptions},
    io::{self, Write as _},
    path::Path,
    sync::Arc,
};
use zeroize::Zeroizing;

/// The bytes of a key.
const KEY_LEN: usize = 32;

/// Seals and opens secrets. A key service can stand behind it; [`Sealed::key_id`] tells which
/// key a row is under, so that keys can be changed while rows are read.
pub trait Envelope: Send + Sync + fmt::Debug {
    /// Seals a secret, bound to the row that it belongs to: it opens nowhere else.
    ///
    /// # Errors
    /// When the key cannot be used.
    fn seal(&self, plain: &[u8], row: &str) -> Result<Sealed, VaultError>;

    /// Opens a sealed secret of that row.
    ///
    /// # Errors
    /// When the key is unknown, or the bytes are not what was sealed for that row.
    fn open(&self, sealed: &Sealed, row: &str) -> Result<Zeroizing<Vec<u8>>, VaultError>;
}

/// A sealed secret.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sealed {
    /// The key that it is under.
    pub key_id: String,
    /// Nonce, ciphertext and tag.
    pub bytes: Vec<u8>,
}

impl Sealed {
    /// A sealed secret that a store kept.
    #[must_use]
    pub fn new(key_id: String, bytes: Vec<u8>) -> Self {
        Self { key_id, bytes }
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealed").field("key_id", &self.key_id).finish_non_exhaustive()
    }
}

/// Why a secret cannot be sealed or opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VaultError {
    /// There is no such key.
    #[error("there is no key {0:?}: add it to the key file, or restore the one that sealed this")]
    UnknownKey(String),
    /// The bytes are not what was sealed for this row.
    #[error("a sealed secret is damaged, or belongs to another row")]
    Damaged,
    /// The key or its source failed.
    #[error("the key cannot be used: {0}")]
    Key(String),
}

/// Keys of a file: one line each, `name base64`. The last one seals; all of them open.
///
/// To change keys, add a line. A key may go once no row is under it.
/// AES-256-GCM, with a nonce drawn for each secret and the row as associated data.
#[derive(Clone)]
pub struct FileKeys {
    keys: Vec<(String, Arc<LessSafeKey>)>,
    random: Arc<dyn Random>,
}

impl FileKeys {
    /// One new key of that name, kept nowhere: for tests, and for stores that end with the process.
    ///
    /// # Errors
    /// When the name is not fit for a key file.
    pub fn generate(name: &str, random: Arc<dyn Random>) -> Result<Self, VaultError> {
        Self::parse(&new_line(name, &*random), random)
    }

    /// Reads the text of a key file.
    ///
    /// # Errors
    /// When it has no key, or a line is none. The text is never quoted.
    pub fn parse(text: &str, random: Arc<dyn Random>) -> Result<Self, VaultError> {
        let mut keys: Vec<(String, Arc<LessSafeKey>)> = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let broken = || VaultError::Key(format!("line {} is not `name base64`", number + 1));
            let (name, key) = line.split_once(char::is_whitespace).ok_or_else(broken)?;
            let bytes = BASE64.decode(key.trim()).map(Zeroizing::new).map_err(|_| broken())?;
            if keys.iter().any(|(known, _)| known == name) {
                return Err(VaultError::Key(format!("line {} names a key again", number + 1)));
            }
            let key = UnboundKey::new(&AES_256_GCM, &bytes).map_err(|_| broken())?;
            keys.push((name.to_owned(), Arc::new(LessSafeKey::new(key))));
        }
        match keys.is_empty() {
            true => Err(VaultError::Key("there is no key in it".to_owned())),
            false => Ok(Self { keys, random }),
        }
    }

    /// Reads a key file.
    ///
    /// # Errors
    /// When it cannot be read or is none.
    pub fn open_file(path: &Path, random: Arc<dyn Random>) -> Result<Self, VaultError> {
        let text = fs::read_to_string(path).map(Zeroizing::new).map_err(|e| unusable(path, &e))?;
        Self::parse(&text, random)
    }

    /// Makes a key file with one new key, readable by its owner alone.
    ///
    /// It appears whole or not at all, and is safe from a power cut before anything is sealed.
    ///
    /// # Errors
    /// When the file is there already, or cannot be written.
    pub fn create_file(path: &Path, random: Arc<dyn Random>) -> Result<Self, VaultError> {
        let text = new_line("key-1", &*random);
        let mut draft = OsString::from(path);
        draft.push(format!(".{}", std::process::id()));
        let draft = Path::new(&draft);
        // A link, unlike a new name, never takes the place of a file that is there.
        let written = write(draft, &text).and_then(|()| fs::hard_link(draft, path));
        let tidied = fs::remove_file(draft);
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        written
            .and(tidied)
            .and_then(|()| sync_folder(folder.unwrap_or(Path::new("."))))
            .map_err(|e| unusable(path, &e))?;
        Self::parse(&text, random)
    }
}

impl Envelope for FileKeys {
    fn seal(&self, plain: &[u8], row: &str) -> Result<Sealed, VaultError> {
        let none = || VaultError::Key("there is none".to_owned());
        let (name, key) = self.keys.last().ok_or_else(none)?;
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce);
        let mut sealed = plain.to_vec();
        let tag = key
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(row.as_bytes()),
                &mut sealed,
            )
            .map_err(|_| VaultError::Key("it did not seal".to_owned()))?;
        let bytes = [&nonce[..], &sealed, tag.as_ref()].concat();
        Ok(Sealed::new(name.clone(), bytes))
    }

    fn open(&self, sealed: &Sealed, row: &str) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        let known = self.keys.iter().find(|(name, _)| *name == sealed.key_id);
        let (_, key) = known.ok_or_else(|| VaultError::UnknownKey(sealed.key_id.clone()))?;
        let (nonce, rest) =
            sealed.bytes.split_first_chunk::<NONCE_LEN>().ok_or(VaultError::Damaged)?;
        let mut bytes = Zeroizing::new(rest.to_vec());
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let plain = key
            .open_in_place(nonce, Aad::from(row.as_bytes()), &mut bytes)
            .map_err(|_| VaultError::Damaged)?
            .len();
        bytes.truncate(plain);
        Ok(bytes)
    }
}

impl fmt::Debug for FileKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.keys.iter().map(|(name, _)| name).collect();
        f.debug_struct("FileKeys").field("keys", &names).finish_non_exhaustive()
    }
}

fn new_line(name: &str, random: &dyn Random) -> Zeroizing<String> {
    let mut key = Zeroizing::new([0; KEY_LEN]);
    random.fill(&mut key[..]);
    Zeroizing::new(format!("{name} {}\n", BASE64.encode(&key[..])))
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// Makes the names in a folder safe; elsewhere than on Unix a folder is no file.
fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { fs::File::open(folder)?.sync_all() } else { Ok(()) }
}

fn unusable(path: &Path, error: &io::Error) -> VaultError {
    VaultError::Key(format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use px_core::SystemRandom;

    fn keys(name: &str) -> FileKeys {
        FileKeys::generate(name, Arc::new(SystemRandom)).unwrap()
    }

    #[test]
    fn a_secret_opens_for_its_row_alone() {
        let vault = keys("a");
        let sealed = vault.seal(b"token-1", "item-1").unwrap();
        assert_eq!(&**vault.open(&sealed, "item-1").unwrap(), b"token-1");
        assert_eq!(vault.open(&sealed, "item-2"), Err(VaultError::Damaged));
        assert!(!sealed.bytes.windows(7).any(|part| part == b"token-1"));
        assert_ne!(sealed, vault.seal(b"token-1", "item-1").unwrap(), "never twice the same");
        let mut damaged = sealed.clone();
        damaged.bytes[NONCE_LEN] ^= 1;
        assert_eq!(vault.open(&damaged, "item-1"), Err(VaultError::Damaged));
        let cut = Sealed::new("a".into(), sealed.bytes[..5].to_vec());
        assert_eq!(vault.open(&cut, "item-1"), Err(VaultError::Damaged));
        assert_eq!(
            keys("b").open(&sealed, "item-1"),
            Err(VaultError::UnknownKey("a".into())),
            "another file's key"
        );
    }

    #[test]
    fn the_last_key_of_a_file_seals_and_all_open() {
        let (one, two) = (BASE64.encode([1; KEY_LEN]), BASE64.encode([2; KEY_LEN]));
        let random: Arc<dyn Random> = Arc::new(SystemRandom);
        let old = FileKeys::parse(&format!("k1 {one}\n"), random.clone()).unwrap();
        let sealed = old.seal(b"secret", "row").unwrap();
        let both =
            FileKeys::parse(&format!("# keys\n\nk1 {one}\nk2 {two}\n"), random.clone()).unwrap();
        assert_eq!(&**both.open(&sealed, "row").unwrap(), b"secret");
        assert_eq!(both.seal(b"secret", "row").unwrap().key_id, "k2");
        assert_eq!(format!("{both:?}"), r#"FileKeys { keys: ["k1", "k2"], .. }"#);
        for text in ["", "k1", "k1 short", &format!("k1 {one}\nk1 {two}")] {
            let error = FileKeys::parse(text, random.clone()).unwrap_err();
            assert!(!error.to_string().contains(&one), "{error}");
        }
    }

    #[test]
    fn a_key_file_is_made_once_and_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("px.key");
        let random: Arc<dyn Random> = Arc::new(SystemRandom);
        assert!(FileKeys::open_file(&path, random.clone()).is_err());
        let made = FileKeys::create_file(&path, random.clone()).unwrap();
        let sealed = made.seal(b"secret", "row").unwrap();
        let read = FileKeys::open_file(&path, random.clone()).unwrap();
        assert_eq!(&**read.open(&sealed, "row").unwrap(), b"secret");
        let again = FileKeys::create_file(&path, random.clone()).unwrap_err();
        assert!(again.to_string().contains("px.key"), "{again}");
        let read = FileKeys::open_file(&path, random).unwrap();
        assert_eq!(&**read.open(&sealed, "row").unwrap(), b"secret", "it is never written over");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing lies beside it");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }
}
