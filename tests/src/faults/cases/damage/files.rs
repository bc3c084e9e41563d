//! The files in which NATS keeps a stream, and what can befall them.
//!
//! A block file is records one after the other: length (the highest bit says that there are headers), sequence, time,
//! and the subject's length; then subject, headers, payload and a checksum. Numbers have their lowest byte first.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};

use crate::faults::cases::operators::STREAM;
use crate::faults::dice::Dice;

/// A record of nothing: what stands before its subject, and its checksum.
const SMALLEST: usize = 30;
const CHECKSUM: usize = 8;
/// Where a record's sequence stands.
const SEQUENCE: Range<usize> = 4..12;

/// Which of several, in their order.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place {
    First,
    /// Neither the first nor the last, where there are so many.
    Middle,
    Last,
}

/// The files of the log of events, whose server does not run.
pub(super) struct Files<'d> {
    folder: PathBuf,
    older: PathBuf,
    dice: &'d mut Dice,
}

impl<'d> Files<'d> {
    pub(super) fn of(store: &Path, dice: &'d mut Dice) -> Self {
        Self {
            folder: folder(store),
            older: store.with_extension("older"),
            dice,
        }
    }

    /// Changes the bytes of a block file.
    pub(super) fn change(
        &mut self,
        place: Place,
        change: impl FnOnce(&mut Vec<u8>, &mut Dice) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let file = self.block(place)?;
        let before = std::fs::read(&file)?;
        let mut bytes = before.clone();
        change(&mut bytes, self.dice)?;
        ensure!(bytes != before, "nothing was changed");
        Ok(std::fs::write(&file, bytes)?)
    }

    /// Changes the bytes of a record, in the last file.
    pub(super) fn record(
        &mut self,
        place: Place,
        change: impl FnOnce(&mut [u8], &mut Dice),
    ) -> anyhow::Result<()> {
        self.change(Place::Last, |bytes, dice| {
            let range = place.of(&records(bytes), dice)?;
            let record = bytes.get_mut(range).context("a record")?;
            change(record, dice);
            Ok(())
        })
    }

    /// Removes a block file.
    pub(super) fn remove_block(&mut self, place: Place) -> anyhow::Result<()> {
        Ok(std::fs::remove_file(self.block(place)?)?)
    }

    /// Gives two block files each other's names.
    pub(super) fn swap_blocks(&mut self) -> anyhow::Result<()> {
        let (first, last) = (self.block(Place::First)?, self.block(Place::Last)?);
        ensure!(first != last, "there is one file only");
        let aside = first.with_extension("aside");
        std::fs::rename(&first, &aside)?;
        std::fs::rename(&last, &first)?;
        Ok(std::fs::rename(&aside, &last)?)
    }

    /// Puts a block file back as it was.
    pub(super) fn older_block(&mut self) -> anyhow::Result<()> {
        let file = self.block(Place::Last)?;
        self.as_before(&file)
    }

    /// Puts the index back as it was.
    pub(super) fn older_index(&mut self) -> anyhow::Result<()> {
        self.as_before(&self.index())
    }

    fn as_before(&self, file: &Path) -> anyhow::Result<()> {
        let within = file.strip_prefix(&self.folder)?;
        let older = self.older.join(within);
        std::fs::copy(&older, file).with_context(|| format!("{}", older.display()))?;
        Ok(())
    }

    /// Puts all of the stream back as it was.
    pub(super) fn older_folder(&mut self) -> anyhow::Result<()> {
        std::fs::remove_dir_all(&self.folder)?;
        copy(&self.older, &self.folder)
    }

    pub(super) fn remove_folder(&mut self) -> anyhow::Result<()> {
        Ok(std::fs::remove_dir_all(&self.folder)?)
    }

    /// Removes the index; a server that was killed before it ever wrote one has none.
    pub(super) fn remove_index(&mut self) -> anyhow::Result<()> {
        let index = self.index();
        if index.exists() {
            std::fs::remove_file(index)?;
        }
        Ok(())
    }

