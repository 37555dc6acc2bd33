//! Files that contain secrets: read, or created with private permissions.

use crate::failure::{Failure, Result};
use std::{
    fs,
    io::{self, Write as _},
    path::Path,
};

/// The purpose of a secret file, for error texts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SecretFile<'a> {
    /// A description, such as "the key that seals tokens".
    pub(crate) what: &'a str,
    /// The command-line option that sets the file.
    pub(crate) option: &'a str,
}

impl SecretFile<'_> {
    /// Reads the file. Returns `None` if it does not exist.
    pub(crate) fn read(&self, file: &Path) -> Result<Option<Vec<u8>>> {
        match fs::read(file) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.failed("cannot be read", file, &error)),
        }
    }

    /// Creates the file with private permissions. Returns `false` if another program created it meanwhile.
    pub(crate) fn create(&self, file: &Path, bytes: &[u8]) -> Result<bool> {
        // Written under a temporary name and then linked, so that no program reads an incomplete file.
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let draft =
            folder.unwrap_or(Path::new(".")).join(format!(".{name}.{}", std::process::id()));
        let created = write_new(&draft, bytes).and_then(|()| fs::hard_link(&draft, file));
        let _ = fs::remove_file(&draft);
        match created {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && file.exists() => {
                Ok(false)
            }
            Err(error) => Err(self.failed("cannot be created", file, &error)),
        }
    }

    /// Returns the failure for a missing file.
    pub(crate) fn missing(&self, file: &Path, next: &str) -> Failure {
        let Self { what, option } = self;
        let file = file.display();
        Failure::new(format!(
            "{what} does not exist: {file}; set its file with {option}, or {next}"
        ))
    }

    fn failed(&self, how: &str, file: &Path, error: &io::Error) -> Failure {
        let Self { what, option } = self;
        let file = file.display();
        Failure::new(format!("{what}, {file}, {how}: {error}; set another file with {option}"))
    }
}

fn write_new(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(file)?;
    file.write_all(bytes)?;
    file.sync_all()
}
