//! The bytes of an image as the codes of a convolution's input.

use quant_infer::model::{Dynamic, Input, Quantizer};

use crate::error::LowerError;

/// Bytes.
const LEVELS: usize = 256;

/// Returns the quantizer whose codes are an image's bytes, with a group for each channel, or one
/// where all channels are normalised alike. Thresholds lie half way between the numbers of two
/// bytes.
pub(super) fn quantizer(layer: &str, input: &Input) -> Result<Quantizer, LowerError> {
    let one = input.scale.iter().all(|scale| *scale == input.scale[0])
        && input.shift.iter().all(|shift| *shift == input.shift[0]);
    let groups = if one { 1 } else { input.scale.len() };
    let (mut thresholds, mut values) = (Vec::new(), Vec::new());
    for channel in 0..groups {
        let numbers: Vec<f32> = (0..=u8::MAX).map(|byte| input.number(channel, byte)).collect();
        for pair in numbers.windows(2) {
            if pair[0] >= pair[1] || !pair[0].is_finite() || !pair[1].is_finite() {
                let reason = format!(
                    "two bytes of channel {channel} of the image become the numbers {} and {}; \
                     larger bytes must become larger numbers",
                    pair[0], pair[1]
                );
                return Err(LowerError::Layer { layer: layer.to_owned(), reason });
            }
            let middle = ((f64::from(pair[0]) + f64::from(pair[1])) / 2.0) as f32;
            thresholds.push(if middle > pair[0] { middle } else { pair[1] });
        }
        values.extend(numbers);
    }
    Ok(Quantizer {
        groups,
        levels: LEVELS,
        thresholds,
        values,
        terms: None,
        dynamic: Dynamic::None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_byte_has_its_own_code() {
        let input = Input {
            size: [1, 1],
            shorter_side: None,
            scale: vec![0.017, 0.0171],
            shift: vec![-2.1, 0.25],
        };
        let quantizer = quantizer("conv1", &input).unwrap();
        for channel in 0..2 {
            for byte in 0..=u8::MAX {
                let x = input.number(channel, byte);
                for x in [x.next_down().next_down(), x, x.next_up().next_up()] {
                    assert_eq!(quantizer.code_of(channel, x), byte);
                }
                assert_eq!(quantizer.value_of(channel, byte), x);
            }
        }
    }

    #[test]
    fn a_scale_of_0_is_refused() {
        let input = Input { size: [1, 1], shorter_side: None, scale: vec![0.0], shift: vec![0.0] };
        assert!(
            quantizer("conv1", &input).unwrap_err().to_string().starts_with("conv1: two bytes")
        );
    }
}
