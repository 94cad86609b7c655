//! Where record events wait while the store is away: files in `spool/` that only grow at their end.
//!
//! A segment is a sequence of entries, each a length, a checksum and an event as JSON. What `append` has returned
//! for is on disk. A tail that was torn by a crash is cut off when the spool is opened: nobody was told that it
//! was kept. Reading does not remove; `release` deletes the segments that are wholly in the store, so after a crash
//! some events may be replayed twice, which the store does not mind.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest;

use super::Event;

/// A segment is closed when it is longer than this, in bytes.
const SEGMENT: u64 = 8 << 20;
/// Length and checksum before an event.
const HEAD: usize = 12;
/// Longest event that is believed when reading, in bytes.
const LONGEST: u32 = 512 << 20;

/// Why events could not be spooled.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpoolError {
    /// The spool has reached its limit.
    #[error("the spool is full")]
    Full,
    /// The disk refused.
    #[error("the spool cannot be written")]
    Io(#[from] io::Error),
    /// An event has no form on disk.
    #[error("an event cannot be spooled")]
    Form(#[from] serde_json::Error),
}

/// The spool of one process.
#[derive(Debug)]
pub struct Spool {
    folder: PathBuf,
    most: u64,
    /// Oldest first.
    segments: VecDeque<Segment>,
    /// The last segment, if it is still open.
    tail: Option<File>,
    /// Where reading goes on, in the first segment.
    read_to: u64,
    /// Events that are not released.
    events: u64,
}

#[derive(Debug)]
struct Segment {
    number: u64,
    bytes: u64,
    events: u64,
}

/// Events read from the spool.
#[derive(Debug, Default)]
pub struct Portion {
    /// The events, oldest first.
    pub events: Vec<Event>,
    /// Entries that are whole and say nothing that this release understands.
    pub unreadable: u64,
    segment: u64,
    end: u64,
}

impl Spool {
    /// Opens the spool in `folder`, which is made where needed, with a limit of `most` bytes.
    ///
    /// # Errors
    /// The folder or its files cannot be used.
    pub fn open(folder: &Path, most: u64) -> Result<Spool, SpoolError> {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(folder)?;
        let mut numbers: Vec<u64> = fs::read_dir(folder)?
            .filter_map(|entry| {
                entry
                    .ok()?
                    .file_name()
                    .to_str()?
                    .strip_suffix(".seg")?
                    .parse()
                    .ok()
            })
            .collect();
        numbers.sort_unstable();
        let mut spool = Spool {
            folder: folder.to_owned(),
            most,
            segments: VecDeque::new(),
            tail: None,
            read_to: 0,
            events: 0,
        };
        for number in numbers {
            let (bytes, events) = spool.check(number)?;
            if events == 0 {
                fs::remove_file(spool.path(number))?;
                continue;
            }
            spool.events += events;
            spool.segments.push_back(Segment {
                number,
                bytes,
                events,
            });
        }
        Ok(spool)
    }

    /// Takes at most `most` bytes from now on.
    pub fn limit(&mut self, most: u64) {
        self.most = most;
    }

    /// Events that wait.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// Bytes on disk.
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    /// Adds events; when it returns they are on disk. Above the limit by at most `beyond` bytes.
    ///
    /// # Errors
    /// The spool is full, or the disk refused; then nothing was added.
    pub fn append<'e>(
        &mut self,
        events: impl IntoIterator<Item = &'e Event>,
        beyond: u64,
    ) -> Result<(), SpoolError> {
        let mut entries = Vec::new();
        let mut count = 0;
        for event in events {
            let start = entries.len();
            entries.extend_from_slice(&[0; HEAD]);
            serde_json::to_writer(&mut entries, event)?;
            seal(&mut entries, start);
            count += 1;
        }
        if self.bytes() + entries.len() as u64 > self.most.saturating_add(beyond) {
            return Err(SpoolError::Full);
        }
        let added = self.write(&entries);
        if added.is_err() {
            self.mend();
        }
        added?;
        self.events += count;
        if let Some(last) = self.segments.back_mut() {
            last.bytes += entries.len() as u64;
            last.events += count;
            if last.bytes >= SEGMENT {
                self.tail = None;
            }
        }
        Ok(())
    }

    /// The next events in order, at most `most`, without removing them. None are left when it is empty.
    ///
    /// # Errors
    /// The disk refused.
    pub fn read(&self, most: usize) -> Result<Portion, SpoolError> {
        let mut portion = Portion::default();
        let Some(first) = self.segments.front() else {
            return Ok(portion);
        };
        portion.segment = first.number;
        portion.end = self.read_to;
        let mut file = File::open(self.path(first.number))?;
        file.seek(SeekFrom::Start(self.read_to))?;
        let mut reader = io::BufReader::new(file.take(first.bytes - self.read_to));
        while portion.events.len() < most
            && let Some((event, length)) = entry(&mut reader)?
        {
            portion.end += length;
            match serde_json::from_slice(&event) {
                Ok(event) => portion.events.push(event),
                Err(_) => portion.unreadable += 1,
            }
        }
        Ok(portion)
    }

    /// Forgets what was read as `portion`.
    ///
    /// # Errors
    /// A file cannot be deleted.
    pub fn release(&mut self, portion: &Portion) -> Result<(), SpoolError> {
        let read = portion.events.len() as u64 + portion.unreadable;
        let Some(first) = self.segments.front_mut() else {
            return Ok(());
        };
        if first.number != portion.segment {
            return Ok(());
        }
        self.read_to = portion.end;
        self.events = self.events.saturating_sub(read);
        first.events = first.events.saturating_sub(read);
        if self.read_to < first.bytes {
            return Ok(());
        }
        let path = self.path(portion.segment);
        self.segments.pop_front();
        self.read_to = 0;
        if self.segments.is_empty() {
            self.tail = None;
        }
        Ok(fs::remove_file(path)?)
    }

    fn path(&self, number: u64) -> PathBuf {
        self.folder.join(format!("{number:016}.seg"))
    }

    fn write(&mut self, entries: &[u8]) -> io::Result<()> {
        let mut tail = match self.tail.take() {
            Some(tail) => tail,
            None => self.begin()?,
        };
        tail.write_all(entries)?;
        tail.sync_data()?;
        self.tail = Some(tail);
        Ok(())
    }

    /// Begins a segment. Its name is on disk before anything is in it.
    fn begin(&mut self) -> io::Result<File> {
        let number = self.segments.back().map_or(1, |last| last.number + 1);
        let mut options = OpenOptions::new();
        options.create_new(true).append(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(self.path(number))?;
        #[cfg(unix)]
        File::open(&self.folder)?.sync_all()?;
        self.segments.push_back(Segment {
            number,
            bytes: 0,
            events: 0,
        });
        Ok(file)
    }

    /// Cuts off what a failed write left behind; what comes next goes into another segment.
    fn mend(&mut self) {
        self.tail = None;
        let Some(last) = self.segments.back() else { return };
        let cut = OpenOptions::new()
            .write(true)
            .open(self.path(last.number))
            .and_then(|file| file.set_len(last.bytes));
        if let Err(error) = cut {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "a torn spool entry stays"
            );
        }
        if last.bytes == 0 {
            let _ = fs::remove_file(self.path(last.number));
            self.segments.pop_back();
        }
    }

    /// Counts the whole entries of a segment and cuts off what follows them.
    fn check(&self, number: u64) -> Result<(u64, u64), SpoolError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(self.path(number))?;
        let length = file.metadata()?.len();
        let mut reader = io::BufReader::new(&file);
        let (mut bytes, mut events) = (0, 0);
        while let Some((_, length)) = entry(&mut reader)? {
            bytes += length;
            events += 1;
        }
        if bytes < length {
            tracing::warn!(
                segment = number,
                bytes = length - bytes,
                "the spool ends in an entry that was not finished"
            );
            file.set_len(bytes)?;
            file.sync_all()?;
        }
        Ok((bytes, events))
    }
}

