//! What becomes of the first and the last layer.

use std::fmt;

use quant_core::{
    GradientScale, GradientScaleRule, Granularity, Levels, Method, QuantizerConfig, Range, Role,
};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, MapAccess, Visitor, value::MapAccessDeserializer},
};

use super::range::check_range;
use crate::error::NetworkError;

/// Whether the first and the last layer of a network are quantized, and how. In files it is
/// `false`, `true`, or a table such as `{ bits = 8 }`.
///
/// The first layer is the convolution that reads the images. The last layer gives the class scores:
/// a linear layer, or the last convolution of a network in network.
///
/// ```
/// use quant_nn::{FirstLast, FirstLastQuantizers};
///
/// let eight = FirstLast::Own(FirstLastQuantizers::new(8));
/// assert_eq!(FirstLast::from(true), FirstLast::LikeOthers);
/// assert!(!eight.is_full_precision());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum FirstLast {
    /// `false`: both stay in 32 bits.
    #[default]
    FullPrecision,
    /// `true`: both have the quantizers of the other layers.
    LikeOthers,
    /// A table: both have quantizers of their own, whatever the other layers have.
    Own(FirstLastQuantizers),
}

/// The quantizers of the first and the last layer: LSQ's, which learn clipping values.
///
/// - **Weights** have 2^bits - 1 levels, which are whole numbers of steps on both sides of 0: -127
///   to 127 at 8 bits.
/// - **The input of the first layer** has no quantizer. The pixels of an image are bytes: a
///   normalised pixel is byte·a + b with the a and b of its channel, so that it has 256 levels
///   already and can be computed with exactly, in integers.
/// - **The input of the last layer** is quantized over the whole tensor, to 2^bits levels from 0 up
///   where it cannot be negative, and otherwise to as many signed ones as a weight.
///
/// The gradient of clipping values has no scale. That of LSQ's paper grows with the number of
/// levels, as n^1.5 for a clipping value. At 8 bits it moved the values of single channels across 0
/// at a learning rate of 0.05.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FirstLastQuantizers {
    /// The number of bits, 2 to 8.
    pub bits: u32,
    /// Which elements of a weight share a clipping value: by default those of an output channel.
    #[serde(default = "granularity")]
    pub granularity: Granularity,
}

fn granularity() -> Granularity {
    Granularity::PerChannel
}

impl FirstLastQuantizers {
    /// Quantizers of these bits, whose weights have a clipping value for each output channel.
    pub fn new(bits: u32) -> Self {
        Self { bits, granularity: granularity() }
    }

    /// The quantizer of both weights.
    ///
    /// # Errors
    /// [`NetworkError::Quantizer`] for a number of bits that no quantizer has.
    pub fn weight(&self) -> Result<QuantizerConfig, NetworkError> {
        let config = self.config(Role::Weight, Range::Signed)?;
        Ok(QuantizerConfig { granularity: self.granularity, ..config })
    }

    /// The quantizer of the last layer's input, where that is in this range.
    ///
    /// # Errors
    /// [`NetworkError::Quantizer`] for a number of bits that no quantizer has.
    pub fn activation(&self, range: Range) -> Result<QuantizerConfig, NetworkError> {
        self.config(Role::Activation, range)
    }

    fn config(&self, role: Role, range: Range) -> Result<QuantizerConfig, NetworkError> {
        let all = Levels::from_bits(self.bits)?;
        let levels = match range {
            Range::Unsigned => all,
            Range::Signed => Levels::new(all.count() - 1)?,
        };
        let gradient_scale =
            GradientScale { rule: GradientScaleRule::None, ..GradientScale::default() };
        let usual = QuantizerConfig::new(Method::Lsq, role, levels);
        Ok(QuantizerConfig { range, gradient_scale, ..usual })
    }

    fn validate(&self) -> Result<(), NetworkError> {
        check_range("first_last.bits", self.bits as usize, 2..=8, "2 to 8")?;
        Ok(self.weight()?.validate("first_last")?)
    }
}

impl FirstLast {
    /// Whether both layers stay in 32 bits.
    pub fn is_full_precision(self) -> bool {
        self == Self::FullPrecision
    }

    /// The same, or `other` where it leaves both layers in 32 bits.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        if self.is_full_precision() { other } else { self }
    }

    /// Checks the number of bits.
    ///
    /// # Errors
    /// [`NetworkError::Field`] for a number outside 2 to 8.
    pub fn validate(self) -> Result<(), NetworkError> {
        match self {
            Self::FullPrecision | Self::LikeOthers => Ok(()),
            Self::Own(quantizers) => quantizers.validate(),
        }
    }
}

impl From<bool> for FirstLast {
    fn from(quantized: bool) -> Self {
        if quantized { Self::LikeOthers } else { Self::FullPrecision }
    }
}

impl Serialize for FirstLast {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::FullPrecision => serializer.serialize_bool(false),
            Self::LikeOthers => serializer.serialize_bool(true),
            Self::Own(quantizers) => quantizers.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for FirstLast {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FalseTrueOrTable)
    }
}

struct FalseTrueOrTable;

impl<'de> Visitor<'de> for FalseTrueOrTable {
    type Value = FirstLast;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("true, false or a table such as { bits = 8 }")
    }

    fn visit_bool<E: de::Error>(self, quantized: bool) -> Result<FirstLast, E> {
        Ok(quantized.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<FirstLast, A::Error> {
        FirstLastQuantizers::deserialize(MapAccessDeserializer::new(map)).map(FirstLast::Own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn truth_values_of_earlier_files_are_read_and_written() {
        for (text, meant) in [("false", FirstLast::FullPrecision), ("true", FirstLast::LikeOthers)]
        {
            assert_eq!(serde_json::from_str::<FirstLast>(text).unwrap(), meant);
            assert_eq!(serde_json::to_string(&meant).unwrap(), text);
        }
    }

    #[test]
    fn a_table_of_bits_has_signed_weights_per_channel_and_bytes_as_input() {
        let read: FirstLast = serde_json::from_str(r#"{ "bits": 8 }"#).unwrap();
        assert_eq!(read, FirstLast::Own(FirstLastQuantizers::new(8)));
        let FirstLast::Own(quantizers) = read else { unreachable!() };
        let weight = quantizers.weight().unwrap();
        assert_eq!((weight.levels.count(), weight.levels.bits()), (255, 8));
        assert_eq!(weight.granularity, Granularity::PerChannel);
        for (range, levels) in [(Range::Unsigned, 256), (Range::Signed, 255)] {
            let activation = quantizers.activation(range).unwrap();
            assert_eq!((activation.range, activation.levels.count()), (range, levels));
            assert_eq!(activation.granularity, Granularity::PerTensor);
            assert_eq!(activation.validate("fc"), Ok(()));
        }
        let written = serde_json::to_string(&read).unwrap();
        assert_eq!(serde_json::from_str::<FirstLast>(&written).unwrap(), read);
    }

    #[test]
    fn what_cannot_be_is_refused_with_the_field() {
        for text in ["8", r#"{ "bit": 8 }"#, "{}", r#""yes""#] {
            assert!(serde_json::from_str::<FirstLast>(text).is_err(), "{text}");
        }
        for bits in [0, 1, 9] {
            let error = FirstLast::Own(FirstLastQuantizers::new(bits)).validate().unwrap_err();
            let text = error.to_string();
            assert!(text.contains("first_last.bits") && text.contains("2 to 8"), "{text}");
        }
    }
}
