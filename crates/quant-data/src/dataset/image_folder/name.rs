//! Names of files and folders, which may have any bytes.

use std::ffi::{OsStr, OsString};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

/// The name of a file or a folder, or a path of such names with slashes. A name need not be UTF-8.
///
/// A name is serialised as text. A name that is not UTF-8 is written as a NUL character, which no
/// name has, and its bytes as hexadecimal digits.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name(pub(super) OsString);

impl Name {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn is_hidden(&self) -> bool {
        self.0.as_encoded_bytes().starts_with(b".")
    }

    pub(super) fn is_image(&self) -> bool {
        // The extension is ASCII, so bytes that are not UTF-8 elsewhere in the name do not matter.
        crate::image::has_image_extension(&self.0.to_string_lossy())
    }

    /// Returns a path in the folder of this name. The empty name stands for the folder itself.
    pub(super) fn join(&self, name: &Self) -> Self {
        if self.is_empty() {
            return name.clone();
        }
        let mut path = self.0.clone();
        path.push("/");
        path.push(&name.0);
        Self(path)
    }
}

impl AsRef<OsStr> for Name {
    fn as_ref(&self) -> &OsStr {
        &self.0
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.to_str() {
            Some(text) => serializer.serialize_str(text),
            None => {
                let bytes = self.0.as_encoded_bytes().iter();
                let digits: String = bytes.map(|byte| format!("{byte:02x}")).collect();
                serializer.serialize_str(&format!("\0{digits}"))
            }
        }
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.strip_prefix('\0') {
            None => Ok(Self(text.into())),
            Some(digits) => {
                let name = from_digits(digits);
                name.map(Self).ok_or_else(|| D::Error::custom("a name of another system"))
            }
        }
    }
}

/// Returns the name whose bytes are given as hexadecimal digits.
#[cfg(unix)]
fn from_digits(digits: &str) -> Option<OsString> {
    use std::os::unix::ffi::OsStringExt;
    let pairs = digits.as_bytes().chunks(2);
    let byte = |pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    pairs.map(byte).collect::<Option<Vec<u8>>>().map(OsString::from_vec)
}

/// On other systems, names that are not Unicode are listed again.
#[cfg(not(unix))]
fn from_digits(_digits: &str) -> Option<OsString> {
    None
}