/// Fills in the head of the entry that begins at `start`.
fn seal(entries: &mut [u8], start: usize) {
    let Some((head, event)) = entries
        .get_mut(start..)
        .and_then(|entry| entry.split_at_mut_checked(HEAD))
    else {
        return;
    };
    let length = u32::try_from(event.len()).unwrap_or(u32::MAX);
    let (size, sum) = head.split_at_mut(4);
    size.copy_from_slice(&length.to_be_bytes());
    sum.copy_from_slice(&checksum(event));
}

fn checksum(event: &[u8]) -> [u8; 8] {
    let mut sum = [0; 8];
    let whole = digest::digest(&digest::SHA256, event);
    for (to, from) in sum.iter_mut().zip(whole.as_ref()) {
        *to = *from;
    }
    sum
}

/// The next whole entry and its length with the head; `None` at the end, whole or torn.
fn entry(reader: &mut impl io::Read) -> io::Result<Option<(Vec<u8>, u64)>> {
    let (mut size, mut sum) = ([0; 4], [0; 8]);
    if !fill(reader, &mut size)? || !fill(reader, &mut sum)? {
        return Ok(None);
    }
    let size = u32::from_be_bytes(size);
    if size > LONGEST {
        return Ok(None);
    }
    let mut event = Vec::new();
    reader.take(u64::from(size)).read_to_end(&mut event)?;
    if event.len() as u64 != u64::from(size) || checksum(&event) != sum {
        return Ok(None);
    }
    Ok(Some((event, u64::from(size) + HEAD as u64)))
}

/// Fills `buffer`; false when the end comes before.
fn fill(reader: &mut impl io::Read, buffer: &mut [u8]) -> io::Result<bool> {
    match reader.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
