//! The training loss of a phase.

use burn::{
    nn::loss::{CrossEntropyLoss, CrossEntropyLossConfig},
    tensor::{Device, Int, Tensor},
};
use quant_nn::{Classifier, NetworkConfig};

pub use crate::recipe::loss::{DistillationKind, DistillationRecipe, FocalRecipe, Reduction};
use crate::{batches::mixing::Targets, error::TrainError, recipe::phase::Phase};

/// The training loss of a phase.
pub(crate) struct Objective<M> {
    cross_entropy: CrossEntropyLoss,
    focal: Option<FocalRecipe>,
    teacher: Option<Teacher<M>>,
}

struct Teacher<M> {
    recipe: DistillationRecipe,
    /// The network is on the plain device, so that it computes as in evaluation.
    network: M,
    /// The pairs of the student's and the teacher's blocks, by their indices.
    blocks: Vec<(usize, usize)>,
}

impl<M: Classifier> Objective<M> {
    /// Returns the loss of the phase, on `device`.
    pub(crate) fn new(phase: &Phase, device: &Device) -> Self {
        let smoothing = phase.label_smoothing as f32;
        let cross_entropy = CrossEntropyLossConfig::new()
            .with_smoothing((smoothing > 0.0).then_some(smoothing))
            .init(device);
        Self { cross_entropy, focal: phase.focal, teacher: None }
    }

    /// Returns the loss with a teacher, a network on the plain device, for `student`.
    ///
    /// # Errors
    /// [`TrainError::Field`] where the teacher has another number of classes, or where no block can
    /// be compared.
    pub(crate) fn with_teacher(
        mut self,
        recipe: &DistillationRecipe,
        network: M,
        student: &M,
    ) -> Result<Self, TrainError> {
        let classes = |network: &M| network.network_config().map(NetworkConfig::classes);
        if let Some((theirs, ours)) = classes(&network).zip(classes(student))
            && theirs != ours
        {
            return Err(TrainError::Field {
                field: "distillation.teacher".into(),
                value: format!("a network of {theirs} classes"),
                accepted: "a network with as many classes as the data",
            });
        }
        let theirs = network.blocks();
        let pairs = student.blocks().into_iter().enumerate().filter_map(|(index, block)| {
            Some((index, theirs.iter().position(|other| *other == block)?))
        });
        let blocks: Vec<(usize, usize)> = match recipe.kind {
            DistillationKind::Feature => pairs.collect(),
            _ => Vec::new(),
        };
        if recipe.kind == DistillationKind::Feature && blocks.is_empty() {
            return Err(TrainError::Field {
                field: "distillation.kind".into(),
                value: "feature".into(),
                accepted: "a teacher that has a block with the name and output shape of a \
                           student's block",
            });
        }
        self.teacher = Some(Teacher { recipe: recipe.clone(), network, blocks });
        Ok(self)
    }

    /// Returns the scores of `images`, `[batch, classes]`, and the loss, `[1]`.
    pub(crate) fn forward(
        &self,
        network: &M,
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
            DistillationKind::Soft | DistillationKind::SoftCrossEntropy => {
                let scores = network.forward(images);
                let expected = Tensor::from_inner(teacher.network.forward(plain));
                let loss = teacher.recipe.soft_loss(scores.clone(), expected);
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
