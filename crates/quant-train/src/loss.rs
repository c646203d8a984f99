//! The training loss: cross-entropy, focal loss, distillation.

use burn::{
    nn::loss::{CrossEntropyLoss, CrossEntropyLossConfig},
    tensor::{
        Device, Int, Tensor,
        activation::{log_softmax, softmax},
    },
};
use quant_nn::Network;
use serde::{Deserialize, Serialize};

use crate::{error::TrainError, mixing::Targets, phase::Phase, recipe::ModelRecipe};

/// Focal loss: mean of -weight·(1 - p)^gamma·log p, with p the probability of the right class (Lin et
/// al. 2017, eq. 5). With gamma 0 and weight 1 it is cross-entropy.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FocalRecipe {
    /// How much easy images count less, 0 or more.
    #[serde(default = "two")]
    pub gamma: f64,
    /// Factor on the whole, above 0.
    #[serde(default = "one")]
    pub weight: f64,
}

/// Learning from a trained network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DistillationRecipe {
    /// An earlier phase, whose best network it is, or a safetensors file or PyTorch checkpoint,
    /// relative to the recipe.
    pub teacher: String,
    /// The key in that file that the weights are filed under; by default wherever they fit.
    pub teacher_key: Option<String>,
    /// A file of renaming rules for that file's names, relative to the recipe.
    pub teacher_map: Option<String>,
    /// The teacher's network, for files that do not say it themselves (PyTorch's). By default the
    /// recipe's own, in full precision.
    pub model: Option<ModelRecipe>,
    /// What is learned.
    #[serde(default)]
    pub kind: DistillationKind,
    /// Its weight: 0 to 1 of the whole for `soft` and `hard`, 0 or more for `feature`.
    #[serde(default = "half")]
    pub weight: f64,
    /// Temperature T of `soft`, above 0.
    #[serde(default = "four")]
    pub temperature: f64,
}

/// What is learned from the teacher.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DistillationKind {
    /// (1 - weight)·loss + weight·T²·KL(teacher ‖ student), of softmax(scores/T), mean over images
    /// (Hinton, Vinyals and Dean 2015).
    #[default]
    Soft,
    /// (1 - weight)·loss + weight·cross-entropy with the teacher's best class.
    Hard,
    /// loss + weight·mean over blocks of the mean square difference between student's and teacher's
    /// outputs (Romero et al. 2015), of blocks with the same name and shape.
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
    4.0
}

/// The loss of a phase.
pub struct Objective {
    cross_entropy: CrossEntropyLoss,
    focal: Option<FocalRecipe>,
    teacher: Option<Teacher>,
}

struct Teacher {
    recipe: DistillationRecipe,
    /// On the plain device, and so in evaluation.
    network: Network,
    /// Pairs of student's and teacher's blocks.
    blocks: Vec<(usize, usize)>,
}

impl Objective {
    /// The loss of `recipe`, on `device`.
    pub fn new(recipe: &Phase, device: &Device) -> Self {
        let smoothing = recipe.label_smoothing as f32;
        let cross_entropy = CrossEntropyLossConfig::new()
            .with_smoothing((smoothing > 0.0).then_some(smoothing))
            .init(device);
        Self { cross_entropy, focal: recipe.focal, teacher: None }
    }

    /// The same, with a teacher for `student`: a network on the plain device.
    ///
    /// # Errors
    /// [`TrainError::Field`] for another number of classes, or where no block can be compared.
    pub fn with_teacher(
        mut self,
        recipe: &DistillationRecipe,
        network: Network,
        student: &Network,
    ) -> Result<Self, TrainError> {
        let (theirs, ours) = (network.config().classes(), student.config().classes());
        if theirs != ours {
            return Err(TrainError::Field {
                field: "distillation.teacher".into(),
                value: format!("a network of {theirs} classes"),
                accepted: "one of as many classes as the data",
            });
        }
        let (names, shapes) = (network.blocks(), network.block_shapes());
        let students = student.blocks().into_iter().zip(student.block_shapes());
        let pairs = students.enumerate().filter_map(|(index, (name, shape))| {
            let teacher = names.iter().position(|other| *other == name)?;
            (shapes[teacher] == shape).then_some((index, teacher))
        });
        let blocks: Vec<(usize, usize)> = match recipe.kind {
            DistillationKind::Feature => pairs.collect(),
            _ => Vec::new(),
        };
        if recipe.kind == DistillationKind::Feature && blocks.is_empty() {
            return Err(TrainError::Field {
                field: "distillation.kind".into(),
                value: "feature".into(),
                accepted: "a teacher with a block of the same name and output shape as the student's",
            });
        }
        self.teacher = Some(Teacher { recipe: recipe.clone(), network, blocks });
        Ok(self)
    }

