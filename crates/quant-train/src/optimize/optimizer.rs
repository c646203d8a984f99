//! Optimizers with PyTorch's semantics over parameter groups.

use std::collections::BTreeMap;

use burn::{
    module::{Module, ModuleVisitor, Param, ParamId},
    optim::{GradientsParams, ModuleOptimizer},
    tensor::{Bytes, Tensor},
};
use quant_nn::{QuantizedModule, state::parameter_names};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[doc(hidden)]
pub use super::clip::clipped_gradients;
use super::{
    adam::Adam,
    foreach::{AdamRule, Foreach, SgdStep, Step},
    sgd::Sgd,
};
use crate::schema::stand_ins::BelowOneField;

/// The optimizer.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Optimizer {
    /// Stochastic gradient descent: v := momentum·v + g, w := w - lr·v (with Nesterov: lr·(g +
    /// momentum·v)), without dampening. It is the usual optimizer for residual networks.
    Sgd {
        /// The weight of the old velocity v.
        #[serde(default = "nine_tenths")]
        #[schemars(extend("minimum" = 0, "exclusiveMaximum" = 1))]
        momentum: f64,
        /// Whether the momentum is Nesterov's, which uses the gradient one step ahead. Training is
        /// often a little faster with it.
        #[serde(default)]
        nesterov: bool,
    },
    /// Adam, with the weight decay added to the gradient. It takes learning rates near 0.001, and
    /// is usual for binary networks.
    Adam {
        /// The decay rates β1 and β2 of the running means of the gradient and of its square.
        #[serde(default = "betas")]
        #[schemars(with = "[BelowOneField; 2]")]
        betas: [f64; 2],
        /// The number that is added to the divisor, so that it is not 0.
        #[serde(default = "epsilon")]
        #[schemars(extend("exclusiveMinimum" = 0))]
        epsilon: f64,
    },
    /// AdamW: Adam with decoupled weight decay.
    #[serde(rename = "adamw")]
    AdamW {
        /// The decay rates β1 and β2 of the running means of the gradient and of its square.
        #[serde(default = "betas")]
        #[schemars(with = "[BelowOneField; 2]")]
        betas: [f64; 2],
        /// The number that is added to the divisor, so that it is not 0.
        #[serde(default = "epsilon")]
        #[schemars(extend("exclusiveMinimum" = 0))]
        epsilon: f64,
    },
}

impl Default for Optimizer {
    /// SGD with a momentum of 0.9.
    fn default() -> Self {
        Self::Sgd { momentum: nine_tenths(), nesterov: false }
    }
}

fn betas() -> [f64; 2] {
    [0.9, 0.999]
}

fn epsilon() -> f64 {
    1e-8
}

fn nine_tenths() -> f64 {
    0.9
}

/// The weight decay and the learning rate of the parameters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GroupRules {
    /// The L2 weight decay. SGD and Adam add it to the gradient (PyTorch's coupled decay), and
    /// AdamW applies it decoupled. Raise it against overfitting. 0 turns it off.
    #[schemars(range(min = 0, max = 1))]
    pub weight_decay: f64,
    /// Whether small parameters decay too. Small are parameters of one dimension, those of four
    /// dimensions whose second size is 1 (norms, biases, depthwise kernels), and the parameters of
    /// quantizers of any shape. Set it to reproduce a published recipe in which all parameters
    /// decay.
    pub decay_small: bool,
    /// Exceptions by name. If several of them match a parameter, the first one counts.
    pub exceptions: Vec<GroupException>,
}

impl Default for GroupRules {
    fn default() -> Self {
        Self { weight_decay: 1e-4, decay_small: false, exceptions: Vec::new() }
    }
}

/// The rules for parameters whose PyTorch name contains a text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GroupException {
    /// The text, such as `clip_val` or `layer1.`. `quant inspect` lists the names of parameters.
    pub name_contains: String,
    /// The weight decay of these parameters. By default it is the general one.
    #[schemars(range(min = 0, max = 1))]
    pub weight_decay: Option<f64>,
    /// The constant learning rate of these parameters. By default they have the rate of the
    /// schedule.
    #[schemars(range(min = 0))]
    pub learning_rate: Option<f64>,
}

/// The rule by which one parameter is optimized.
#[derive(Debug, Clone, Copy, PartialEq)]
#[doc(hidden)]
pub struct ParameterRule {
    /// The L2 weight decay.
    pub weight_decay: f64,
    /// The constant learning rate, or `None` for the rate of the schedule.
    pub learning_rate: Option<f64>,
}

