//! Quantized weights as integers, for deployment.

use burn::module::Module;

use crate::{
    codes::Codes,
    host,
    reach::{QuantizedWeight, quantized_weights},
};

/// A quantized weight as integers.
#[derive(Debug, Clone, PartialEq)]
pub struct WeightCodes {
    /// The path of the layer.
    pub layer: String,
    /// The shape of the weight.
    pub shape: Vec<usize>,
    /// The code of every element, row-major. Codes start at 0 and ascend with the value.
    pub codes: Vec<u8>,
    /// The values of the codes, ascending, for each group of elements that share their parameters.
    pub values: Vec<Vec<f32>>,
    /// The number of consecutive elements that belong to the same group. The next elements belong
    /// to the next group, and after the last group the first group follows again.
    pub run: usize,
}

impl WeightCodes {
    /// Returns the group of an element, given by its row-major index.
    pub fn group(&self, index: usize) -> usize {
        index / self.run % self.values.len()
    }

    /// Returns the values, row-major. They equal those that the network computes with, to the last
    /// bit.
    pub fn decode(&self) -> Vec<f32> {
        let codes = self.codes.iter().enumerate();
        codes.map(|(index, code)| self.values[self.group(index)][usize::from(*code)]).collect()
    }
}

impl QuantizedWeight {
    /// Returns the number of levels that the weight needs: those of its quantizer, or more for
    /// DoReFa's weights with a boundary below 1, whose grid is finer.
    pub fn levels(&self) -> usize {
        let quantizer = &self.reached.quantizer;
        let Codes { codes, decoding } = quantizer.codes(self.weight.clone());
        decoding.count(quantizer.config().levels).max(host::highest(codes) + 1)
    }

    /// Returns the weight as integers. It must not need more than 256 [levels](Self::levels).
    pub fn to_codes(&self) -> WeightCodes {
        let quantizer = &self.reached.quantizer;
        let Codes { codes, decoding } = quantizer.codes(self.weight.clone());
        let groups = quantizer.groups();
        let levels = self.levels();
        let axis = quantizer.channel_axis();
        let values = decoding.all_values((groups, levels), axis, &codes.device());
        let outer: usize = self.shape[..axis].iter().product();
        let elements: usize = self.shape.iter().product();
        WeightCodes {
            layer: self.reached.layer().to_owned(),
            shape: self.shape.clone(),
            codes: host::codes(codes),
            values,
            run: match groups {
                1 => elements.max(1),
                _ => (elements / (outer * groups)).max(1),
            },
        }
    }
}

/// Returns every quantized weight of `module` as integers, in the order of the module's fields.
/// Weights whose quantizer is not enabled are left out.
///
/// ```
/// use burn::{nn::LinearConfig, tensor::Device};
/// use quant_core::{
///     Levels, Method, QuantizerConfig, Role, WeightQuantization, weight_codes,
/// };
///
/// let ternary = QuantizerConfig::new(Method::Lsq, Role::Weight, Levels::TERNARY);
/// let linear = LinearConfig::new(8, 4).init(&Device::flex());
/// let (linear, _report) = WeightQuantization::new(ternary).apply(linear)?;
/// let weight = &weight_codes(&linear)[0];
/// assert_eq!(weight.shape, [8, 4]);
/// assert!(weight.codes.iter().all(|code| *code < 3));
/// assert_eq!(Ok(weight.decode()), linear.weight.val().into_data().into_vec());
/// # Ok::<(), quant_core::QuantizerError>(())
/// ```
pub fn weight_codes<M: Module>(module: &M) -> Vec<WeightCodes> {
    let weights = quantized_weights(module).into_iter();
    let enabled = weights.filter(|weight| weight.reached.quantizer.is_enabled());
    enabled.map(|weight| weight.to_codes()).collect()
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Tensor};

    use super::*;
    use crate::{Levels, Method, QuantizerConfig, Reached, Role, Site};

    #[test]
    fn a_finer_grid_has_more_levels_and_all_of_their_values() {
        let config = QuantizerConfig {
            boundary: 0.3,
            ..QuantizerConfig::new(Method::Dorefa, Role::Weight, Levels::TERNARY)
        };
        let device = Device::flex();
        let quantizer = config.init(&Site::weight("w", [2, 2, 1, 1]), &device).unwrap();
        let weight = Tensor::<4>::from_data([[[[-1.0f32]], [[0.1]]], [[[0.5]], [[1.0]]]], &device);
        let expected = host::values(quantizer.forward(weight.clone()));
        let reached = Reached { path: "w".into(), quantizer };
        let found = QuantizedWeight { reached, weight, shape: vec![2, 2, 1, 1] };
        // The largest position is 2/0.3, which rounds to 7.
        assert_eq!(found.levels(), 8);
        assert_eq!(found.to_codes().decode(), expected);
    }
}
