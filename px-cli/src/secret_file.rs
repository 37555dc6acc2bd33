//! Files with secrets: read, or made for this user alone.

use crate::failure::{Failure, Result};
use std::{
    fs,
    io::{self, Write as _},
    path::Path,
};

/// What a file with a secret is for, in the errors about it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Secret<'a> {
    /// Such as "the key that seals tokens".
    pub(crate) what: &'a str,
    /// The option that names the file.
    pub(crate) option: &'a str,
}

impl Secret<'_> {
    /// Reads the file; `None` when there is none.
    pub(crate) fn read(&self, file: &Path) -> Result<Option<Vec<u8>>> {
        match fs::read(file) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.failed("cannot be read", file, &error)),
        }
    }

    /// Makes the file, for this user alone. `false`: someone else made it meanwhile.
    pub(crate) fn make(&self, file: &Path, bytes: &[u8]) -> Result<bool> {
        // First beside it and then linked to its name: nobody ever reads half of it.
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let draft =
            folder.unwrap_or(Path::new(".")).join(format!(".{name}.{}", std::process::id()));
        let made = write_new(&draft, bytes).and_then(|()| fs::hard_link(&draft, file));
        let _ = fs::remove_file(&draft);
        match made {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && file.exists() => {
                Ok(false)
            }
            Err(error) => Err(self.failed("cannot be made", file, &error)),
        }
    }

    /// It must be there, and is not.
    pub(crate) fn missing(&self, file: &Path, next: &str) -> Failure {
        let Self { what, option } = self;
        let file = file.display();
        Failure::new(format!("{what} is not there: {file}; give its file by {option}, or {next}"))
    }

    fn failed(&self, how: &str, file: &Path, error: &io::Error) -> Failure {
        let Self { what, option } = self;
        let file = file.display();
        Failure::new(format!("{what}, {file}, {how}: {error}; give another file by {option}"))
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
