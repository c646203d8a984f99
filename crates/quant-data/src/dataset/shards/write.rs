//! Writes shards.

use std::{
    fs,
    io::{BufWriter, Write},
    path::{Path, PathBuf},
};

use super::labels::CLASSES;
use crate::{error::DataError, files};

/// Writes the images in `files`, given by path and label, into tar files of about `bytes` bytes
/// each, and returns the number of tar files. `folder` must not hold tar files of these names yet:
/// `shard-00000.tar` and so on. The names of the classes are written to `classes.txt`. The images
/// are in a random order that depends on `seed` alone, so that each shard is a random sample of all
/// images.
///
/// # Errors
/// [`DataError::Shard`] if a shard already exists, or if the name of a class cannot be a line of a
/// text file; [`DataError::Io`], [`DataError::NotAFile`] and [`DataError::TooLong`] for a file that
/// cannot be read or written. After an error, complete shards are kept.
pub fn write_shards(
    files: &[(PathBuf, usize)],
    classes: &[String],
    folder: &Path,
    bytes: u64,
    seed: u64,
) -> Result<usize, DataError> {
    let unfit = |name: &&String| name.trim() != *name || name.is_empty() || name.contains('\n');
    if let Some(name) = classes.iter().find(unfit) {
        let reason = format!("the class {name:?} cannot be a line of {CLASSES}; rename it");
        return Err(DataError::Shard { path: folder.join(CLASSES), reason });
    }
    fs::create_dir_all(folder).map_err(DataError::io(folder))?;
    let mut order: Vec<usize> = (0..files.len()).collect();
    crate::random::Random::new(&[seed]).shuffle(&mut order);
    let mut order = order.into_iter().peekable();
    let mut shards = 0;
    while order.peek().is_some() {
        let path = folder.join(format!("shard-{shards:05}.tar"));
        if path.exists() {
            let reason = "it exists already; choose an empty folder".to_owned();
            return Err(DataError::Shard { path, reason });
        }
        let partial = tempfile::NamedTempFile::new_in(folder).map_err(DataError::io(folder))?;
        let mut builder = tar::Builder::new(BufWriter::new(partial));
        let mut written = 0;
        while written < bytes
            && let Some(index) = order.next()
        {
            let (source, label) = &files[index];
            let image = files::read(source, files::MOST_BYTES)?;
            let extension = source.extension().unwrap_or_default().to_string_lossy();
            let image_name = format!("{index:08}.{}", extension.to_ascii_lowercase());
            let label = label.to_string();
            let entries =
                [(image_name, image.as_slice()), (format!("{index:08}.cls"), label.as_bytes())];
            for (name, content) in entries {
                let mut header = tar::Header::new_gnu();
                header.set_size(content.len() as u64);
                header.set_mode(0o644);
                builder.append_data(&mut header, name, content).map_err(DataError::io(&path))?;
                written += content.len() as u64 + 512;
            }
        }
        let writer = builder.into_inner().map_err(DataError::io(&path))?;
        let file = writer.into_inner().map_err(|error| DataError::io(&path)(error.into_error()))?;
        files::persist(file, &path)?;
        shards += 1;
    }
    let names = classes.iter().map(|class| format!("{class}\n")).collect::<String>();
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(DataError::io(folder))?;
    let path = folder.join(CLASSES);
    file.write_all(names.as_bytes()).map_err(DataError::io(&path))?;
    files::persist(file, &path)?;
    Ok(shards)
}