    /// Scores of `images`, `[batch, classes]`, and the loss, `[1]`.
    pub fn forward(
        &self,
        network: &Network,
        images: Tensor<4>,
        targets: &Targets,
    ) -> (Tensor<2>, Tensor<1>) {
        let Some(teacher) = &self.teacher else {
            let scores = network.forward(images);
            let loss = targets.weigh(|labels| self.of_labels(scores.clone(), labels));
            return (scores, loss);
        };
        let (weight, plain) = (teacher.recipe.weight, images.clone().inner());
        let (scores, loss, share) = match teacher.recipe.kind {
            DistillationKind::Feature => {
                let (scores, outputs) = network.forward_blocks(images);
                let (_, expected) = teacher.network.forward_blocks(plain);
                let terms = teacher.blocks.iter().map(|(student, teacher)| {
                    let expected = Tensor::from_inner(expected[*teacher].clone());
                    (outputs[*student].clone() - expected).square().mean()
                });
                let sum = terms.reduce(|sum, term| sum + term);
                (scores, sum.map(|sum| sum.div_scalar(teacher.blocks.len() as f64)), 1.0)
            }
            DistillationKind::Soft => {
                let scores = network.forward(images);
                let expected = Tensor::from_inner(teacher.network.forward(plain));
                let loss = divergence(scores.clone(), expected, teacher.recipe.temperature);
                (scores, Some(loss), 1.0 - weight)
            }
            DistillationKind::Hard => {
                let scores = network.forward(images);
                let best = teacher.network.forward(plain).argmax(1).squeeze_dim::<1>(1);
                let loss = self.cross_entropy.forward(scores.clone(), Tensor::from_inner(best));
                (scores, Some(loss), 1.0 - weight)
            }
        };
        let own = targets.weigh(|labels| self.of_labels(scores.clone(), labels)).mul_scalar(share);
        let loss = match loss {
            Some(taught) => own + taught.mul_scalar(weight),
            None => own,
        };
        (scores, loss)
    }

    fn of_labels(&self, scores: Tensor<2>, labels: Tensor<1, Int>) -> Tensor<1> {
        match self.focal {
            None => self.cross_entropy.forward(scores, labels),
            Some(focal) => focal.loss(scores, labels),
        }
    }
}

impl FocalRecipe {
    /// The loss of `[batch, classes]` scores and `[batch]` labels.
    pub fn loss(self, scores: Tensor<2>, labels: Tensor<1, Int>) -> Tensor<1> {
        let log_p = log_softmax(scores, 1).gather(1, labels.unsqueeze_dim(1));
        let unlikely = (-log_p.clone().exp()).add_scalar(1.0);
        // A power of 0 has no gradient of its own: 0·x^-1 at x = 0 is no number.
        let factor = match self.gamma {
            0.0 => unlikely.ones_like(),
            gamma => unlikely.clamp_min(f32::MIN_POSITIVE).powf_scalar(gamma),
        };
        -(factor * log_p).mean().mul_scalar(self.weight)
    }
}

/// T²·KL(softmax(expected/T) ‖ softmax(scores/T)), mean over images.
fn divergence(scores: Tensor<2>, expected: Tensor<2>, temperature: f64) -> Tensor<1> {
    let images = scores.dims()[0] as f64;
    let log_q = log_softmax(scores.div_scalar(temperature), 1);
    let expected = expected.div_scalar(temperature);
    let (p, log_p) = (softmax(expected.clone(), 1), log_softmax(expected, 1));
    (p * (log_p - log_q)).sum().mul_scalar(temperature * temperature / images)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scores() -> Tensor<2> {
        Tensor::from_floats([[1.0, 2.0, 0.5], [0.0, -1.0, 3.0]], &Device::flex())
    }

    fn value(loss: Tensor<1>) -> f64 {
        loss.into_scalar()
    }

    /// log softmax of the score at `right`.
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

    #[test]
    fn the_divergence_is_its_formula_and_zero_between_equals() {
        assert!(value(divergence(scores(), scores(), 3.0)).abs() < 1e-6);
        let other = Tensor::from_floats([[0.0, 0.0, 0.0], [0.0, -1.0, 3.0]], &Device::flex());
        let q: Vec<f64> = (0..3).map(|c| log_p([0.25, 0.5, 0.125], c)).collect();
        let kl: f64 = q.iter().map(|q| (1.0 / 3.0) * ((1.0f64 / 3.0).ln() - q)).sum();
        let loss = value(divergence(scores(), other, 4.0));
        assert!((loss - 16.0 * kl / 2.0).abs() < 1e-5, "{loss}");
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