impl GroupRules {
    /// Returns the rule for a parameter.
    pub fn rule(&self, parameter: &NamedParameter) -> ParameterRule {
        let NamedParameter { name, shape, of_quantizer, .. } = parameter;
        let small = *of_quantizer || shape.len() == 1 || shape.len() == 4 && shape[1] == 1;
        let general = if small && !self.decay_small { 0.0 } else { self.weight_decay };
        let first = |pick: fn(&GroupException) -> Option<f64>| {
            let mut matching =
                self.exceptions.iter().filter(|exception| name.contains(&exception.name_contains));
            matching.find_map(pick)
        };
        ParameterRule {
            weight_decay: first(|exception| exception.weight_decay).unwrap_or(general),
            learning_rate: first(|exception| exception.learning_rate),
        }
    }
}

/// The optimizers of a whole network: one for each group of parameters that have the same rule.
#[doc(hidden)]
pub struct Optimizers {
    groups: Vec<Group>,
}

struct Group {
    rule: ParameterRule,
    ids: Vec<ParamId>,
    optimizer: ModuleOptimizer,
    /// How several parameters are updated at once. The step has any learning rate.
    foreach: (Foreach, Step),
}

impl Group {
    fn new(optimizer: Optimizer, rule: ParameterRule, ids: Vec<ParamId>) -> Self {
        let weight_decay = rule.weight_decay;
        let foreach = Foreach::default();
        let adam = |[beta1, beta2]: [f64; 2], epsilon, decoupled| {
            let rule = AdamRule { beta1, beta2, epsilon, weight_decay, decoupled };
            let adam = Adam { rule, foreach: foreach.clone() };
            (ModuleOptimizer::from(adam), Step::Adam { rate: 0.0, rule })
        };
        let (optimizer, step) = match optimizer {
            Optimizer::Sgd { momentum, nesterov } => {
                let (decay, momentum) = (weight_decay as f32, momentum as f32);
                let sgd = Sgd { weight_decay: decay, momentum, nesterov, foreach: foreach.clone() };
                (sgd.into(), Step::Sgd(SgdStep { rate: 0.0, decay, momentum, nesterov }))
            }
            Optimizer::Adam { betas, epsilon } => adam(betas, epsilon, false),
            Optimizer::AdamW { betas, epsilon } => adam(betas, epsilon, true),
        };
        Self { rule, ids, optimizer, foreach: (foreach, step) }
    }

    fn step<M: Module>(&mut self, rate: f64, network: M, gradients: GradientsParams) -> M {
        let rate = self.rule.learning_rate.unwrap_or(rate);
        let (foreach, step) = &self.foreach;
        foreach.step(&mut self.optimizer, (rate, *step), network, gradients)
    }
}

impl Optimizers {
    /// Groups the network's parameters by `rules`.
    pub fn new<M: QuantizedModule>(optimizer: Optimizer, rules: &GroupRules, network: &M) -> Self {
        // The order is fixed, so that the groups in a checkpoint are in the same order.
        let mut by_rule: BTreeMap<(u64, Option<u64>), Vec<ParamId>> = BTreeMap::new();
        for parameter in parameters(network) {
            let rule = rules.rule(&parameter);
            let key = (rule.weight_decay.to_bits(), rule.learning_rate.map(f64::to_bits));
            by_rule.entry(key).or_default().push(parameter.id);
        }
        let groups = by_rule.into_iter().map(|((decay, rate), ids)| {
            let rule = ParameterRule {
                weight_decay: f64::from_bits(decay),
                learning_rate: rate.map(f64::from_bits),
            };
            Group::new(optimizer, rule, ids)
        });
        Self { groups: groups.collect() }
    }

    /// Continues with a network in which some parameters are new. These start without momentum.
    #[must_use]
    pub fn regroup<M: QuantizedModule>(
        self,
        optimizer: Optimizer,
        rules: &GroupRules,
        network: &M,
    ) -> Self {
        let mut old = self.groups;
        let groups = Self::new(optimizer, rules, network).groups.into_iter().map(|group| match old
            .iter()
            .position(|other| other.rule == group.rule)
        {
            Some(index) => Group { ids: group.ids, ..old.swap_remove(index) },
            None => group,
        });
        Self { groups: groups.collect() }
    }

