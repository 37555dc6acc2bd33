//! The folder of a server, and what is done about folders that were left behind.
//!
//! Whoever uses a folder holds a lock on a file in it. The system lets go of the lock when
//! the process ends, so a folder whose lock can be had is nobody's.

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

/// The folder of a server.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    user: Option<User>,
    _lock: File,
}

impl Folder {
    /// Makes a folder that only the server's user can look into.
    pub(super) fn make() -> Result<Self, StartError> {
        let path = env::temp_dir().join(format!("{PREFIX}{}", secret()));
        DirBuilder::new().mode(0o700).create(&path)?;
        let user = User::instead_of_root(&path)?;
        // The lock gets its name when it is held: before, nobody takes the folder for left.
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

    /// Makes the files of a server that has one role with a password.
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
        // The password goes over loopback in the clear; scram would cost each connection of a
        // test thousands of hashes.
        initdb.args(["--username", role, "--auth", "password", "--no-sync", "--locale", "C"]);
        initdb.args(["--encoding", "UTF8", "--pwfile"]).arg(&file).arg("-D").arg(self.data());
        let output = initdb.stdin(Stdio::null()).output()?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        Err(StartError::new(format!("initdb failed: {said}")))
    }

    /// A command that runs as the server's user.
    pub(super) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        // The present folder may be closed to that user.
        command.current_dir("/");
        if let Some(user) = self.user {
            user.runs(&mut command);
        }
        command
    }
}

impl Drop for Folder {
    /// The guard deletes the folder; this is for when no guard got to run.
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Deletes folders of which the owner is gone.
///
/// Should a server still run in one, because its guard was killed too, it ends by itself:
/// PostgreSQL looks once a minute whether its folder is still there.
pub(super) fn sweep() {
    for entry in fs::read_dir(env::temp_dir()).into_iter().flatten().flatten() {
        let ours = entry.file_name().to_string_lossy().starts_with(PREFIX);
        // What cannot be opened is another user's, what cannot be deleted a guard's at work.
        if ours && is_left(&entry.path()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn is_left(folder: &Path) -> bool {
    File::open(folder.join(LOCK)).is_ok_and(|lock| lock.try_lock().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_left_when_its_owner_is_gone_and_not_before() {
        let folder = Folder::make().unwrap();
        assert!(!is_left(folder.path()));
        let abandoned = Folder::make().unwrap();
        abandoned._lock.unlock().unwrap();
        assert!(is_left(abandoned.path()));
    }
}
