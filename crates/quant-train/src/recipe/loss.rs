//! The fields of a recipe for focal loss and distillation, and their formulas.

use burn::tensor::{
    Int, Tensor,
    activation::{log_softmax, softmax},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::model::ModelRecipe;

/// Focal loss: the mean of -weight·(1 - p)^gamma·log p, where p is the probability of the right
/// class (Lin et al. 2017, eq. 5). With gamma 0 and weight 1 it is cross-entropy.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FocalRecipe {
    /// The exponent gamma. The higher it is, the less the images count that are right already. 0 is
    /// cross-entropy.
    #[serde(default = "two")]
    #[schemars(range(min = 0))]
    pub gamma: f64,
    /// The factor on the whole loss.
    #[serde(default = "one")]
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub weight: f64,
}

/// Distillation: learning from a trained network, the teacher.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DistillationRecipe {
    /// The name of an earlier phase, whose best network is then the teacher, or a safetensors file
    /// or PyTorch checkpoint, relative to the recipe.
    pub teacher: String,
    /// The key under which the weights are stored in the teacher's file. By default they are taken
    /// from the place where they fit.
    pub teacher_key: Option<String>,
    /// A file of renaming rules for the names in the teacher's file, relative to the recipe. By
    /// default the names are not changed.
    pub teacher_map: Option<String>,
    /// The network of the teacher, for files that do not describe it, such as those of PyTorch. By
    /// default it is the recipe's own network in full precision.
    pub model: Option<ModelRecipe>,
    /// What is learned from the teacher.
    #[serde(default)]
    pub kind: DistillationKind,
    /// The weight of the teacher. For `feature` it is a factor, and for the other kinds a share of
    /// the whole loss, from 0 to 1. Raise it for a teacher that is much better.
    #[serde(default = "half")]
    #[schemars(range(min = 0))]
    pub weight: f64,
    /// The temperature T of `soft` and `soft-cross-entropy`. A higher temperature teaches more
    /// about the similarity of classes.
    #[serde(default = "four")]
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub temperature: f64,
    /// The number by which the divergence of `soft` is divided. Choose `mean` for recipes of QTool.
    #[serde(default)]
    pub reduction: Reduction,
}

/// The number by which a sum over images and classes is divided. The names are PyTorch's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Reduction {
    /// The number of images, as in the definition of the divergence.
    #[default]
    BatchMean,
    /// The number of images times the number of classes, as in `KLDivLoss(reduction='mean')`. This
    /// makes the loss smaller by the number of classes. QTool's `soft` has this reduction.
    Mean,
}

/// What is learned from the teacher.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DistillationKind {
    /// (1 - weight)·loss + weight·T²·KL(teacher ‖ student), with the distributions
    /// softmax(scores/T). It is the mean over images (Hinton, Vinyals and Dean 2015), or as
    /// `reduction` says.
    #[default]
    Soft,
    /// (1 - weight)·loss + weight·H(teacher, student), as the mean over images. H = -Σ p·log q
    /// is the cross-entropy with p = softmax(teacher's scores/T) and
    /// q = softmax(student's scores/T). Its gradient is the gradient of `soft`
    /// divided by T². It is QTool's `soft-b`.
    SoftCrossEntropy,
    /// (1 - weight)·loss + weight·cross-entropy, with the teacher's best class as the label.
    Hard,
    /// loss + weight·the mean over blocks of the mean squared difference between the student's
    /// outputs and the teacher's (Romero et al. 2015), for the blocks that have the same name and
    /// shape in both.
    Feature,
}

fn one() -> f64 {
    1.0
}

fn two() -> f64 {
    2.0
}

fn half() -> f64 {
    0.5
}

fn four() -> f64 {
    DistillationRecipe::TEMPERATURE
}

impl FocalRecipe {
    /// Returns the loss, `[1]`, for scores `[batch, classes]` and labels `[batch]`.
    pub fn loss(self, scores: Tensor<2>, labels: Tensor<1, Int>) -> Tensor<1> {
        let log_p = log_softmax(scores, 1).gather(1, labels.unsqueeze_dim(1));
        let unlikely = (-log_p.clone().exp()).add_scalar(1.0);
        // 0 to a power has no finite gradient here: 0·x^-1 at x = 0 is NaN.
        let factor = match self.gamma {
            0.0 => unlikely.ones_like(),
            gamma => unlikely.clamp_min(f32::MIN_POSITIVE).powf_scalar(gamma),
        };
        -(factor * log_p).mean().mul_scalar(self.weight)
    }
}

impl DistillationRecipe {
    /// The temperature of recipes that do not give one.
    pub(crate) const TEMPERATURE: f64 = 4.0;

