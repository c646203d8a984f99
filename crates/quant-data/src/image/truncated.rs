//! Image files that are cut short.

use serde::{Deserialize, Serialize};

/// What becomes of an image file that is cut short or damaged so that a part of its pixels is
/// missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Truncated {
    /// It is an error.
    #[default]
    Refuse,
    /// It is read as far as it goes, and what is missing is filled as Pillow fills it where
    /// `ImageFile.LOAD_TRUNCATED_IMAGES` is set: grey in a JPEG file, black in a PNG, BMP or PNM
    /// file. Other formats are refused all the same.
    Accept,
}

/// Why a file is refused of which a part is missing, and how it would be read.
pub(super) fn missing_part(reason: &str) -> String {
    format!("{reason}; truncated = \"accept\" under [data] reads it as far as it goes")
}
