//! Finds every quantizer of any Burn module, by its path. These are quantizers that are modules
//! themselves, in fields, lists and options of any type, and quantizers that are set on the weights
//! of layers ([`quantize_weights`](crate::quantize_weights)).
//!
//! Burn's visitors and mappers traverse every module, including Burn's own layers, and know the
//! path of each parameter, but they are given parameters only. [`Quantizer`] therefore implements
//! Burn's `Module` by hand: in a traversal that this file starts, a quantizer hands over itself
//! instead of its parameters. A derive macro would find quantizers only in types that use the
//! macro, and in no layer of Burn or of another crate.

use std::{cell::RefCell, collections::HashMap, mem::replace};

use burn::{
    module::{
        Content, Devices, Module, ModuleDisplay, ModuleDisplayDefault, ModuleMapper, ModuleVisitor,
        Param,
    },
    tensor::{Device, Tensor},
};

use crate::{host, method::Role, quantizer::Quantizer};

/// A quantizer of a module, and its path.
#[derive(Debug, Clone)]
pub struct Reached {
    /// The path in the module, such as `conv1.quant` or `conv1.weight.quant_weight`. It does not
    /// contain the names of enum variants.
    pub path: String,
    /// A clone of the quantizer, with the same parameters.
    pub quantizer: Quantizer,
}

/// A quantized weight of a module.
#[derive(Debug, Clone)]
pub struct QuantizedWeight {
    /// The quantizer, and its path.
    pub reached: Reached,
    /// The weight before it is quantized. A weight of fewer than four dimensions has dimensions of
    /// size 1 appended; in a weight of more than four, all dimensions from the fourth on are merged
    /// into one.
    pub weight: Tensor<4>,
    /// Shape of the weight in the module.
    pub shape: Vec<usize>,
}

impl QuantizedWeight {
    /// Returns the code of every element, row-major.
    pub fn codes(&self) -> Vec<u8> {
        host::codes(self.reached.quantizer.codes(self.weight.clone()).codes)
    }
}

impl Reached {
    /// Returns the path of the layer that the quantizer belongs to, which is `conv1` for
    /// `conv1.weight.quant_weight` and `conv1.quant_activation`. A quantizer in a field with
    /// another name, such as `quant`, is its own layer.
    pub fn layer(&self) -> &str {
        layer_of(&self.path)
    }
}

/// Returns the path of the layer that the quantizer at `path` belongs to.
#[doc(hidden)]
pub fn layer_of(path: &str) -> &str {
    let Some((layer, last)) = path.rsplit_once('.') else { return path };
    match last {
        "quant_weight" => layer.strip_suffix(".weight").unwrap_or(layer),
        "quant_activation" | "quant_output" => layer,
        _ => path,
    }
}

/// Returns the quantizers of `module`, in the order of its fields.
///
/// ```
/// use burn::{module::Module, nn::{Linear, LinearConfig}, tensor::Device};
/// use quant_core::{
///     Levels, Method, Quantizer, QuantizerConfig, Role, Site, quantize_weights, quantizers,
/// };
///
/// #[derive(Module, Debug)]
/// struct Net {
///     quant: Quantizer,
///     fc: Linear,
/// }
///
/// let device = Device::flex();
/// let config = |role| QuantizerConfig::new(Method::Lsq, role, Levels::BINARY);
/// let quant = config(Role::Activation).init(&Site::activation("fc", 8), &device)?;
/// let net = Net { quant, fc: LinearConfig::new(8, 4).init(&device) };
/// let net = quantize_weights(net, &config(Role::Weight), |path| path == "fc.weight")?;
/// let paths: Vec<String> = quantizers(&net).into_iter().map(|found| found.path).collect();
/// assert_eq!(paths, ["quant", "fc.weight.quant_weight"]);
/// # Ok::<(), quant_core::QuantizerError>(())
/// ```
pub fn quantizers<M: Module>(module: &M) -> Vec<Reached> {
    let mut reader = Reader { path: ModulePath::default(), weights: None, found: Vec::new() };
    let _walk = Walk::begin();
    module.visit(&mut reader);
    reader.found
}

