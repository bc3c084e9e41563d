//! A disk of its own for a server: a file system in a file, so that its power can be cut, and that it can be full.
//!
//! What the server wrote and did not sync lies in the memory of the mounted file system and not in the file. A copy of
//! the file is therefore what a machine would find that lost its power at that moment. This takes root and loop devices.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, ensure};

use super::run::Skipped;
use crate::tools::Folder;

/// What it is filled with at first, and then.
const PIECE: usize = 1 << 20;
const BLOCK: usize = 4096;

/// Unmounts the folder `$1` when the pipe closes, even if somebody still writes there. A signal that ends the whole group
/// of processes must not end it before.
const UNMOUNTER: &str = r#"
trap '' HUP INT TERM
while read -r _; do :; done
umount -l "$1"
"#;

/// A mounted disk. Dropped, or when the process ends in any way, it is unmounted.
#[derive(Debug)]
pub(crate) struct Disk {
    image: PathBuf,
    copies: u32,
    mounted: Option<Child>,
    folder: Folder,
}

impl Disk {
    /// Makes an empty one of this size, as `truncate` takes it, and mounts it.
    ///
    /// # Errors
    /// [`Skipped`], where this process may not.
    pub(crate) fn new(size: &str) -> anyhow::Result<Self> {
        if let Err(why) = run("losetup", &["--find".as_ref()]) {
            let what = "a disk of its own takes root and loop devices";
            return Err(Skipped(format!("{what}: {why:#}")).into());
        }
        let folder = Folder::new()?;
        let image = folder.path().join("image-0");
        run("truncate", &["-s".as_ref(), size.as_ref(), image.as_ref()])?;
        run("mkfs.ext4", &["-q".as_ref(), "-F".as_ref(), image.as_ref()])?;
        std::fs::create_dir(folder.path().join("disk"))?;
        let mut disk = Self {
            image,
            copies: 0,
            mounted: None,
            folder,
        };
        disk.mount()?;
        Ok(disk)
    }

    /// Where it is mounted.
    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("disk")
    }

    /// Keeps all that was written until now, whoever wrote it.
    pub(crate) fn sync(&self) -> anyhow::Result<()> {
        run("sync", &["--file-system".as_ref(), self.path().as_ref()])
    }

    /// Fills it to the last block.
    pub(crate) fn fill(&self) -> anyhow::Result<()> {
        let mut file = std::fs::File::create(self.filler())?;
        let zeros = vec![0; PIECE];
        let mut length = PIECE;
        loop {
            match file.write(&zeros[..length]) {
                Ok(1..) => {}
                // What is left may still take a smaller piece.
                Ok(0) | Err(_) if length > BLOCK => length = BLOCK,
                Ok(0) => break,
                Err(error) if error.kind() == std::io::ErrorKind::StorageFull => break,
                Err(error) => return Err(error.into()),
            }
        }
        // Blocks that were promised to the file are not lost again when they are written out.
        Ok(file.sync_all()?)
    }

    /// Makes room again.
    pub(crate) fn make_room(&self) -> anyhow::Result<()> {
        Ok(std::fs::remove_file(self.filler())?)
    }

    fn filler(&self) -> PathBuf {
        self.path().join("filler")
    }

    /// Copies what the disk holds at this moment, as after a power cut; who writes to it must stand still.
    pub(crate) fn copy(&mut self) -> anyhow::Result<PathBuf> {
        self.copies += 1;
        let copy = self.folder.path().join(format!("image-{}", self.copies));
        let sparse = "--sparse=always".as_ref();
        run("cp", &[sparse, self.image.as_ref(), copy.as_ref()])?;
        Ok(copy)
    }

    /// Mounts a copy in the place of what is there; nobody may use that any more.
    pub(crate) fn put_back(&mut self, copy: PathBuf) -> anyhow::Result<()> {
        self.unmount();
        self.image = copy;
        self.mount()
    }

    fn mount(&mut self) -> anyhow::Result<()> {
        // Written past the memory of the file below, so that the file holds what the disk was told to keep.
        let arguments = ["--direct-io=on", "--find", "--show"];
        let output = Command::new("losetup")
            .args(arguments)
            .arg(&self.image)
            .output()?;
        ensure!(
            output.status.success(),
            "losetup failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let device = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let mounted = run("mount", &[device.as_ref(), self.path().as_ref()]);
        // The device goes with the last who uses it: with the mount, or at once where that failed.
        run("losetup", &["-d".as_ref(), device.as_ref()])?;
        mounted?;
        let guard = Command::new("sh")
            .args(["-c", UNMOUNTER, "unmounter"])
            .arg(self.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start a shell")?;
        self.mounted = Some(guard);
        Ok(())
    }

    fn unmount(&mut self) {
        if let Some(mut guard) = self.mounted.take() {
            // It goes by the end of the pipe. What it could not unmount shows when a disk is mounted in its place.
            drop(guard.stdin.take());
            guard.wait().ok();
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.unmount();
    }
}

fn run(program: &str, arguments: &[&Path]) -> anyhow::Result<()> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {program}"))?;
    ensure!(
        output.status.success(),
        "{program} failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