    /// Changes a byte of the index.
    pub(super) fn change_index(&mut self) -> anyhow::Result<()> {
        let index = self.index();
        self.change_file(&index)
    }

    /// Changes a byte of what says how the stream is configured.
    pub(super) fn change_meta(&mut self) -> anyhow::Result<()> {
        let meta = self.folder.join("meta.inf");
        self.change_file(&meta)
    }

    fn change_file(&mut self, file: &Path) -> anyhow::Result<()> {
        let mut bytes = std::fs::read(file).with_context(|| format!("{}", file.display()))?;
        flip_bit(&mut bytes, self.dice);
        Ok(std::fs::write(file, bytes)?)
    }

    pub(super) fn remove_meta(&mut self) -> anyhow::Result<()> {
        Ok(std::fs::remove_file(self.folder.join("meta.inf"))?)
    }

    fn index(&self) -> PathBuf {
        self.folder.join("msgs/index.db")
    }

    fn block(&mut self, place: Place) -> anyhow::Result<PathBuf> {
        place.of(&blocks(&self.folder)?, self.dice)
    }
}

impl Place {
    fn of<T: Clone>(self, all: &[T], dice: &mut Dice) -> anyhow::Result<T> {
        let last = all.len().checked_sub(1).context("there is none")?;
        let index = match self {
            Self::First => 0,
            Self::Last => last,
            Self::Middle => usize::try_from(dice.number(1..(last as u64).max(2)))?.min(last),
        };
        all.get(index).cloned().context("there are too few")
    }
}

/// Where a server's copy of the log is.
pub(super) fn folder(store: &Path) -> PathBuf {
    store.join("jetstream/$G/streams").join(STREAM)
}

/// Keeps a copy of the log as it is now, which a harm can put back.
pub(super) fn keep(store: &Path) -> anyhow::Result<()> {
    copy(&folder(store), &store.with_extension("older"))
}

/// The block files, the oldest first.
pub(super) fn blocks(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let messages = folder.join("msgs");
    let files = std::fs::read_dir(&messages).with_context(|| format!("{}", messages.display()))?;
    let mut blocks: Vec<(u64, PathBuf)> = files
        .flatten()
        .map(|file| file.path())
        .filter(|file| file.extension().is_some_and(|extension| extension == "blk"))
        .filter_map(|file| Some((file.file_stem()?.to_str()?.parse().ok()?, file)))
        .collect();
    blocks.sort();
    Ok(blocks.into_iter().map(|(_, file)| file).collect())
}

/// Where the records of a block file stand in it.
pub(super) fn records(bytes: &[u8]) -> Vec<Range<usize>> {
    let (mut records, mut at) = (Vec::new(), 0);
    while let Some(head) = bytes.get(at..at + 4) {
        let length = head
            .iter()
            .rev()
            .fold(0, |length, byte| (length << 8) | usize::from(*byte))
            & 0x7fff_ffff;
        if length < SMALLEST || at + length > bytes.len() {
            break;
        }
        records.push(at..at + length);
        at += length;
    }
    records
}

/// Changes one bit.
pub(super) fn flip_bit(bytes: &mut [u8], dice: &mut Dice) {
    let bit = 1 << dice.number(0..8);
    if let Some(byte) = drawn(bytes, dice) {
        *byte ^= bit;
    }
}

/// Changes a byte of a record's checksum.
pub(super) fn change_checksum(record: &mut [u8], dice: &mut Dice) {
    let checksum = record.len().saturating_sub(CHECKSUM);
    flip_bit(&mut record[checksum..], dice);
}

/// Makes a record say that it is longer or shorter.
pub(super) fn change_length(record: &mut [u8], dice: &mut Dice) {
    let length = u8::try_from(dice.number(1..256)).unwrap_or(1);
    record[0] = record[0].wrapping_add(length);
}

/// Makes a record say that it is another.
pub(super) fn change_sequence(record: &mut [u8], dice: &mut Dice) {
    flip_bit(&mut record[SEQUENCE.start..SEQUENCE.start + 2], dice);
}

