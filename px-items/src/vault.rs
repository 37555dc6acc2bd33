//! Sealing of stored secrets under keys that the database does not contain.

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hkdf::{HKDF_SHA256, Prk},
};
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

/// Length of a key, in bytes.
const KEY_LEN: usize = 32;

/// Seals and opens secrets. Implement it to use a key management service.
///
/// [`Sealed::key_id`] names the key of each row, so that keys can be rotated while rows are read.
pub trait Envelope: Send + Sync + fmt::Debug {
    /// Seals a secret. It is bound to `row` and can be opened only for that row.
    ///
    /// # Errors
    /// [`VaultError::Key`] if the key cannot be used.
    fn seal(&self, plain: &[u8], row: &str) -> Result<Sealed, VaultError>;

    /// Opens a sealed secret of a row.
    ///
    /// # Errors
    /// [`VaultError::UnknownKey`] if there is no such key; [`VaultError::Damaged`] if the bytes were not sealed for that row.
    fn open(&self, sealed: &Sealed, row: &str) -> Result<Zeroizing<Vec<u8>>, VaultError>;

    /// Returns whether a secret is sealed as [`seal`](Self::seal) would seal it now: under the
    /// current sealing key and in the current format. Others are [sealed
    /// again](crate::store::Store::reseal).
    ///
    /// The default implementation returns `true`. It fits a key service that rotates its keys
    /// itself.
    fn is_current(&self, sealed: &Sealed) -> bool {
        let _ = sealed;
        true
    }
}

/// A sealed secret.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sealed {
    /// Id of the sealing key.
    pub key_id: String,
    /// Ciphertext, with everything but the key that is needed to open it.
    pub bytes: Vec<u8>,
}

impl Sealed {
    /// Creates a sealed secret from its stored parts.
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

/// An error of sealing or opening a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VaultError {
    /// The key is unknown.
    #[error("unknown key {0:?}: add it to the key file")]
    UnknownKey(String),
    /// The bytes were not sealed for this row.
    #[error("a sealed secret is damaged, or belongs to another row")]
    Damaged,
    /// The key or its source failed.
    #[error("the key cannot be used: {0}")]
    Key(String),
}

/// Keys from a file with one line `name base64` for each key.
///
/// All keys can open secrets. The line `seal-with name` names the key that seals; it is not needed
/// with a single key.
///
/// # Changing keys
///
/// 1. Add the new key's line on every machine. The old one still seals.
/// 2. Once every machine has the new key, change `seal-with` on every machine.
/// 3. Seal all rows again (`px keys --reseal`).
/// 4. Once no row is sealed under the old key (`px keys --usage`), remove its line.
///
/// # Format
///
/// AES-256-GCM under a separate key for each secret, derived by HKDF-SHA256 from the file's key, 32
/// random bytes and the row. The number of secrets is therefore not limited by the nonces of one
/// key. The row is also authenticated as associated data. Secrets of the earlier format (the file's
/// key itself, with a random nonce) can still be opened.
#[derive(Clone)]
pub struct FileKeys {
    keys: Vec<FileKey>,
    sealing: usize,
    random: Arc<dyn Random>,
}

#[derive(Clone)]
struct FileKey {
    name: String,
    /// Source of the keys of single secrets.
    root: Arc<Prk>,
    /// Opens secrets of the earlier format.
    direct: Arc<LessSafeKey>,
}

/// Prefix of secrets of the present format. Secrets of the earlier format begin with random bytes,
/// so bytes that do not open in one format are tried in the other.
const FORMAT: [u8; 4] = *b"PX\x02\0";
/// Number of random bytes that the key of a secret is derived from.
const SALT_LEN: usize = 32;
/// Name of the line that names the sealing key.
const SEAL_WITH: &str = "seal-with";

impl FileKeys {
    /// Generates one key with this name in memory, for tests and for stores that end with the
    /// process.
    ///
    /// # Errors
    /// If the name is not valid in a key file.
    pub fn generate(name: &str, random: Arc<dyn Random>) -> Result<Self, VaultError> {
        Self::parse(&new_line(name, &*random), random)
    }

