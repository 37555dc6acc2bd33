//! Folder of a server, and cleanup of abandoned folders.
//!
//! The owner of a folder has a lock on a file in it. The operating system releases the lock when
//! the process ends, so a folder with a free lock is abandoned.

use super::{
    StartError,
    machine::{Machine, User},
    secret,
};
use std::{
    env,
    fs::{self, DirBuilder, File},
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

const PREFIX: &str = "px-postgres-";
const LOCK: &str = "in-use";

/// Folder of a server.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    user: Option<User>,
    _lock: File,
}

impl Folder {
    /// Creates a folder that only the server's user can read.
    pub(super) fn make() -> Result<Self, StartError> {
        let path = env::temp_dir().join(format!("{PREFIX}{}", secret()));
        DirBuilder::new().mode(0o700).create(&path)?;
        let user = User::instead_of_root(&path)?;
        // The lock file is renamed once it is locked, so that the folder never looks abandoned
        // before.
        let unnamed = path.join("lock");
        let lock = File::create_new(&unnamed)?;
        lock.lock()?;
        fs::rename(unnamed, path.join(LOCK))?;
        if let Some(user) = user {
            user.gets(&path)?;
        }
        Ok(Self { path, user, _lock: lock })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn data(&self) -> PathBuf {
        self.path.join("data")
    }

    /// Creates the files of a server that has one role with a password.
    pub(super) fn fill(
        &self,
        machine: &Machine,
        role: &str,
        password: &str,
    ) -> Result<(), StartError> {
        let file = self.path.join("password");
        let mut options = File::options();
        writeln!(options.write(true).create_new(true).mode(0o600).open(&file)?, "{password}")?;
        if let Some(user) = self.user {
            user.gets(&file)?;
        }
        let mut initdb = self.command(&machine.program("initdb"));
        // The password is sent over loopback in the clear. Scram would cost each connection of a
        // test thousands of hashes.
        initdb.args(["--username", role, "--auth", "password", "--no-sync", "--locale", "C"]);
        initdb.args(["--encoding", "UTF8", "--pwfile"]).arg(&file).arg("-D").arg(self.data());
        let output = initdb.stdin(Stdio::null()).output()?;
        if output.status.success() {
            return Ok(());
        }
        let output = String::from_utf8_lossy(&output.stderr).into_owned();
        Err(StartError::new(format!("initdb failed: {output}")))
    }

    /// Returns a command that runs as the server's user.
    pub(super) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        // The current folder may not be accessible to that user.
        command.current_dir("/");
        if let Some(user) = self.user {
            user.runs(&mut command);
        }
        command
    }
}

impl Drop for Folder {
    /// Deletes the folder if no guard did.
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Deletes abandoned folders.
///
/// If a server still runs in one because its guard was killed too, it stops by itself: PostgreSQL
/// checks once a minute whether its folder still exists.
pub(super) fn delete_abandoned() {
    for entry in fs::read_dir(env::temp_dir()).into_iter().flatten().flatten() {
        let ours = entry.file_name().to_string_lossy().starts_with(PREFIX);
        // A folder that cannot be opened is another user's. One that cannot be deleted is being
        // deleted by a guard.
        if ours && is_abandoned(&entry.path()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn is_abandoned(folder: &Path) -> bool {
    File::open(folder.join(LOCK)).is_ok_and(|lock| lock.try_lock().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_left_when_its_owner_is_gone_and_not_before() {
        let folder = Folder::make().unwrap();
        assert!(!is_abandoned(folder.path()));
        let abandoned = Folder::make().unwrap();
        abandoned._lock.unlock().unwrap();
        assert!(is_abandoned(abandoned.path()));
    }
}