/// Inverts so many bytes in a row, at a place that is drawn.
pub(super) fn invert(bytes: &mut [u8], length: usize, dice: &mut Dice) {
    for byte in stretch(bytes, length, dice) {
        *byte ^= 0xff;
    }
}

/// Makes so many bytes in a row zero.
pub(super) fn zero(bytes: &mut [u8], length: usize, dice: &mut Dice) {
    stretch(bytes, length, dice).fill(0);
}

/// Writes a record over the beginning of what follows it.
pub(super) fn repeat_record(bytes: &mut [u8], dice: &mut Dice) -> anyhow::Result<()> {
    let record = Place::Middle.of(&records(bytes), dice)?;
    let again = bytes[record.clone()].to_vec();
    let room = record.end..(record.end + again.len()).min(bytes.len());
    let length = room.len();
    ensure!(length > 0, "nothing follows the record");
    bytes[room].copy_from_slice(&again[..length]);
    Ok(())
}

/// Gives two neighbours each other's places.
pub(super) fn swap_records(bytes: &mut [u8], dice: &mut Dice) -> anyhow::Result<()> {
    let records = records(bytes);
    let index = dice.number(0..records.len().saturating_sub(1).max(1) as u64);
    let index = usize::try_from(index)?;
    let (first, second) = (records.get(index), records.get(index + 1));
    let (first, second) = (first.context("a record")?, second.context("another")?);
    bytes[first.start..second.end].rotate_left(first.len());
    Ok(())
}

/// Takes a record out, as if it had never been.
pub(super) fn take_out(bytes: &mut Vec<u8>, place: Place, dice: &mut Dice) -> anyhow::Result<()> {
    let record = place.of(&records(bytes), dice)?;
    bytes.drain(record);
    Ok(())
}

/// Adds bytes that nobody wrote.
pub(super) fn add_rubbish(bytes: &mut Vec<u8>, dice: &mut Dice) {
    for _ in 0..dice.number(1..200) {
        bytes.push(u8::try_from(dice.number(0..256)).unwrap_or_default());
    }
}

fn stretch<'b>(bytes: &'b mut [u8], length: usize, dice: &mut Dice) -> &'b mut [u8] {
    let places = bytes.len().saturating_sub(length).max(1) as u64;
    let place = usize::try_from(dice.number(0..places)).unwrap_or_default();
    let end = (place + length).min(bytes.len());
    &mut bytes[place..end]
}

fn drawn<'b>(bytes: &'b mut [u8], dice: &mut Dice) -> Option<&'b mut u8> {
    let index = dice.number(0..(bytes.len() as u64).max(1));
    bytes.get_mut(usize::try_from(index).ok()?)
}

/// Copies a folder or file in place of what is there.
pub(super) fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    if to.is_dir() {
        std::fs::remove_dir_all(to)?;
    }
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status()?;
    ensure!(status.success(), "{} cannot be copied", from.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(sequence: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(SMALLEST + payload.len()).unwrap();
        let mut bytes = length.to_le_bytes().to_vec();
        bytes.extend(u64::from(sequence).to_le_bytes());
        bytes.extend([0; 10]);
        bytes.extend(payload);
        bytes.extend([sequence; CHECKSUM]);
        bytes
    }

    #[test]
    fn records_are_found_one_after_the_other() {
        let mut bytes = [record(1, b"one"), record(2, b"second"), record(3, b"")].concat();
        assert_eq!(records(&bytes), [0..33, 33..69, 69..99]);
        bytes.pop();
        assert_eq!(records(&bytes), [0..33, 33..69]);
        let mut dice = Dice::new(1, "test");
        let before = bytes.clone();
        swap_records(&mut bytes, &mut dice).unwrap();
        assert_eq!(records(&bytes), [0..36, 36..69]);
        assert_ne!(bytes, before);
        take_out(&mut bytes, Place::Last, &mut dice).unwrap();
        let left = records(&bytes);
        assert_eq!((left.len(), left.first()), (1, Some(&(0..36))));
    }
}
