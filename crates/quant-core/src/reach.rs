//! Every quantizer of any Burn module, by its path: those that are modules themselves, in fields, lists
//! and options of any type, and those on the weights of layers
//! ([`quantize_weights`](crate::quantize_weights)).
//!
//! Burn's visitors and mappers walk through every module, stock layers included, and tell the path of
//! each parameter; they hand over parameters only. So [`Quantizer`] implements Burn's `Module` by hand:
//! where a walk of this file comes by, it hands over itself instead of its parameters. A derive macro
//! would find quantizers in types that carry it, and in no layer of Burn's or of another crate.

use std::{cell::RefCell, collections::HashMap, mem::replace};

use burn::{
    module::{
        Content, Devices, Module, ModuleDisplay, ModuleDisplayDefault, ModuleMapper, ModuleVisitor,
        Param,
    },
    tensor::{Device, Tensor},
};

use crate::{host, method::Role, quantizer::Quantizer};

/// A quantizer of a module, and where it stands.
#[derive(Debug, Clone)]
pub struct Reached {
    /// Its path in the module, such as `conv1.quant` or `conv1.weight.quant_weight`. Names of enum variants
    /// are no part of it.
    pub path: String,
    /// A clone of the quantizer, with the same parameters.
    pub quantizer: Quantizer,
}

/// A weight of a module and its quantizer.
#[derive(Debug, Clone)]
pub struct QuantizedWeight {
    /// The quantizer.
    pub reached: Reached,
    /// The weight before it is quantized, with ones behind its dimensions where it has fewer than four,
    /// and the last ones as one where it has more.
    pub weight: Tensor<4>,
    /// Shape of the weight.
    pub shape: Vec<usize>,
}

impl QuantizedWeight {
    /// The code of every element, row-major.
    pub fn codes(&self) -> Vec<u8> {
        host::codes(self.reached.quantizer.codes(self.weight.clone()).codes)
    }
}

impl Reached {
    /// Path of the layer that it belongs to: of `conv1.weight.quant_weight` and `conv1.quant_activation` it
    /// is `conv1`. A quantizer that is a field of its own, such as `quant`, is its own layer.
    pub fn layer(&self) -> &str {
        layer_of(&self.path)
    }
}

/// The path of the layer that the quantizer at `path` belongs to.
pub fn layer_of(path: &str) -> &str {
    let Some((layer, last)) = path.rsplit_once('.') else { return path };
    match last {
        "quant_weight" => layer.strip_suffix(".weight").unwrap_or(layer),
        "quant_activation" | "quant_output" => layer,
        _ => path,
    }
}

/// The quantizers of `module`, in the order of its fields.
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
    let mut reader = Reader { path: Vec::new(), weights: None, found: Vec::new() };
    let _walk = Walk::begin();
    module.visit(&mut reader);
    reader.found
}

/// The weights of `module` that have quantizers, in the order of its fields: those on which
/// [`quantize_weights`](crate::quantize_weights) put one, and those named `weight` beside a weight quantizer
/// named `quant_weight`.
pub fn quantized_weights<M: Module>(module: &M) -> Vec<QuantizedWeight> {
    let mut reader = Reader { path: Vec::new(), weights: Some(HashMap::new()), found: Vec::new() };
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

/// `module` after `change` was called with the path and the value of each of its quantizers.
pub fn change_quantizers<M: Module>(module: M, change: impl FnMut(&str, &mut Quantizer)) -> M {
    let _walk = Walk::begin();
    module.map(&mut Changer { path: Vec::new(), change })
}

/// `module` with the path of each quantizer as its name, which messages use.
pub fn name_quantizers<M: Module>(module: M) -> M {
    change_quantizers(module, |path, quantizer| quantizer.set_name(path))
}

/// As Burn would derive it for [`Parts`], but that the walks of this file find the quantizer itself.
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
        match walking() {
            true => show(self, visitor),
            false => self.0.visit(visitor),
        }
    }

    fn map<M: ModuleMapper>(self, mapper: &mut M) -> Self {
        match walking() {
            true => lend(self, mapper),
            false => Self(self.0.map(mapper)),
        }
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

/// What a thread's walk is at.
#[derive(Default)]
enum State {
    /// No walk goes on: quantizers hand over their parameters.
    #[default]
    None,
    /// Quantizers hand over themselves.
    Walking,
    /// One has, and is taken or changed.
    At(Box<Quantizer>),
}

thread_local! {
    static STATE: RefCell<State> = const { RefCell::new(State::None) };
}

fn swap(state: State) -> State {
    STATE.with(|current| replace(&mut *current.borrow_mut(), state))
}

/// Name and container under which a quantizer announces itself to the visitor of a walk.
const HERE: &str = "Quantizer:here";

/// A walk that goes on until it is dropped.
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

/// Whether a walk goes on, which takes quantizers as they are.
pub(crate) fn walking() -> bool {
    STATE.with(|state| matches!(*state.borrow(), State::Walking))
}

/// Hands a quantizer over to the visitor of a walk.
pub(crate) fn show<V: ModuleVisitor>(quantizer: &Quantizer, visitor: &mut V) {
    swap(State::At(Box::new(quantizer.clone())));
    visitor.enter_module(HERE, HERE);
    swap(State::Walking);
}

/// Hands a quantizer over to the mapper of a walk, and takes it back.
pub(crate) fn lend<M: ModuleMapper>(quantizer: Quantizer, mapper: &mut M) -> Quantizer {
    swap(State::At(Box::new(quantizer)));
    mapper.enter_module(HERE, HERE);
    match swap(State::Walking) {
        State::At(changed) => *changed,
        State::None | State::Walking => {
            unreachable!("the mapper of a walk gives back what it took")
        }
    }
}

/// Enum variants are no part of a path.
fn is_named(container: &str) -> bool {
    !container.starts_with("Enum:")
}

struct Reader {
    path: Vec<String>,
    /// Parameters of two dimensions or more, by path, where they are wanted.
    weights: Option<HashMap<String, (Tensor<4>, Vec<usize>)>>,
    found: Vec<Reached>,
}

impl ModuleVisitor for Reader {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        if name != HERE {
            if is_named(container_type) {
                self.path.push(name.to_owned());
            }
            return;
        }
        if let State::At(quantizer) = swap(State::None) {
            self.found.push(Reached { path: self.path.join("."), quantizer: *quantizer });
        }
    }

    fn exit_module(&mut self, _name: &str, container_type: &str) {
        if is_named(container_type) {
            self.path.pop();
        }
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Some(weights) = self.weights.as_mut().filter(|_| D >= 2) else { return };
        let weight = param.val().detach();
        let mut shape = [1; 4];
        for (index, side) in weight.dims().into_iter().enumerate() {
            shape[index.min(3)] *= side;
        }
        let sides = weight.dims().to_vec();
        weights.insert(self.path.join("."), (weight.reshape(shape), sides));
    }
}

struct Changer<F> {
    path: Vec<String>,
    change: F,
}

impl<F: FnMut(&str, &mut Quantizer)> ModuleMapper for Changer<F> {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        if name != HERE {
            if is_named(container_type) {
                self.path.push(name.to_owned());
            }
            return;
        }
        // What is done to a quantizer is no part of the walk, whatever it visits.
        if let State::At(mut quantizer) = swap(State::None) {
            (self.change)(&self.path.join("."), &mut quantizer);
            swap(State::At(quantizer));
        }
    }

    fn exit_module(&mut self, _name: &str, container_type: &str) {
        if is_named(container_type) {
            self.path.pop();
        }
    }
}