/// Returns the quantized weights of `module`, in the order of its fields: the weights that
/// [`quantize_weights`](crate::quantize_weights) gave a quantizer, and the weights that are named
/// `weight` and have a weight quantizer named `quant_weight` beside them.
///
/// ```
/// use burn::{nn::LinearConfig, tensor::Device};
/// use quant_core::{
///     Levels, Method, QuantizerConfig, Role, quantize_weights, quantized_weights,
/// };
///
/// let config = QuantizerConfig::new(Method::Lsq, Role::Weight, Levels::from_bits(2)?);
/// let layer = LinearConfig::new(8, 4).init(&Device::flex());
/// let layer = quantize_weights(layer, &config, |path| path == "weight")?;
/// let found = &quantized_weights(&layer)[0];
/// assert_eq!(found.reached.path, "weight.quant_weight");
/// assert_eq!(found.shape, [8, 4]);
/// assert!(found.codes().iter().all(|code| *code < 4));
/// # Ok::<(), quant_core::QuantizerError>(())
/// ```
pub fn quantized_weights<M: Module>(module: &M) -> Vec<QuantizedWeight> {
    let mut reader =
        Reader { path: ModulePath::default(), weights: Some(HashMap::new()), found: Vec::new() };
    let walk = Walk::begin();
    module.visit(&mut reader);
    drop(walk);
    let weights = reader.weights.unwrap_or_default();
    let found = reader.found.into_iter().filter_map(|reached| {
        let owner = reached.path.strip_suffix("quant_weight")?;
        let weight = weights.get(owner.strip_suffix('.').unwrap_or(owner));
        let weight = weight.or_else(|| weights.get(&format!("{owner}weight")))?;
        let (weight, shape) = weight.clone();
        Some(QuantizedWeight { reached, weight, shape })
    });
    found.filter(|found| found.reached.quantizer.config().role == Role::Weight).collect()
}

/// Calls `change` with the path and the value of each quantizer of `module`, and returns the
/// changed module.
pub fn change_quantizers<M: Module>(module: M, change: impl FnMut(&str, &mut Quantizer)) -> M {
    let _walk = Walk::begin();
    module.map(&mut Changer { path: ModulePath::default(), change })
}

/// Names each quantizer of `module` by its path. Messages use the names.
#[doc(hidden)]
pub fn name_quantizers<M: Module>(module: M) -> M {
    change_quantizers(module, |path, quantizer| quantizer.set_name(path))
}

/// The same as Burn would derive for the parts, except that the traversals of this file are given
/// the quantizer itself.
impl Module for Quantizer {
    fn collect_devices(&self, devices: Devices) -> Devices {
        self.0.collect_devices(devices)
    }

    fn fork(self, device: &Device) -> Self {
        Self(self.0.fork(device))
    }

    fn to_device(self, device: &Device) -> Self {
        Self(self.0.to_device(device))
    }

    fn visit<V: ModuleVisitor>(&self, visitor: &mut V) {
        if walking() { show(self, visitor) } else { self.0.visit(visitor) }
    }

    fn map<M: ModuleMapper>(self, mapper: &mut M) -> Self {
        if walking() { lend(self, mapper) } else { Self(self.0.map(mapper)) }
    }

    fn materialize(self) -> Self {
        Self(self.0.materialize())
    }

    fn valid(&self) -> Self {
        Self(self.0.valid())
    }

    fn train(self) -> Self {
        Self(self.0.train())
    }
}

impl ModuleDisplayDefault for Quantizer {
    fn content(&self, content: Content) -> Option<Content> {
        self.0.content(content)
    }
}

impl ModuleDisplay for Quantizer {}

/// The state of the traversal that runs on a thread.
#[derive(Default)]
enum State {
    /// No traversal is running: quantizers hand over their parameters.
    #[default]
    None,
    /// A traversal is running: quantizers hand over themselves.
    Walking,
    /// A quantizer was handed over, and is being taken or changed.
    At(Box<Quantizer>),
}

