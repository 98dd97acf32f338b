//! Files that are replaced whole: whatever ends the process meanwhile leaves the old content or the new one.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

/// Writes a file anew; durable when it returns. What was written of it before a crash lies beside it, as `NAME.new`.
///
/// # Errors
/// I/O, and what was there is there still.
pub fn replace_file(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let mut file = File::create(&new)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    // A path without a folder is one of the working directory.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}
