//! Integers as sums of digits, so that convolutions of digits are exact in floats.

/// Up to here, 32-bit floats hold every integer: sums of products whose magnitudes add up to no
/// more are exact in any order.
pub(super) const EXACT: u64 = 1 << 24;

/// The digits of integers at one place.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Digits {
    /// What the digits are multiplied by: 2 to this power.
    pub(super) power: u32,
    /// The digits, with the sign of their integer.
    pub(super) digits: Vec<f32>,
}

/// Splits integers into digits of this many bits, from the lowest place. The digits of an integer,
/// times their powers, add up to it.
pub(super) fn split(integers: &[i16], bits: u32) -> Vec<Digits> {
    let largest = integers.iter().map(|integer| integer.unsigned_abs()).max().unwrap_or(0);
    let mut places = Vec::new();
    let mut power = 0;
    while power == 0 || largest >> power > 0 {
        let digit = |integer: &i16| {
            let digit = integer.unsigned_abs() >> power & ((1u32 << bits) - 1) as u16;
            f32::from(integer.signum()) * f32::from(digit)
        };
        places.push(Digits { power, digits: integers.iter().map(digit).collect() });
        power += bits;
        if power >= 16 {
            break;
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_add_up() {
        let integers: Vec<i16> =
            (i16::MIN + 1..=i16::MAX).step_by(13).chain([-1, 0, 255]).collect();
        for bits in 1..=16 {
            let places = split(&integers, bits);
            for (index, integer) in integers.iter().enumerate() {
                let digits = places.iter().map(|place| place.digits[index]);
                assert!(digits.clone().all(|digit| digit.abs() < (1u64 << bits) as f32));
                let sum: i64 =
                    places.iter().zip(digits).map(|(p, digit)| (digit as i64) << p.power).sum();
                assert_eq!(sum, i64::from(*integer), "{bits} bits");
            }
        }
    }
}