thread_local! {
    static STATE: RefCell<State> = const { RefCell::new(State::None) };
}

fn swap(state: State) -> State {
    STATE.with(|current| replace(&mut *current.borrow_mut(), state))
}

/// The name and container type by which a quantizer announces itself to a traversal.
const HERE: &str = "Quantizer:here";

/// A traversal, which runs until this value is dropped.
struct Walk;

impl Walk {
    fn begin() -> Self {
        swap(State::Walking);
        Self
    }
}

impl Drop for Walk {
    fn drop(&mut self) {
        swap(State::None);
    }
}

/// Returns whether a traversal is running that is given quantizers themselves.
pub(crate) fn walking() -> bool {
    STATE.with(|state| matches!(*state.borrow(), State::Walking))
}

/// Hands a clone of a quantizer to the visitor of a traversal.
pub(crate) fn show<V: ModuleVisitor>(quantizer: &Quantizer, visitor: &mut V) {
    swap(State::At(Box::new(quantizer.clone())));
    visitor.enter_module(HERE, HERE);
    swap(State::Walking);
}

/// Hands a quantizer to the mapper of a traversal, and takes it back.
pub(crate) fn lend<M: ModuleMapper>(quantizer: Quantizer, mapper: &mut M) -> Quantizer {
    swap(State::At(Box::new(quantizer)));
    mapper.enter_module(HERE, HERE);
    match swap(State::Walking) {
        State::At(changed) => *changed,
        State::None | State::Walking => {
            unreachable!("the mapper of a traversal gives back the quantizer that it took")
        }
    }
}

/// The path of the module that is visited.
#[derive(Default)]
struct ModulePath(Vec<String>);

impl ModulePath {
    /// Returns whether a container contributes to the path: enum variants do not.
    fn has(container_type: &str) -> bool {
        !container_type.starts_with("Enum:")
    }

    fn enter(&mut self, name: &str, container_type: &str) {
        if Self::has(container_type) {
            self.0.push(name.to_owned());
        }
    }

    fn exit(&mut self, container_type: &str) {
        if Self::has(container_type) {
            self.0.pop();
        }
    }

    /// Returns the path with dots between the names.
    fn dotted(&self) -> String {
        self.0.join(".")
    }
}

struct Reader {
    path: ModulePath,
    /// The parameters of two or more dimensions, by path, where they are collected.
    weights: Option<HashMap<String, (Tensor<4>, Vec<usize>)>>,
    found: Vec<Reached>,
}

impl ModuleVisitor for Reader {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        if name != HERE {
            self.path.enter(name, container_type);
            return;
        }
        if let State::At(quantizer) = swap(State::None) {
            self.found.push(Reached { path: self.path.dotted(), quantizer: *quantizer });
        }
    }

    fn exit_module(&mut self, _name: &str, container_type: &str) {
        self.path.exit(container_type);
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Some(weights) = self.weights.as_mut().filter(|_| D >= 2) else { return };
        let weight = param.val().detach();
        let mut shape = [1; 4];
        for (index, side) in weight.dims().into_iter().enumerate() {
            shape[index.min(3)] *= side;
        }
        let sides = weight.dims().to_vec();
        weights.insert(self.path.dotted(), (weight.reshape(shape), sides));
    }
}

struct Changer<F> {
    path: ModulePath,
    change: F,
}

impl<F: FnMut(&str, &mut Quantizer)> ModuleMapper for Changer<F> {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        if name != HERE {
            self.path.enter(name, container_type);
            return;
        }
        // No traversal is running while a quantizer is changed, so that `change` may visit modules.
        if let State::At(mut quantizer) = swap(State::None) {
            (self.change)(&self.path.dotted(), &mut quantizer);
            swap(State::At(quantizer));
        }
    }

    fn exit_module(&mut self, _name: &str, container_type: &str) {
        self.path.exit(container_type);
    }
}
