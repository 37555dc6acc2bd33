//! How secrets are kept at rest: sealed under a key that the database does not have.

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

    /// Whether a secret is sealed as [`seal`](Self::seal) would seal it now: under the key that
    /// seals, in the present format. Others are [sealed again](crate::store::Store::reseal).
    ///
    /// The default says yes, for a key service that keeps its own keys up to date.
    fn is_current(&self, sealed: &Sealed) -> bool {
        let _ = sealed;
        true
    }
}

/// A sealed secret.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sealed {
    /// The key that it is under.
    pub key_id: String,
    /// The ciphertext, with what opening it needs beside the key.
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

/// Keys of a file: one line each, `name base64`. All of them open; the one that a line
/// `seal-with name` names seals. A single key needs no such line.
///
/// # Changing keys
///
/// 1. Add the new key's line on every machine. The old one still seals.
/// 2. Once every machine has the new key, change `seal-with` on every machine.
/// 3. Seal all rows again (`px keys --reseal`).
/// 4. Once no row is under the old key (`px keys --usage`), take its line away.
///
/// # Format
///
/// AES-256-GCM under a key of its own for each secret, derived by HKDF-SHA256 from the file's key,
/// 32 random bytes and the row. So no number of secrets exhausts the nonces of one key. The row is
/// associated data, too. Secrets of the earlier format (the file's key itself, with a
/// random nonce) open as well.
#[derive(Clone)]
pub struct FileKeys {
    keys: Vec<FileKey>,
    sealing: usize,
    random: Arc<dyn Random>,
}

#[derive(Clone)]
struct FileKey {
    name: String,
    /// Keys of single secrets are derived from it.
    root: Arc<Prk>,
    /// Opens secrets of the earlier format.
    direct: Arc<LessSafeKey>,
}

/// How secrets of the present format begin. One of the earlier format begins with random bytes,
/// so whatever does not open as the one is tried as the other.
const FORMAT: [u8; 4] = *b"PX\x02\0";
/// Random bytes that the key of a secret is derived from.
const SALT_LEN: usize = 32;
/// The line that names the key that seals.
const SEAL_WITH: &str = "seal-with";

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
    /// If it has no key, several keys of which none is named as the one that seals, or a line that
    /// is not a key. The text is never quoted.
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
                    let what = format!("line {} names the key that seals again", number + 1);
                    return Err(VaultError::Key(what));
                }
                continue;
            }
            let bytes = BASE64.decode(key.trim()).map(Zeroizing::new).map_err(|_| broken())?;
            if keys.iter().any(|known| known.name == name) {
                return Err(VaultError::Key(format!("line {} names a key again", number + 1)));
            }
            let key = UnboundKey::new(&AES_256_GCM, &bytes).map_err(|_| broken())?;
            keys.push(FileKey {
                name: name.to_owned(),
                root: Arc::new(Prk::new_less_safe(HKDF_SHA256, &bytes)),
                direct: Arc::new(LessSafeKey::new(key)),
            });
        }
        let sealing = match (seal_with, keys.len()) {
            (_, 0) => return Err(VaultError::Key("there is no key in it".to_owned())),
            (None, 1) => 0,
            (None, _) => {
                let what = "there are several keys in it: name the one that seals by a line \
                            `seal-with NAME`";
                return Err(VaultError::Key(what.to_owned()));
            }
            (Some(name), _) => keys.iter().position(|key| key.name == name).ok_or_else(|| {
                VaultError::Key("its line `seal-with` names a key that is not in it".to_owned())
            })?,
        };
        Ok(Self { keys, sealing, random })
    }

    /// The names of all keys.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().map(|key| &*key.name)
    }

    /// The name of the key that seals.
    #[must_use]
    pub fn sealing_key(&self) -> &str {
        self.keys.get(self.sealing).map_or("", |key| &key.name)
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
        let key = self.keys.get(self.sealing).ok_or_else(none)?;
        let mut salt = [0; SALT_LEN];
        self.random.fill(&mut salt);
        let failed = || VaultError::Key("it did not seal".to_owned());
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
    /// The key of one secret.
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

/// The nonce of a key that seals one secret.
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
        // The first machine that has the new key seals what the others open.
        let text = format!("# keys\nseal-with k1\n\nk1 {one}\nk2 {two}\n");
        let both = FileKeys::parse(&text, random.clone()).unwrap();
        assert_eq!(&**both.open(&sealed, "row").unwrap(), b"secret");
        assert_eq!(&**old.open(&both.seal(b"new", "row").unwrap(), "row").unwrap(), b"new");
        assert!(both.is_current(&sealed));
        // Then all of them have it, and it seals.
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

    /// A secret as 0.0 sealed it: nonce, ciphertext, tag, under the file's key itself.
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
        // Even if its nonce begins as the present format does.
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
            // The worst generator: it gives the same bytes each time.
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