    /// Reads the text of a key file.
    ///
    /// # Errors
    /// If the text has no key, has several keys but no valid `seal-with` line, or has a line that
    /// is not a key. The error never quotes the text.
    pub fn parse(text: &str, random: Arc<dyn Random>) -> Result<Self, VaultError> {
        let mut keys: Vec<FileKey> = Vec::new();
        let mut seal_with = None;
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let broken = || VaultError::Key(format!("line {} is not `name base64`", number + 1));
            let (name, key) = line.split_once(char::is_whitespace).ok_or_else(broken)?;
            if name == SEAL_WITH {
                if seal_with.replace(key.trim().to_owned()).is_some() {
                    let what = format!("line {} repeats `seal-with`", number + 1);
                    return Err(VaultError::Key(what));
                }
                continue;
            }
            let bytes = BASE64.decode(key.trim()).map(Zeroizing::new).map_err(|_| broken())?;
            if keys.iter().any(|known| known.name == name) {
                return Err(VaultError::Key(format!(
                    "line {} repeats the name of a key",
                    number + 1
                )));
            }
            let key = UnboundKey::new(&AES_256_GCM, &bytes).map_err(|_| broken())?;
            keys.push(FileKey {
                name: name.to_owned(),
                root: Arc::new(Prk::new_less_safe(HKDF_SHA256, &bytes)),
                direct: Arc::new(LessSafeKey::new(key)),
            });
        }
        let sealing = match (seal_with, keys.len()) {
            (_, 0) => return Err(VaultError::Key("the file contains no key".to_owned())),
            (None, 1) => 0,
            (None, _) => {
                let what = "the file contains several keys: name the sealing key by a line \
                            `seal-with NAME`";
                return Err(VaultError::Key(what.to_owned()));
            }
            (Some(name), _) => keys.iter().position(|key| key.name == name).ok_or_else(|| {
                VaultError::Key(
                    "the line `seal-with` names a key that is not in the file".to_owned(),
                )
            })?,
        };
        Ok(Self { keys, sealing, random })
    }

    /// Returns the names of all keys.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().map(|key| &*key.name)
    }

    /// Returns the name of the key that seals.
    #[must_use]
    pub fn sealing_key(&self) -> &str {
        self.keys.get(self.sealing).map_or("", |key| &key.name)
    }

    /// Reads a key file.
    ///
    /// # Errors
    /// If the file cannot be read or is not a valid key file; see [`parse`](Self::parse).
    pub fn open_file(path: &Path, random: Arc<dyn Random>) -> Result<Self, VaultError> {
        let text = fs::read_to_string(path).map(Zeroizing::new).map_err(|e| unusable(path, &e))?;
        Self::parse(&text, random)
    }

    /// Creates a key file with one new key, readable only by its owner.
    ///
    /// The file is written atomically, and is durable before anything is sealed.
    ///
    /// # Errors
    /// If the file already exists or cannot be written.
    pub fn create_file(path: &Path, random: Arc<dyn Random>) -> Result<Self, VaultError> {
        let text = new_line("key-1", &*random);
        let mut draft = OsString::from(path);
        draft.push(format!(".{}", std::process::id()));
        let draft = Path::new(&draft);
        // Unlike a rename, a hard link never replaces an existing file.
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
        let none = || VaultError::Key("there is no sealing key".to_owned());
        let key = self.keys.get(self.sealing).ok_or_else(none)?;
        let mut salt = [0; SALT_LEN];
        self.random.fill(&mut salt);
        let failed = || VaultError::Key("the secret could not be sealed".to_owned());
        let derived = key.derive(&salt, row).ok_or_else(failed)?;
        let mut sealed = plain.to_vec();
        let tag = derived
            .seal_in_place_separate_tag(once(), Aad::from(row.as_bytes()), &mut sealed)
            .map_err(|_| failed())?;
        let bytes = [&FORMAT[..], &salt, &sealed, tag.as_ref()].concat();
        Ok(Sealed::new(key.name.clone(), bytes))
    }

    fn open(&self, sealed: &Sealed, row: &str) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        let known = self.keys.iter().find(|key| key.name == sealed.key_id);
        let key = known.ok_or_else(|| VaultError::UnknownKey(sealed.key_id.clone()))?;
        let opened = key.open(&sealed.bytes, row).or_else(|| key.open_direct(&sealed.bytes, row));
        opened.ok_or(VaultError::Damaged)
    }

    fn is_current(&self, sealed: &Sealed) -> bool {
        sealed.key_id == self.sealing_key() && sealed.bytes.starts_with(&FORMAT)
    }
}

impl FileKey {
    /// Derives the key of one secret.
    fn derive(&self, salt: &[u8; SALT_LEN], row: &str) -> Option<LessSafeKey> {
        let info = [&b"px-items sealed row"[..], &FORMAT, salt, row.as_bytes()];
        let derived = self.root.expand(&info, &AES_256_GCM).ok()?;
        Some(LessSafeKey::new(UnboundKey::from(derived)))
    }

    fn open(&self, bytes: &[u8], row: &str) -> Option<Zeroizing<Vec<u8>>> {
        let (salt, sealed) = bytes.strip_prefix(&FORMAT)?.split_first_chunk::<SALT_LEN>()?;
        open(&self.derive(salt, row)?, once(), sealed, row)
    }

    fn open_direct(&self, bytes: &[u8], row: &str) -> Option<Zeroizing<Vec<u8>>> {
        let (nonce, sealed) = bytes.split_first_chunk::<NONCE_LEN>()?;
        open(&self.direct, Nonce::assume_unique_for_key(*nonce), sealed, row)
    }
}

/// Returns the nonce. It is constant, because each key seals only one secret.
fn once() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_LEN])
}

