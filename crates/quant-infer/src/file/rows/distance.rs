//! Distances between a predicted number and the true one, in units in the last place.

/// Integers in the order of the floats: neighbours differ by one.
pub(super) fn order(number: f32) -> i32 {
    let bits = number.to_bits() as i32;
    if bits < 0 { bits ^ i32::MAX } else { bits }
}

/// The number at a place of this order.
pub(super) fn number(order: i32) -> f32 {
    f32::from_bits(if order < 0 { order ^ i32::MAX } else { order } as u32)
}

/// The numbers that are at most `most` units in the last place from a number, the nearest first.
pub(super) fn near(middle: f32, most: i32) -> impl Iterator<Item = f32> {
    let places = (0..=2 * most).map(|i| if i % 2 == 0 { i / 2 } else { -(i / 2) - 1 });
    places.map(move |by| number(order(middle).saturating_add(by)))
}

/// The code of the distance from `predicted` to `number`: 0, 1, 2, 3, 4 for 0, -1, 1, -2, 2. None
/// if it is too large for a byte, or if the prediction is not finite.
pub(super) fn distance(predicted: f32, number: f32) -> Option<u8> {
    let distance = i64::from(order(number)) - i64::from(order(predicted));
    if !predicted.is_finite() || !(-128..=127).contains(&distance) {
        return None;
    }
    Some(if distance < 0 { -2 * distance - 1 } else { 2 * distance } as u8)
}

/// The number at the distance of this code. None if there is no such number.
pub(super) fn moved(predicted: f32, code: u8) -> Option<f32> {
    let half = i32::from(code >> 1);
    let distance = if code & 1 == 1 { -half - 1 } else { half };
    if !predicted.is_finite() {
        return None;
    }
    order(predicted).checked_add(distance).map(number)
}

/// The largest code of the distances from predictions to numbers. None if one of them has no code.
pub(super) fn largest(predicted: &[f32], numbers: &[f32]) -> Option<u8> {
    predicted.iter().zip(numbers).try_fold(0, |largest: u8, (&predicted, &number)| {
        distance(predicted, number).map(|code| largest.max(code))
    })
}
