//! Networks, prepared for running.

use alloc::{
    boxed::Box,
    string::{String, ToString},
    vec,
    vec::Vec,
};

use quant_kernels::simd::InstructionSet;

#[cfg(feature = "std")]
use super::plan::Form;
use super::{
    coder::{Coder, Integers, PerThreshold},
    conv::{FloatConv, IntegerConv, OperandSize},
    links::Link,
    packing::Packing,
    pixels::ByteWords,
    plan::{Plan, Storage},
    prepare::Prepare,
    session::Session,
    store,
};
#[cfg(feature = "std")]
use crate::bench::Kernel;
use crate::{
    Error, Image,
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
/// #     input: Input { size: [1, 2], shorter_side: None, scale: vec![0.5; 2], shift: vec![0.0; 2]
/// },
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

/// A step of the plan, prepared.
#[derive(Debug, Clone)]
pub(super) struct Step {
    /// The node of the model that is its first layer.
    pub(super) node: usize,
    pub(super) producer: Producer,
    pub(super) links: Vec<Link>,
    pub(super) sinks: Vec<Sink>,
    /// The node of the model that has the size of the numbers.
    pub(super) shape: usize,
    /// Whether the sinks read sums of integers, and no links are applied.
    pub(super) is_folded: bool,
    /// For each channel of a folded step whether its sums are negated.
    pub(super) negated: Vec<bool>,
    /// Whether the numbers can be computed and stored in one pass.
    pub(super) takes_one_pass: bool,
    /// Whether its rows are computed as soon as the step before has computed what they need.
    pub(super) follows_rows: bool,
}

impl Step {
    /// Returns the number of rows of the value that a pooling layer reads for its rows up to one.
    /// It is at least the number of these rows.
    pub(super) fn rows_needed(&self, row: usize) -> usize {
        match &self.producer {
            Producer::Layer { op: Op::MaxPool(pool), .. } => {
                (row * pool.stride + pool.kernel).saturating_sub(pool.padding)
            }
            Producer::Layer { op: Op::AveragePool(side), .. } => (row + 1) * side,
            _ => usize::MAX,
        }
    }

    /// Returns the number of rows that a pooling layer reads for one.
    pub(super) fn window(&self) -> usize {
        match &self.producer {
            Producer::Layer { op: Op::MaxPool(pool), .. } => pool.kernel,
            Producer::Layer { op: Op::AveragePool(side), .. } => *side,
            _ => usize::MAX,
        }
    }

    /// Returns whether the step pools what the step before stores, and reads nothing else of it.
    fn can_follow(&self, before: &Self) -> bool {
        let Producer::Layer { op: Op::MaxPool(_) | Op::AveragePool(_), values } = &self.producer
        else {
            return false;
        };
        let stores = |storage: usize| before.sinks.iter().any(|sink| sink.storage == storage);
        let adds = |link: &Link| matches!(link, Link::Add(storage) if stores(*storage));
        stores(values[0]) && !self.links.iter().any(adds)
    }
}

/// How the numbers of a step are produced. Indices are those of storages.
#[derive(Debug, Clone)]
pub(super) enum Producer {
    Input,
    Integer {
        conv: Box<IntegerConv>,
        operand: usize,
    },
    Float {
        conv: Box<FloatConv>,
        operand: usize,
    },
    /// The numbers of a stored value.
    Value(usize),
    /// The values of a quantizer that depends on the image.
    Dynamic {
        coder: Box<Coder>,
        value: usize,
    },
    /// A layer with no numbers of its own.
    Layer {
        op: Op,
        values: Vec<usize>,
    },
}

impl Producer {
    /// Returns the number of sums of a position, of which `channels` numbers are made.
    pub(super) fn sums(&self, channels: usize) -> usize {
        match self {
            Self::Integer { conv, .. } => conv.sums().max(channels),
            _ => channels,
        }
    }
}

/// What is stored after some links.
#[derive(Debug, Clone)]
pub(super) struct Sink {
    pub(super) after: usize,
    pub(super) storage: usize,
    pub(super) content: Content,
}

/// In which form a sink stores numbers.
#[derive(Debug, Clone)]
pub(super) enum Content {
    /// Floats. The padding has these values, per channel.
    Floats { coder: Option<Coder>, padding: Vec<f32> },
    /// Integers of each term. The padding has these words of a position, per term.
    Integers {
        coder: Coder,
        terms: Vec<Integers>,
        padding: Vec<Vec<u32>>,
        /// The thresholds of sums, if the step is folded.
        folded: Option<PerThreshold<i32>>,
        /// The words of an image's bytes for each term, if the numbers are those of the image.
        bytes: Vec<ByteWords>,
    },
}

/// Where the codes of a node are found.
#[derive(Debug, Clone, Copy)]
pub(super) enum CodesOf {
    /// In the operand that a step reads.
    Operand { step: usize, storage: usize },
    /// In the numbers that a step produces from a quantizer that depends on the image.
    Dynamic { step: usize },
    /// In the numbers after a link.
    Link { step: usize, link: usize },
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

    /// Returns for each step the node that is its first layer, and what computes its sums.
    #[cfg(feature = "std")]
    pub(crate) fn kernels(&self) -> impl Iterator<Item = (usize, Option<Kernel>)> {
        self.steps.iter().map(|step| {
            let kernel = match &step.producer {
                Producer::Integer { conv, .. } if conv.is_depthwise() => Some(Kernel::Depthwise),
                Producer::Integer { operand, .. } => match self.storages[*operand].form {
                    Form::Integers(_, packing) => Some(Kernel::Integers(packing)),
                    Form::Floats(_) => None,
                },
                Producer::Float { conv, .. } if conv.is_depthwise() => Some(Kernel::Depthwise),
                Producer::Float { .. } => Some(Kernel::Floats),
                _ => None,
            };
            (step.node, kernel)
        })
    }

    /// Returns the names of the layers, in execution order.
    pub fn layers(&self) -> impl ExactSizeIterator<Item = &str> {
        self.model.nodes.iter().map(|node| &node.name[..])
    }

    /// Returns a session, which runs one image after another.
    pub fn session(&self) -> Session<'_> {
        Session::new(self)
    }

    /// Returns the class scores of an image. A [`session`](Self::session) keeps its memory for the
    /// next image.
    ///
    /// # Errors
    /// [`Error::Image`] if the image does not fit the network.
    pub fn run(&self, image: &Image<'_>) -> Result<Vec<f32>, Error> {
        self.session().run(image).map(<[f32]>::to_vec)
    }

    /// Returns the class scores of each image, in the order of the images. `threads` threads share
    /// the images; each has its own session, and computes one image at a time.
    ///
    /// # Errors
    /// [`Error::Image`] with the first image that does not fit the network.
    #[cfg(feature = "std")]
    pub fn run_batch(&self, images: &[Image<'_>], threads: usize) -> Result<Vec<Vec<f32>>, Error> {
        use core::sync::atomic::{AtomicUsize, Ordering};
        use std::sync::Mutex;

        let next = AtomicUsize::new(0);
        let results = Mutex::new(vec![Ok(Vec::new()); images.len()]);
        let work = || {
            let mut session = self.session();
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some(image) = images.get(index) else { return };
                let scores = session.run(image).map(<[f32]>::to_vec);
                // A thread that panicked has left the results whole: it replaces one at a time.
                results.lock().unwrap_or_else(|error| error.into_inner())[index] = scores;
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..threads.min(images.len()) {
                scope.spawn(work);
            }
            work();
        });
        results.into_inner().unwrap_or_else(|error| error.into_inner()).into_iter().collect()
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

impl Sink {
    /// Returns whether the sink stores an image's bytes, without their numbers.
    pub(super) fn takes_bytes(&self) -> bool {
        matches!(&self.content, Content::Integers { bytes, .. } if !bytes.is_empty())
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
