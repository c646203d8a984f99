//! Scores of images that are computed one by one.

use crate::measure::evaluate::Score;

/// Sums over images, from which a [`Score`] is made.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tally {
    loss: f64,
    top1: usize,
    top5: usize,
    images: usize,
    skipped: usize,
}

impl Tally {
    /// Adds an image by its class scores and its label. The loss is the cross-entropy,
    /// log Σ exp(s) - s\[label\], in 64 bits. Of classes with equal scores, the first counts as the
    /// best.
    pub(super) fn add(&mut self, scores: &[f32], label: usize) {
        let own = scores[label];
        let before =
            |(class, score): &(usize, &f32)| **score > own || (**score == own && *class < label);
        let rank = scores.iter().enumerate().filter(before).count();
        let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = scores.iter().map(|score| f64::from(score - largest).exp()).sum();
        self.loss += sum.ln() + f64::from(largest) - f64::from(own);
        // A score that is not a number has no rank.
        self.top1 += usize::from(rank < 1 && own.is_finite());
        self.top5 += usize::from(rank < 5 && own.is_finite());
        self.images += 1;
    }

    /// Adds images that could not be used.
    pub(super) fn skip(&mut self, images: usize) {
        self.skipped += images;
    }

    /// Returns the means over the images.
    pub(super) fn score(&self) -> Score {
        let images = self.images.max(1) as f64;
        Score {
            loss: self.loss / images,
            top1: 100.0 * self.top1 as f64 / images,
            top5: 100.0 * self.top5 as f64 / images,
            images: self.images,
            skipped: self.skipped,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_and_losses_are_those_of_the_formula() {
        let mut tally = Tally::default();
        tally.add(&[0.0, 2.0, 1.0, -1.0, -2.0, -3.0], 1);
        tally.add(&[0.0, 2.0, 1.0, -1.0, -2.0, -3.0], 5);
        tally.add(&[1.0, 1.0, 0.0, 0.0, 0.0, 0.0], 1);
        let score = tally.score();
        assert!((score.top1 - 100.0 / 3.0).abs() < 1e-9, "{score:?}");
        assert!((score.top5 - 200.0 / 3.0).abs() < 1e-9, "{score:?}");
        let sum: f64 = [0.0f64, 2.0, 1.0, -1.0, -2.0, -3.0].map(f64::exp).iter().sum();
        let last = (2.0 * 1.0f64.exp() + 4.0).ln() - 1.0;
        let loss = (sum.ln() - 2.0 + sum.ln() + 3.0 + last) / 3.0;
        assert!((score.loss - loss).abs() < 1e-6, "{score:?}");
    }

    #[test]
    fn scores_that_are_not_numbers_are_never_right() {
        let mut tally = Tally::default();
        tally.add(&[f32::NAN, f32::NAN], 0);
        assert_eq!((tally.score().top1, tally.score().top5), (0.0, 0.0));
    }
}
