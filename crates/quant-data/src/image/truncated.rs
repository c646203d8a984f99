//! Image files that are cut short.

use serde::{Deserialize, Serialize};

/// What to do with an image file that is cut short or damaged, so that some of its pixels are
/// missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Truncated {
    /// The file is an error.
    #[default]
    Refuse,
    /// The file is read as far as possible. Missing pixels are filled as Pillow does with
    /// `ImageFile.LOAD_TRUNCATED_IMAGES`: with grey in a JPEG file, and with black in a PNG, BMP or
    /// PNM file. Other formats are still refused.
    Accept,
}

/// Returns the error text for a file with missing pixels: why it is refused, and which setting
/// reads it anyway.
pub(super) fn missing_part(reason: &str) -> String {
    format!("{reason}; truncated = \"accept\" under [data] reads as much of it as there is")
}