fn open(key: &LessSafeKey, nonce: Nonce, sealed: &[u8], row: &str) -> Option<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(sealed.to_vec());
    let plain = key.open_in_place(nonce, Aad::from(row.as_bytes()), &mut bytes).ok()?.len();
    bytes.truncate(plain);
    Some(bytes)
}

impl fmt::Debug for FileKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.keys.iter().map(|key| &key.name).collect();
        f.debug_struct("FileKeys")
            .field("keys", &names)
            .field("seal_with", &self.sealing_key())
            .finish_non_exhaustive()
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

/// Makes directory entries durable. Only Unix can open a directory as a file.
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
        *damaged.bytes.last_mut().unwrap() ^= 1;
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
    fn the_key_that_is_named_seals_and_all_open() {
        let (one, two) = (BASE64.encode([1; KEY_LEN]), BASE64.encode([2; KEY_LEN]));
        let random: Arc<dyn Random> = Arc::new(SystemRandom);
        let old = FileKeys::parse(&format!("k1 {one}\n"), random.clone()).unwrap();
        let sealed = old.seal(b"secret", "row").unwrap();
        // The first machine with the new key still seals under the old one, which the others can
        // open.
        let text = format!("# keys\nseal-with k1\n\nk1 {one}\nk2 {two}\n");
        let both = FileKeys::parse(&text, random.clone()).unwrap();
        assert_eq!(&**both.open(&sealed, "row").unwrap(), b"secret");
        assert_eq!(&**old.open(&both.seal(b"new", "row").unwrap(), "row").unwrap(), b"new");
        assert!(both.is_current(&sealed));
        // Once all machines have it, the new key seals.
        let new = FileKeys::parse(&text.replace("with k1", "with k2"), random.clone()).unwrap();
        assert_eq!(new.seal(b"secret", "row").unwrap().key_id, "k2");
        assert_eq!(&**new.open(&sealed, "row").unwrap(), b"secret");
        assert!(!new.is_current(&sealed));
        let debug = r#"FileKeys { keys: ["k1", "k2"], seal_with: "k2", .. }"#;
        assert_eq!(format!("{new:?}"), debug);
        for text in [
            "",
            "k1",
            "k1 short",
            &format!("k1 {one}\nk1 {two}"),
            &format!("k1 {one}\nk2 {two}"),
            &format!("seal-with k3\nk1 {one}\nk2 {two}"),
            &format!("seal-with k1\nseal-with k1\nk1 {one}"),
            "seal-with k1",
        ] {
            let error = FileKeys::parse(text, random.clone()).unwrap_err();
            assert!(!error.to_string().contains(&one), "{error}");
        }
    }

    /// Returns a secret as version 0.0 sealed it: nonce, ciphertext and tag, under the file's key
    /// itself.
    fn sealed_directly(key: [u8; KEY_LEN], plain: &[u8], row: &str) -> Vec<u8> {
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key).unwrap());
        let nonce = *b"PX\x02\0abcdefgh";
        let mut bytes = plain.to_vec();
        key.seal_in_place_append_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(row.as_bytes()),
            &mut bytes,
        )
        .unwrap();
        [&nonce[..], &bytes].concat()
    }

    #[test]
    fn what_was_sealed_before_opens() {
        let text = format!("k1 {}\n", BASE64.encode([1; KEY_LEN]));
        let vault = FileKeys::parse(&text, Arc::new(SystemRandom)).unwrap();
        // It opens even if its nonce begins with the prefix of the present format.
        let old = Sealed::new("k1".into(), sealed_directly([1; KEY_LEN], b"secret", "row"));
        assert_eq!(&**vault.open(&old, "row").unwrap(), b"secret");
        assert_eq!(vault.open(&old, "other"), Err(VaultError::Damaged));
        let mut shifted = old.clone();
        shifted.bytes[0] ^= 1;
        assert_eq!(vault.open(&shifted, "row"), Err(VaultError::Damaged));
        let new = vault.seal(b"secret", "row").unwrap();
        assert!(vault.is_current(&new));
        assert!(!vault.is_current(&shifted), "so that it is sealed again");
    }

    #[test]
    fn no_two_secrets_share_a_key() {
        let vault = FileKeys::parse(
            &format!("k1 {}\n", BASE64.encode([1; KEY_LEN])),
            // The worst generator: it returns the same bytes each time.
            Arc::new(Stuck),
        )
        .unwrap();
        let one = vault.seal(b"same", "row-1").unwrap();
        let two = vault.seal(b"same", "row-2").unwrap();
        let from = FORMAT.len() + SALT_LEN;
        assert_eq!(one.bytes[..from], two.bytes[..from]);
        assert_ne!(
            one.bytes[from..from + 4],
            two.bytes[from..from + 4],
            "rows have keys of their own"
        );
    }

    #[derive(Debug)]
    struct Stuck;

    impl Random for Stuck {
        fn fill(&self, buffer: &mut [u8]) {
            buffer.fill(7);
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
