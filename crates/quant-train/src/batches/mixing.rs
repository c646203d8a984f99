//! Mixing pairs of training images: mixup (Zhang et al. 2018) and CutMix (Yun et al. 2019).

use burn::tensor::{Int, Tensor};
use quant_data::random::Random;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the images of a batch are mixed with other images of the batch. If both ways are given, one
/// of them is drawn for each batch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MixingRecipe {
    /// Mixup: x := s·x + (1 - s)·other, with one s ~ Beta(a, a) for each batch. This number is a.
    /// 0.2 is usual, and higher values mix more. By default there is no mixup.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub mixup: Option<f64>,
    /// CutMix: a rectangle with the share 1 - s of the area comes from the other image, with s ~
    /// Beta(a, a). This number is a. 1 is usual. By default there is no CutMix.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub cutmix: Option<f64>,
}

/// The classes of the images of a batch.
#[derive(Debug, Clone)]
pub(crate) struct Targets {
    /// The class of each image, `[batch]`.
    pub labels: Tensor<1, Int>,
    /// The class of each image that was mixed in, `[batch]`, and the weight of `labels` in the
    /// loss, 0 to 1.
    pub mixed: Option<(Tensor<1, Int>, f64)>,
}

impl Targets {
    /// Returns the targets of images that are not mixed.
    pub(crate) fn new(labels: Tensor<1, Int>) -> Self {
        Self { labels, mixed: None }
    }

    /// Returns share·loss(labels) + (1 - share)·loss(others).
    pub(crate) fn weigh(&self, loss: impl Fn(Tensor<1, Int>) -> Tensor<1>) -> Tensor<1> {
        let first = loss(self.labels.clone());
        match &self.mixed {
            None => first,
            Some((others, share)) => {
                first.mul_scalar(*share) + loss(others.clone()).mul_scalar(1.0 - share)
            }
        }
    }
}

impl MixingRecipe {
    /// Mixes each image of `[batch, channels, height, width]` with another image of the batch, by a
    /// random permutation.
    pub(crate) fn apply(
        self,
        images: Tensor<4>,
        labels: Tensor<1, Int>,
        random: &mut Random,
    ) -> (Tensor<4>, Targets) {
        let cut = match (self.mixup, self.cutmix) {
            (None, None) => return (images, Targets::new(labels)),
            (Some(_), Some(_)) => random.chance(0.5),
            (_, cutmix) => cutmix.is_some(),
        };
        let [batch, channels, height, width] = images.dims();
        let mut order: Vec<i64> = (0..batch as i64).collect();
        random.shuffle(&mut order);
        let order = Tensor::<1, Int>::from_data(order.as_slice(), &labels.device());
        let others = images.clone().select(0, order.clone());
        let share = random.beta(if cut { self.cutmix } else { self.mixup }.unwrap_or_default());
        let (images, share) = if cut {
            let window = Window::draw(width, height, share, random);
            let Window { left, top, right, bottom } = window;
            let share = 1.0 - window.area() as f64 / (width * height) as f64;
            let region = [0..batch, 0..channels, top..bottom, left..right];
            match window.area() {
                0 => (images, share),
                _ => (images.slice_assign(region.clone(), others.slice(region)), share),
            }
        } else {
            (images.mul_scalar(share) + others.mul_scalar(1.0 - share), share)
        };
        let mixed = Some((labels.clone().select(0, order), share));
        (images, Targets { labels, mixed })
    }
}

/// A rectangle of pixels.
#[derive(Debug, Clone, Copy)]
struct Window {
    left: usize,
    top: usize,
    right: usize,
    bottom: usize,
}

impl Window {
    /// Draws a window with a random centre. Its sides are sqrt(1 - share) of the image's sides, and
    /// it is cut off at the borders.
    fn draw(width: usize, height: usize, share: f64, random: &mut Random) -> Self {
        let mut side = |side: usize| {
            let half = ((1.0 - share).sqrt() * side as f64 / 2.0) as usize;
            let centre = random.below(side);
            (centre.saturating_sub(half), (centre + half).min(side))
        };
        let ((left, right), (top, bottom)) = (side(width), side(height));
        Self { left, top, right, bottom }
    }

    fn area(self) -> usize {
        (self.right - self.left) * (self.bottom - self.top)
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    /// All pixels of image i have the value i, and its class is i.
    fn numbered(recipe: MixingRecipe, seed: u64) -> (Vec<f32>, Vec<i64>, Vec<i64>, f64) {
        let device = Device::flex();
        let numbers = Tensor::<1, Int>::arange(0..4, &device);
        let images: Tensor<4> = numbers.clone().float().reshape([4, 1, 1, 1]).repeat(&[1, 2, 8, 8]);
        let (images, targets) = recipe.apply(images, numbers, &mut Random::new(&[seed]));
        let (others, share) = targets.mixed.unwrap();
        (
            images.into_data().iter().collect(),
            targets.labels.into_data().iter().collect(),
            others.into_data().iter().collect(),
            share,
        )
    }

    #[test]
    fn mixup_is_the_weighted_mean_of_two_images() {
        let recipe = MixingRecipe { mixup: Some(0.7), cutmix: None };
        let (images, labels, others, share) = numbered(recipe, 1);
        for (index, image) in images.chunks(128).enumerate() {
            let expected = share * labels[index] as f64 + (1.0 - share) * others[index] as f64;
            assert!(image.iter().all(|x| (f64::from(*x) - expected).abs() < 1e-6));
        }
    }

    #[test]
    fn the_share_of_cutmix_is_the_share_of_pixels() {
        let recipe = MixingRecipe { mixup: None, cutmix: Some(1.0) };
        let mut cut = 0;
        for seed in 0..20 {
            let (images, labels, others, share) = numbered(recipe, seed);
            for (index, image) in images.chunks(128).enumerate() {
                let own = image.iter().filter(|x| **x == labels[index] as f32).count();
                let other = image.iter().filter(|x| **x == others[index] as f32).count();
                if labels[index] != others[index] {
                    assert_eq!(own as f64 / 128.0, share);
                    assert_eq!(own + other, 128);
                    cut += other;
                }
            }
        }
        assert!(cut > 0);
    }

    #[test]
    fn with_both_each_batch_draws_one() {
        let recipe = MixingRecipe { mixup: Some(0.7), cutmix: Some(1.0) };
        let whole = |seed| numbered(recipe, seed).0.iter().all(|x| x.fract() == 0.0);
        let cut = (0..40).filter(|seed| whole(*seed)).count();
        assert!((8..32).contains(&cut), "{cut}");
    }
}
