//! Fingerprints, which distinguish data sets from one another.

use serde::{Deserialize, Serialize};

/// Identifies a data set wherever its files are stored. A run saves the fingerprint, and checks
/// when it is resumed whether the data are still the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// Names of the classes.
    pub classes: Vec<String>,
    /// The number of images of the data set.
    pub images: usize,
    /// A hash of the list of images: their labels in order, and what each kind of data set adds to
    /// them, such as file names relative to its folder. Pixels are not part of it. It is serialised
    /// as 16 hexadecimal digits.
    #[serde(with = "hexadecimal")]
    pub hash: u64,
    /// A hash of what shows cheaply that an image was replaced: the pixels of data sets in memory,
    /// and the sizes in bytes of image files. A file that is replaced by another of the same size
    /// is not noticed. `None` if the kind of data set has nothing of this, and in fingerprints that
    /// earlier versions wrote.
    #[serde(default, with = "hexadecimal_option", skip_serializing_if = "Option::is_none")]
    pub contents: Option<u64>,
}

/// The 64-bit hash FNV-1a (Fowler, Noll and Vo; <http://www.isthe.com/chongo/tech/comp/fnv/>),
/// which is the same on every machine and in every version. It detects accidental changes, but does
/// not withstand an attacker who searches for another list with the same hash.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hash(u64);

impl Default for Hash {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hash {
    /// Adds bytes, without their number.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    /// Adds a number.
    pub(crate) fn number(&mut self, number: u64) {
        self.bytes(&number.to_le_bytes());
    }

    /// Adds a text after its length, so that consecutive texts cannot be confused.
    pub(crate) fn text(&mut self, text: &[u8]) {
        self.number(text.len() as u64);
        self.bytes(text);
    }

    /// Returns the hash of everything added.
    pub(crate) fn finish(self) -> u64 {
        self.0
    }
}

mod hexadecimal {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(hash: &u64, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&format!("{hash:016x}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
        let digits = String::deserialize(from)?;
        u64::from_str_radix(&digits, 16).map_err(D::Error::custom)
    }
}

mod hexadecimal_option {
    use serde::{Deserializer, Serializer};

    use super::hexadecimal;

    pub(super) fn serialize<S: Serializer>(hash: &Option<u64>, to: S) -> Result<S::Ok, S::Error> {
        match hash {
            Some(hash) => hexadecimal::serialize(hash, to),
            None => to.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
        hexadecimal::deserialize(from).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_fnv_1a() {
        // The values are from the algorithm's page.
        for (text, expected) in [
            ("", 0xcbf2_9ce4_8422_2325),
            ("a", 0xaf63_dc4c_8601_ec8c),
            ("foobar", 0x8594_4171_f739_67e8),
        ] {
            let mut hash = Hash::default();
            hash.bytes(text.as_bytes());
            assert_eq!(hash.finish(), expected, "{text}");
        }
    }

    #[test]
    fn a_fingerprint_reads_back_as_it_was_written() {
        let (classes, hash) = (vec!["a".into()], u64::MAX - 1);
        let mut fingerprint = Fingerprint { classes, images: 3, hash, contents: Some(10) };
        let json = serde_json::to_string(&fingerprint).unwrap();
        assert!(json.contains("\"fffffffffffffffe\""), "{json}");
        assert!(json.contains("\"contents\":\"000000000000000a\""), "{json}");
        assert_eq!(serde_json::from_str::<Fingerprint>(&json).unwrap(), fingerprint);
        // Earlier versions wrote no hash of the contents.
        fingerprint.contents = None;
        let json = serde_json::to_string(&fingerprint).unwrap();
        assert!(!json.contains("contents"), "{json}");
        assert_eq!(serde_json::from_str::<Fingerprint>(&json).unwrap(), fingerprint);
    }
}
