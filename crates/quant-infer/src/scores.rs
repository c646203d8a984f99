//! The best classes.

use alloc::vec::Vec;

/// Returns the indices of the `k` highest scores with the scores, the highest first. Of equal
/// scores, the one of the lower index is first. NaN is lower than all others.
///
/// ```
/// assert_eq!(quant_infer::top_k(&[0.5, 2.0, -1.0, 2.0], 3), [(1, 2.0), (3, 2.0), (0, 0.5)]);
/// ```
pub fn top_k(scores: &[f32], k: usize) -> Vec<(usize, f32)> {
    let mut best: Vec<(usize, f32)> = scores.iter().copied().enumerate().collect();
    let rank = |score: f32| if score.is_nan() { (0, 0.0) } else { (1, score) };
    best.sort_by(|(_, a), (_, b)| {
        rank(*b).partial_cmp(&rank(*a)).unwrap_or(core::cmp::Ordering::Equal)
    });
    best.truncate(k);
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nan_is_last_and_k_may_exceed_the_number_of_scores() {
        let best: Vec<usize> = top_k(&[f32::NAN, f32::NEG_INFINITY, 1.0], 9)
            .into_iter()
            .map(|(class, _)| class)
            .collect();
        assert_eq!(best, [2, 1, 0]);
    }
}
