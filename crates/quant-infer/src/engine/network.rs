//! Networks, prepared for running.

use alloc::{
    boxed::Box,
    string::{String, ToString},
    vec,
    vec::Vec,
};

use quant_kernels::simd::InstructionSet;

use super::{
    conv::OperandSize,
    packing::Packing,
    plan::{Plan, Storage},
    prepare::Prepare,
    step::{CodesOf, Content, Step},
    store,
};
use crate::{
    Error,
    model::{Conv, Input, Model, Node, Op, Weight},
    top_k,
};

/// A network that is prepared for running. It does not change, so threads may share it.
///
/// ```
/// use quant_infer::{Image, Network};
/// # use quant_infer::model::{Input, Model, Node, Op};
/// # let node = |name: &str, op, inputs| Node { name: name.into(), op, inputs };
/// # let model = Model {
/// #     name: "average".into(),
/// #     producer: "example".into(),
/// #     classes: vec!["red".into(), "green".into()],
/// #     input: Input {
/// #         size: [1, 2],
/// #         shorter_side: None,
/// #         scale: vec![0.5; 2],
/// #         shift: vec![0.0; 2],
/// #     },
/// #     nodes: vec![
/// #         node("input", Op::Input, vec![]),
/// #         node("pool", Op::GlobalPool, vec![0]),
/// #     ],
/// # };
///
/// // The bytes of a file `.qnet`, here of a network that averages each of two channels.
/// let file: Vec<u8> = model.to_bytes();
/// let network = Network::from_bytes(&file)?;
/// let images = [&[0, 8, 2, 8], &[4, 0, 4, 2]].map(|bytes| Image::interleaved(bytes, [1, 2]));
/// let scores = network.run_batch(&images, 2)?; // by two threads
/// assert_eq!(scores, [[0.5, 4.0], [2.0, 0.5]]);
/// assert_eq!(network.top_k(&scores[0], 1), [("green".into(), 4.0)]);
/// # Ok::<(), quant_infer::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Network {
    pub(super) set: InstructionSet,
    /// The model without its weights, for the sizes of other images.
    pub(super) model: Model,
    pub(super) steps: Vec<Step>,
    pub(super) storages: Vec<Storage>,
    /// The storage of the scores.
    pub(super) scores: usize,
    /// For each node of the model where its codes are found.
    pub(super) codes: Vec<Option<CodesOf>>,
}

impl Network {
    /// Prepares a model: weights are brought into the order in which they are read, and the layers
    /// after a convolution become thresholds where that is possible.
    ///
    /// # Errors
    /// Those of [`Model::check`].
    pub fn new(model: &Model) -> Result<Self, Error> {
        Self::with_instruction_set(model, InstructionSet::detect())
    }

    /// Prepares a model for an instruction set. Results do not depend on it.
    ///
    /// # Errors
    /// Those of [`Model::check`].
    #[doc(hidden)]
    pub fn with_instruction_set(model: &Model, set: InstructionSet) -> Result<Self, Error> {
        Self::with_packing(model, set, None)
    }

    /// Prepares a model so that the operands of convolutions have a preferred packing where they
    /// can. Results do not depend on it.
    ///
    /// # Errors
    /// Those of [`Model::check`].
    #[doc(hidden)]
    pub fn with_packing(
        model: &Model,
        set: InstructionSet,
        preferred: Option<Packing>,
    ) -> Result<Self, Error> {
        model.check()?;
        let shapes = model.shapes(model.input.size)?;
        let plan = Plan::new(model, set, preferred);
        let prepare = Prepare { plan: &plan, input: &model.input, shapes: &shapes, set };
        let mut codes = vec![None; model.nodes.len()];
        let mut steps: Vec<Step> =
            (0..plan.drafts.len()).map(|step| prepare.step(step, &mut codes)).collect();
        for index in 1..steps.len() {
            steps[index].follows_rows =
                !steps[index - 1].follows_rows && steps[index].can_follow(&steps[index - 1]);
        }
        let scores = plan.value_of[plan.layers.len() - 1].unwrap_or_default();
        Ok(Self {
            set,
            model: without_weights(model),
            steps,
            scores,
            codes,
            storages: plan.storages,
        })
    }

    /// Reads a packed file and prepares its network.
    ///
    /// # Errors
    /// Those of [`Model::from_bytes`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        Self::new(&Model::from_bytes(bytes)?)
    }

    /// Reads a packed file from disk and prepares its network.
    ///
    /// # Errors
    /// Those of [`Model::load`].
    #[cfg(feature = "std")]
    pub fn load(path: impl AsRef<std::path::Path>) -> Result<Self, Error> {
        Self::new(&Model::load(path)?)
    }

    /// Returns the name of the network.
    pub fn name(&self) -> &str {
        &self.model.name
    }

    /// Returns the names of the classes, in the order of the scores. There are none if the model
    /// has none.
    pub fn classes(&self) -> &[String] {
        &self.model.classes
    }

    /// Returns the number of scores of an image, one for each class.
    pub fn outputs(&self) -> usize {
        let shapes = self.model.shapes(self.model.input.size);
        shapes.ok().and_then(|shapes| shapes.last().map(|shape| shape[0])).unwrap_or(0)
    }

    /// Returns the images that the network takes.
    pub fn input(&self) -> &Input {
        &self.model.input
    }

    /// Returns the model, without its weights.
    #[cfg(feature = "std")]
    pub(crate) fn model(&self) -> &Model {
        &self.model
    }

    /// Returns the names of the layers, in execution order.
    pub fn layers(&self) -> impl ExactSizeIterator<Item = &str> {
        self.model.nodes.iter().map(|node| &node.name[..])
    }

    /// Returns the names of the `k` classes with the highest scores, and the scores. A class
    /// without a name has its number.
    pub fn top_k(&self, scores: &[f32], k: usize) -> Vec<(String, f32)> {
        let name = |class: usize| match self.classes().get(class) {
            Some(name) => name.clone(),
            None => class.to_string(),
        };
        top_k(scores, k).into_iter().map(|(class, score)| (name(class), score)).collect()
    }
}

impl Network {
    /// Returns the operand of a term of a storage, with its padding, if the term's integers are all
    /// equal.
    pub(super) fn constant_operand(
        &self,
        storage: usize,
        term: usize,
        size: &OperandSize,
    ) -> Option<Vec<u32>> {
        let mut sinks = self.steps.iter().flat_map(|step| &step.sinks);
        let sink = sinks.find(|sink| sink.storage == storage)?;
        let Content::Integers { terms, padding, .. } = &sink.content else { return None };
        let position = terms.get(term)?.constant()?;
        let mut operand = position.repeat(size.height * size.width);
        store::fill_padding(size, &mut operand, &padding[term]);
        Some(operand)
    }
}

/// Returns a model whose convolutions have no weights, with everything that sizes depend on.
fn without_weights(model: &Model) -> Model {
    let nodes = model.nodes.iter().map(|node| Node {
        name: node.name.clone(),
        inputs: node.inputs.clone(),
        op: match &node.op {
            Op::Conv(conv) => Op::Conv(Box::new(Conv {
                quantizer: conv.quantizer.clone(),
                weight: Weight::Float(Vec::new()),
                bias: None,
                ..**conv
            })),
            op => op.clone(),
        },
    });
    Model {
        name: model.name.clone(),
        producer: model.producer.clone(),
        classes: model.classes.clone(),
        input: model.input.clone(),
        nodes: nodes.collect(),
    }
}