    /// Performs one step, in which every group has its own learning rate, or else `rate`.
    pub fn step<M: Module>(&mut self, rate: f64, mut network: M, mut grads: GradientsParams) -> M {
        for group in &mut self.groups {
            let mut taken = GradientsParams::new();
            let mut take = TakeGroup { ids: &group.ids, from: &mut grads, to: &mut taken };
            network.visit(&mut take);
            network = group.step(rate, network, taken);
        }
        network
    }

    /// Returns the state of every group, for a checkpoint.
    ///
    /// # Errors
    /// The reason why the state cannot be written.
    pub fn to_bytes(&self) -> Result<Vec<Vec<u8>>, String> {
        let groups = self.groups.iter().map(|group| {
            let bytes = group.optimizer.into_bytes().map_err(|error| error.to_string())?;
            Ok(bytes.to_vec())
        });
        groups.collect()
    }

    /// Restores the state of every group.
    ///
    /// # Errors
    /// A message, where the groups or their states do not belong to this network.
    pub fn load(self, states: Vec<Vec<u8>>) -> Result<Self, String> {
        if states.len() != self.groups.len() {
            return Err(format!("{} groups, expected {}", states.len(), self.groups.len()));
        }
        let groups = self.groups.into_iter().zip(states).map(|(group, state)| {
            let bytes = Bytes::from_bytes_vec(state);
            let optimizer = group.optimizer.from_bytes(bytes).map_err(|error| error.to_string())?;
            Ok(Group { optimizer, ..group })
        });
        Ok(Self { groups: groups.collect::<Result<_, String>>()? })
    }
}

/// A trainable parameter of a network.
#[derive(Debug, Clone, PartialEq)]
#[doc(hidden)]
pub struct NamedParameter {
    /// The identity of the parameter.
    pub id: ParamId,
    /// The parameter's name in PyTorch.
    pub name: String,
    /// The parameter's shape in PyTorch.
    pub shape: Vec<usize>,
    /// Whether it is a learned parameter of a quantizer.
    pub of_quantizer: bool,
}

/// Returns the network's trainable parameters. Running statistics and frozen parameters are not
/// among them.
#[doc(hidden)]
pub fn parameters<M: QuantizedModule>(network: &M) -> Vec<NamedParameter> {
    struct Shapes(Vec<(ParamId, Vec<usize>)>);
    impl ModuleVisitor for Shapes {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0.push((param.id, param.lazy_shape().to_vec()));
        }
    }
    let (names, trained) = (parameter_names(network), network.trained());
    let mut learned = BTreeMap::new();
    for (_, _, quantizer) in network.quantizers() {
        let shapes = quantizer.learned().into_iter();
        learned.extend(shapes.map(|learned| (learned.value.id.val(), learned.pytorch_shape)));
    }
    let mut shapes = Shapes(Vec::new());
    network.visit(&mut shapes);
    let named = shapes.0.into_iter().filter_map(|(id, shape)| {
        let name = names.get(&id)?.clone();
        let learned = learned.get(&id.val()).cloned();
        let of_quantizer = learned.is_some();
        let shape = learned.unwrap_or(shape);
        trained.contains(&name).then_some(NamedParameter { id, name, shape, of_quantizer })
    });
    named.collect()
}

/// Moves the gradients of a group out of those of the network.
struct TakeGroup<'a> {
    ids: &'a [ParamId],
    from: &'a mut GradientsParams,
    to: &'a mut GradientsParams,
}

