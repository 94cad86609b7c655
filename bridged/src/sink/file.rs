//! A sink that is a file of JSON Lines, with full ones beside it: `events.jsonl`, `events.jsonl.1` and so on.
//!
//! A batch is on disk before it counts as delivered. A line that a crash tore is cut off before the next is written:
//! its interception was not counted and comes again.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Batch;
use super::post::PutError;
use crate::config::FileConfig;
use crate::export::Format;

/// Bytes that are searched at once for the end of the last whole line.
const BLOCK: u64 = 64 << 10;

/// The file.
#[derive(Debug)]
pub(super) struct FileSink(Arc<FileConfig>);

impl FileSink {
    pub(super) fn new(config: FileConfig) -> FileSink {
        FileSink(Arc::new(config))
    }

    /// Appends a batch.
    pub(super) async fn put(&self, batch: Arc<Batch>) -> Result<(), PutError> {
        let config = self.0.clone();
        let written =
            tokio::task::spawn_blocking(move || append(&config, &Format::Jsonl.rows(&batch.rows, false)));
        let written = written.await.unwrap_or_else(|error| Err(io::Error::other(error)));
        written.map_err(PutError::File)
    }
}

/// Appends whole lines. The file is opened each time, so that others may move it away.
fn append(config: &FileConfig, lines: &str) -> io::Result<()> {
    let path = &config.path;
    let mut file = open(path)?;
    let mut length = whole_lines(&mut file)?;
    file.set_len(length)?;
    if length > 0 && length + lines.len() as u64 > config.max_size {
        drop(file);
        rotate(config)?;
        file = open(path)?;
        length = 0;
    }
    file.write_all(lines.as_bytes())?;
    file.sync_data()?;
    if length == 0 {
        // The file's name must last too.
        sync_folder(path)?;
    }
    Ok(())
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// The length up to the end of the last whole line.
fn whole_lines(file: &mut File) -> io::Result<u64> {
    let mut end = file.seek(SeekFrom::End(0))?;
    let mut block = Vec::new();
    while end > 0 {
        let begin = end.saturating_sub(BLOCK);
        file.seek(SeekFrom::Start(begin))?;
        block.clear();
        Read::by_ref(file).take(end - begin).read_to_end(&mut block)?;
        if let Some(place) = block.iter().rposition(|byte| *byte == b'\n') {
            return Ok(begin + place as u64 + 1);
        }
        end = begin;
    }
    Ok(0)
}

/// Moves the file to `.1`, that one to `.2`, and so on; the last one goes.
fn rotate(config: &FileConfig) -> io::Result<()> {
    if config.keep == 0 {
        return fs::remove_file(&config.path);
    }
    for number in (1..config.keep).rev() {
        match fs::rename(numbered(&config.path, number), numbered(&config.path, number + 1)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    fs::rename(&config.path, numbered(&config.path, 1))
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

#[cfg(unix)]
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(not(unix))]
fn sync_folder(_path: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(folder: &Path) -> FileConfig {
        FileConfig {
            path: folder.join("events.jsonl"),
            max_size: 30,
            keep: 2,
        }
    }

    #[test]
    fn full_files_move_on_and_the_oldest_goes() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path());
        for number in 0..8 {
            append(&config, &format!("{{\"line\":{number}}}\n")).unwrap();
        }
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        assert_eq!(read("events.jsonl"), "{\"line\":6}\n{\"line\":7}\n");
        assert_eq!(read("events.jsonl.1"), "{\"line\":4}\n{\"line\":5}\n");
        assert_eq!(read("events.jsonl.2"), "{\"line\":2}\n{\"line\":3}\n");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
        // A batch that is larger than a file goes into one of its own.
        append(&config, &format!("{}\n", "x".repeat(100))).unwrap();
        assert_eq!(read("events.jsonl").len(), 101);
        #[cfg(unix)]
        for entry in fs::read_dir(folder.path()).unwrap() {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(
                entry.unwrap().metadata().unwrap().permissions().mode() & 0o777,
                0o600
            );
        }
    }

    #[test]
    fn a_torn_line_is_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let config = FileConfig {
            max_size: 1 << 30,
            ..config(folder.path())
        };
        let long = "y".repeat(200_000);
        for (torn, want) in [
            ("whole\nto", "whole\nnext\n"),
            ("torn", "next\n"),
            (&*long, "next\n"),
        ] {
            fs::write(&config.path, torn).unwrap();
            append(&config, "next\n").unwrap();
            assert_eq!(fs::read_to_string(&config.path).unwrap(), want);
        }
    }
}
