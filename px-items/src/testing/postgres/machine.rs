//! PostgreSQL's programs on this machine, and an ordinary user to run them as.

use std::{
    cmp::Reverse,
    env, fs, io,
    os::unix::{
        fs::{MetadataExt as _, chown},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::Command,
};

/// Folder of parallel versions on Debian and its derivatives.
const VERSIONS: &str = "/usr/lib/postgresql";

/// Users that run the server if this process runs as root, in order of preference.
const USERS: [&str; 2] = ["postgres", "nobody"];

/// Folder of PostgreSQL's programs.
#[derive(Debug)]
pub(super) struct Machine(PathBuf);

impl Machine {
    /// Searches PATH, then the newest parallel version.
    pub(super) fn find() -> Option<Self> {
        let path = env::var_os("PATH").unwrap_or_default();
        let aside = fs::read_dir(VERSIONS).into_iter().flatten().flatten();
        let mut aside: Vec<_> = aside.map(|entry| entry.path()).collect();
        aside.sort_by_key(|path| Reverse(version(path)));
        env::split_paths(&path)
            .chain(aside.into_iter().map(|version| version.join("bin")))
            .find_map(|folder| complete(&folder))
            .map(Self)
    }

    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

/// A user that is not root, and its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct User {
    uid: u32,
    gid: u32,
}

impl User {
    /// Returns the user that runs the server, or `None` for the user of this process, who just
    /// created `folder`. PostgreSQL refuses to run as root.
    pub(super) fn instead_of_root(folder: &Path) -> io::Result<Option<Self>> {
        if fs::metadata(folder)?.uid() != 0 {
            return Ok(None);
        }
        let users = fs::read_to_string("/etc/passwd")?;
        let found = USERS.iter().find_map(|name| Self::named(&users, name));
        found.map(Some).ok_or_else(|| {
            io::Error::other("root may not run PostgreSQL, and there is no user postgres or nobody")
        })
    }

    fn named(users: &str, name: &str) -> Option<Self> {
        users.lines().find_map(|line| {
            let mut fields = line.split(':');
            if fields.next() != Some(name) {
                return None;
            }
            let (uid, gid) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
            (uid != 0).then_some(Self { uid, gid })
        })
    }

    /// Gives a file to this user.
    pub(super) fn gets(self, path: &Path) -> io::Result<()> {
        chown(path, Some(self.uid), Some(self.gid))
    }

    /// Makes a command run as this user. The standard library drops root's other groups too.
    pub(super) fn runs(self, command: &mut Command) {
        command.uid(self.uid).gid(self.gid);
    }
}

/// Returns the folder of the programs, if all exist. Links are resolved, because PostgreSQL finds
/// its own files relative to the actual location of its programs.
fn complete(folder: &Path) -> Option<PathBuf> {
    let initdb = folder.join("initdb").canonicalize().ok()?;
    let folder = initdb.parent()?;
    folder.join("postgres").is_file().then(|| folder.to_owned())
}

/// Parses `15` or `9.6` as numbers, for comparison.
fn version(folder: &Path) -> Vec<u32> {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    name.split('.').map_while(|part| part.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_their_whole_name_and_are_never_root() {
        let users = "root:x:0:0::/root:/bin/sh\nnobody2:x:7:7::/:\nnobody:x:65534:65533::/:\n";
        assert_eq!(User::named(users, "nobody"), Some(User { uid: 65534, gid: 65533 }));
        assert_eq!(User::named(users, "root"), None);
        assert_eq!(User::named(users, "postgres"), None);
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(version(Path::new("/x/9.6")) < version(Path::new("/x/15")));
        assert!(version(Path::new("/x/15")) < version(Path::new("/x/16")));
    }
}