impl ModuleVisitor for TakeGroup<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if self.ids.contains(&param.id)
            && let Some(grad) = self.from.remove::<D>(param.id)
        {
            self.to.register::<D>(param.id, grad);
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::{
        nn::{BatchNorm, BatchNormConfig},
        tensor::Device,
    };
    use quant_core::{Granularity, Levels, Method, QuantizerConfig, Role};
    use quant_nn::{
        Quantization, ResNetConfig,
        resnet::{Depth, Stem},
    };

    use super::*;

    fn rule(rules: &GroupRules, name: &str, shape: &[usize]) -> (f64, Option<f64>) {
        let (name, shape) = (name.to_owned(), shape.to_vec());
        let parameter = NamedParameter { id: ParamId::new(), name, shape, of_quantizer: false };
        let rule = rules.rule(&parameter);
        (rule.weight_decay, rule.learning_rate)
    }

    #[test]
    fn small_parameters_do_not_decay_unless_asked() {
        let rules = GroupRules { weight_decay: 0.1, ..GroupRules::default() };
        assert_eq!(rule(&rules, "fc.bias", &[10]), (0.0, None));
        assert_eq!(rule(&rules, "depthwise.weight", &[8, 1, 3, 3]), (0.0, None));
        assert_eq!(rule(&rules, "fc.weight", &[10, 1]), (0.1, None));
        let rules = GroupRules { decay_small: true, ..rules };
        assert_eq!(rule(&rules, "fc.bias", &[10]), (0.1, None));
    }

    /// Clipping values of activations with several groups are `[1, channels, 1, 1]`, and the
    /// intervals of N2UQ are `[n, groups]`. Both have the shapes of weights.
    #[test]
    fn parameters_of_quantizers_are_small_in_any_shape() {
        let methods = [Method::Lsq, Method::N2uq, Method::LsqPlus, Method::FATNN];
        for (method, granularity) in methods
            .into_iter()
            .flat_map(|m| [Granularity::PerTensor, Granularity::PerChannel].map(|g| (m, g)))
        {
            let levels = Levels::from_bits(2).unwrap();
            let config = QuantizerConfig::new(method, Role::Activation, levels);
            let quantization = Quantization {
                activation: Some(QuantizerConfig { granularity, ..config }),
                ..Quantization::default()
            };
            let config = ResNetConfig {
                width_alpha: 0.05,
                quantization,
                ..ResNetConfig::new(Depth::ResNet18, Stem::ImageNet, 3, 32)
            };
            let network = config.init(&Device::flex().autodiff()).unwrap();
            let parameters = parameters(&network);
            let decays = |rules: &GroupRules, wanted: &str| -> Vec<f64> {
                let of_kind = parameters.iter().filter(|p| p.name.contains(wanted));
                of_kind.map(|parameter| rules.rule(parameter).weight_decay).collect()
            };
            let rules = GroupRules { weight_decay: 0.1, ..GroupRules::default() };
            let small = decays(&rules, ".quant_activation.");
            assert!(!small.is_empty() && small.iter().all(|decay| *decay == 0.0), "{method:?}");
            assert!(decays(&rules, "conv1.weight").iter().all(|decay| *decay == 0.1));
            let rules = GroupRules { decay_small: true, ..rules };
            let all = decays(&rules, ".quant_activation.");
            assert!(all.iter().all(|decay| *decay == 0.1), "{method:?}");
        }
    }

    #[derive(Module, Debug)]
    struct Own {
        basis_weight: Param<Tensor<1>>,
        running_scale: Param<Tensor<1>>,
        iteration: Param<Tensor<1>>,
        frozen: Param<Tensor<1>>,
        norm: BatchNorm,
    }

    impl QuantizedModule for Own {}

    /// Names of parameters say nothing about how these change.
    #[test]
    fn every_parameter_that_takes_a_gradient_is_trained() {
        let device = Device::flex().autodiff();
        let ones = || Param::from_tensor(Tensor::ones([2], &device));
        let own = Own {
            basis_weight: ones(),
            running_scale: ones(),
            iteration: ones(),
            frozen: ones().set_require_grad(false),
            norm: BatchNormConfig::new(2).init(&device),
        };
        let names: Vec<String> = parameters(&own).into_iter().map(|found| found.name).collect();
        assert_eq!(
            names,
            ["basis_weight", "running_scale", "iteration", "norm.gamma", "norm.beta"]
        );
        let rules = GroupRules::default();
        let mut optimizers = Optimizers::new(Optimizer::default(), &rules, &own);
        let sum = own.basis_weight.val() + own.running_scale.val() + own.iteration.val();
        let grads = GradientsParams::from_grads((sum + own.frozen.val()).sum().backward(), &own);
        let own = optimizers.step(0.5, own, grads);
        let first = |param: &Param<Tensor<1>>| -> f32 { param.val().narrow(0, 0, 1).into_scalar() };
        assert_eq!(first(&own.basis_weight), 0.5);
        assert_eq!(first(&own.running_scale), 0.5);
        assert_eq!(first(&own.iteration), 0.5);
        assert_eq!(first(&own.frozen), 1.0);
    }

    #[test]
    fn exceptions_match_by_name() {
        let exception = GroupException {
            name_contains: "clip_val".into(),
            weight_decay: Some(0.5),
            learning_rate: Some(1e-3),
        };
        let rules = GroupRules { exceptions: vec![exception], ..GroupRules::default() };
        assert_eq!(rule(&rules, "a.clip_val", &[1]), (0.5, Some(1e-3)));
        assert_eq!(rule(&rules, "a.weight", &[2, 2]), (1e-4, None));
    }
}