    /// Returns the part of `soft` and `soft-cross-entropy` that is multiplied by the weight: the
    /// loss of the student's `scores` against the teacher's, both `[batch, classes]`.
    pub(crate) fn soft_loss(&self, scores: Tensor<2>, teachers: Tensor<2>) -> Tensor<1> {
        let temperature = self.temperature;
        let [images, classes] = scores.dims();
        let log_q = log_softmax(scores.div_scalar(temperature), 1);
        let teachers = teachers.div_scalar(temperature);
        let p = softmax(teachers.clone(), 1);
        if self.kind == DistillationKind::SoftCrossEntropy {
            return -(p * log_q).sum().div_scalar(images as f64);
        }
        let count = match self.reduction {
            Reduction::BatchMean => images,
            Reduction::Mean => images * classes,
        };
        let log_p = log_softmax(teachers, 1);
        (p * (log_p - log_q)).sum().mul_scalar(temperature * temperature / count as f64)
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    fn scores() -> Tensor<2> {
        Tensor::from_floats([[1.0, 2.0, 0.5], [0.0, -1.0, 3.0]], &Device::flex())
    }

    fn value(loss: Tensor<1>) -> f64 {
        loss.into_scalar()
    }

    /// The logarithm of the softmax of the score at `right`.
    fn log_p(scores: [f64; 3], right: usize) -> f64 {
        scores[right] - scores.iter().map(|s| s.exp()).sum::<f64>().ln()
    }

    #[test]
    fn focal_loss_is_its_formula_and_cross_entropy_at_gamma_0() {
        let labels = || Tensor::<1, Int>::from_ints([1, 0], &Device::flex());
        let logs = [log_p([1.0, 2.0, 0.5], 1), log_p([0.0, -1.0, 3.0], 0)];
        for (gamma, weight) in [(2.0, 1.0), (0.0, 1.0), (0.5, 0.25)] {
            let expected = logs.map(|log| -weight * (1.0 - log.exp()).powf(gamma) * log);
            let loss = value(FocalRecipe { gamma, weight }.loss(scores(), labels()));
            assert!((loss - (expected[0] + expected[1]) / 2.0).abs() < 1e-6, "{gamma}: {loss}");
        }
    }

    fn soft_targets(
        kind: DistillationKind,
        temperature: f64,
        reduction: Reduction,
    ) -> DistillationRecipe {
        DistillationRecipe {
            teacher: String::new(),
            teacher_key: None,
            teacher_map: None,
            model: None,
            kind,
            weight: 1.0,
            temperature,
            reduction,
        }
    }

    fn taught(kind: DistillationKind, temperature: f64, reduction: Reduction) -> f64 {
        let recipe = soft_targets(kind, temperature, reduction);
        let teachers = Tensor::from_floats([[0.0, 0.0, 0.0], [2.0, -1.0, 0.5]], &Device::flex());
        value(recipe.soft_loss(scores(), teachers))
    }

    /// Measured with PyTorch 2.15.0 in 64 bits on the scores of these tests:
    /// `F.kl_div(log_softmax(student/T, 1), softmax(teacher/T, 1), reduction=r) * T * T`, and
    /// `-(softmax(teacher/T, 1) * log_softmax(student/T, 1)).sum(1).mean()`.
    #[test]
    fn losses_of_soft_targets_are_pytorchs() {
        for (kind, temperature, reduction, expected) in [
            (DistillationKind::Soft, 5.0, Reduction::BatchMean, 1.057_952_40),
            (DistillationKind::Soft, 5.0, Reduction::Mean, 0.352_650_80),
            (DistillationKind::Soft, 1.0, Reduction::Mean, 0.359_438_42),
            (DistillationKind::SoftCrossEntropy, 5.0, Reduction::BatchMean, 1.126_260_72),
            (DistillationKind::SoftCrossEntropy, 1.0, Reduction::BatchMean, 1.938_413_71),
        ] {
            let loss = taught(kind, temperature, reduction);
            assert!((loss - expected).abs() < 1e-5, "{kind:?}, T {temperature}: {loss}");
        }
    }

    #[test]
    fn losses_of_soft_targets_are_their_formulas() {
        let (student, teacher) =
            ([[1.0, 2.0, 0.5], [0.0, -1.0, 3.0]], [[0.0, 0.0, 0.0], [2.0, -1.0, 0.5]]);
        for t in [1.0, 3.0, 5.0] {
            let (mut divergence, mut cross_entropy) = (0.0, 0.0);
            for (s, e) in student.iter().zip(teacher) {
                let (s, e) = (s.map(|x| x / t), e.map(|x: f64| x / t));
                for class in 0..3 {
                    let (log_p, log_q) = (log_p(e, class), log_p(s, class));
                    divergence += log_p.exp() * (log_p - log_q);
                    cross_entropy -= log_p.exp() * log_q;
                }
            }
            let soft = |reduction| taught(DistillationKind::Soft, t, reduction);
            let batch_mean = soft(Reduction::BatchMean);
            assert!((batch_mean - t * t * divergence / 2.0).abs() < 1e-5, "{t}: {batch_mean}");
            let mean = soft(Reduction::Mean);
            assert!((mean - t * t * divergence / 6.0).abs() < 1e-5, "{t}: {mean}");
            let loss = taught(DistillationKind::SoftCrossEntropy, t, Reduction::BatchMean);
            assert!((loss - cross_entropy / 2.0).abs() < 1e-5, "{t}: {loss}");
        }
    }

    #[test]
    fn the_divergence_between_equals_is_zero() {
        let recipe = soft_targets(DistillationKind::Soft, 3.0, Reduction::BatchMean);
        assert!(value(recipe.soft_loss(scores(), scores())).abs() < 1e-6);
    }

    #[test]
    fn a_sure_answer_has_a_finite_focal_gradient() {
        let device = Device::flex().autodiff();
        let scores = Tensor::<2>::from_floats([[200.0, 0.0]], &device).require_grad();
        let labels = Tensor::<1, Int>::from_ints([0], &device);
        let loss = FocalRecipe { gamma: 0.5, weight: 1.0 }.loss(scores.clone(), labels);
        let gradient = scores.grad(&loss.backward()).unwrap();
        assert!(gradient.into_data().iter::<f32>().all(f32::is_finite));
    }
}
