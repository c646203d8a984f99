//! Whole networks against the reference implementation: state, costs, logits, loss, gradients.

use std::{collections::BTreeMap, process::ExitCode};

use burn::{
    module::{Module, ModuleVisitor, Param, ParamId},
    tensor::{Device, Gradients, Int, Tensor, TensorData, activation::log_softmax},
};
use quant_core::qtool::QtoolOptions;
use quant_golden::{Check, Folder, NUDGES, Report, normals, nudged, parameter, relative_l2};
use quant_nn::{
    Network, NetworkConfig, StateDict,
    keywords::network,
    state::{Entry, parameter_names},
    summarize,
};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};

#[derive(Deserialize)]
struct Case {
    name: String,
    model: String,
    keyword: String,
    options: String,
    batch: usize,
    input_size: usize,
    macs: u64,
    params: u64,
    targets: Vec<i64>,
    eval_logits: Vec<Vec<f32>>,
    train_logits: Vec<Vec<f32>>,
    train_loss: f32,
    #[serde(deserialize_with = "ordered")]
    state: Vec<(String, Vec<usize>)>,
    grad_norm: BTreeMap<String, f64>,
}

/// Entries of the state that ours does without.
const BOOKKEEPING: [&str; 7] = [
    "num_batches_tracked",
    "iteration",
    "level_num",
    "auxil",
    "codec_vector",
    "codec_index",
    "thrs_multiplier",
];

fn main() -> ExitCode {
    let checks: &[Check] = &[("models.json", models)];
    quant_golden::run(env!("CARGO_MANIFEST_DIR"), checks)
}

fn models(folder: &Folder) -> Option<Report> {
    folder.cases("models.json", |case: &Case| &case.name, check)
}

fn check(case: &Case) -> Result<(), String> {
    let device = Device::flex().autodiff();
    let qtool = QtoolOptions::parse(&case.keyword, &case.options).map_err(text)?;
    let config = network(&case.model, &qtool).map_err(text)?;
    let network = config.init(&device).map_err(text)?;
    let state = StateDict::of(&network);
    same_state(&state, &case.state)?;
    same_order(&network, &case.state)?;
    round_trip(&config, &state, case)?;
    let summary = summarize(&network, &state);
    if (summary.parameters, summary.macs) != (case.params, case.macs) {
        let (ours, theirs) = ((summary.parameters, summary.macs), (case.params, case.macs));
        return Err(format!("parameters and MACs {ours:?}, expected {theirs:?}"));
    }

    let quantized = *config.quantization() != Default::default();
    let run = |by| Run::new(case, network.clone(), &filled(&state, by), &device);
    let measured = run(0.0)?;
    let mut failures = measured.failures(case, quantized, &[]);
    if !failures.is_empty() {
        // Some networks are ill-conditioned: rounding in the last place moves them further than the
        // tolerance. Then ours may differ by four times what an ulp on every parameter moves it.
        let moved = NUDGES.into_iter().map(run).collect::<Result<Vec<_>, _>>()?;
        failures = measured.failures(case, quantized, &moved);
    }
    if failures.is_empty() { Ok(()) } else { Err(failures.join("; ")) }
}

/// What is compared: one evaluation, and one training step's forward and backward.
struct Run {
    eval_logits: Vec<f32>,
    train_logits: Vec<f32>,
    train_loss: f32,
    grad_norm: BTreeMap<String, f64>,
}

impl Run {
    fn new(
        case: &Case,
        network: Network,
        state: &StateDict,
        device: &Device,
    ) -> Result<Self, String> {
        let (network, report) = state.load_into(network);
        report.require(false).map_err(text)?;
        let size = case.input_size;
        let input = normals(&format!("{}/input", case.name), case.batch * 3 * size * size);
        let input = TensorData::new(input, [case.batch, 3, size, size]);
        let plain = device.clone().without_autodiff();
        let eval_logits = network.valid().forward(Tensor::from_data(input.clone(), &plain));
        let logits = network.forward(Tensor::from_data(input, device));
        let targets = Tensor::<1, Int>::from_data(case.targets.as_slice(), device);
        let picked = log_softmax(logits.clone(), 1).gather(1, targets.unsqueeze_dim(1));
        let loss = -picked.mean();
        let names = parameter_names(&network);
        let norms = GradientNorms::of(&network, &loss.clone().backward());
        Ok(Self {
            eval_logits: eval_logits.into_data().iter().collect(),
            train_logits: logits.into_data().iter().collect(),
            train_loss: loss.into_scalar(),
            grad_norm: norms.into_iter().map(|(id, norm)| (names[&id].clone(), norm)).collect(),
        })
    }

    /// What is beyond tolerance: 1e-4 relative L2 on logits and 1e-3 on every gradient norm in full
    /// precision; 2e-2, and 5e-2 on the median gradient norm, in quantized networks, which amplify
    /// rounding ties. `moved` are runs an ulp or a few away.
    fn failures(&self, case: &Case, quantized: bool, moved: &[Run]) -> Vec<String> {
        let (logits, gradients) = if quantized { (2e-2, 5e-2) } else { (1e-4, 1e-3) };
        let largest =
            |movement: &dyn Fn(&Run) -> f64| moved.iter().map(movement).fold(0.0, f64::max);
        let mut failures = Vec::new();
        let mut compare = |what: &str, error: f64, movement: f64, stated: f64| {
            let tolerance = stated.max(4.0 * movement);
            if error > tolerance || error.is_nan() {
                failures
                    .push(format!("{what}: relative error {error:.1e}, at most {tolerance:.1e}"));
            }
        };
        let movement = largest(&|run| relative_l2(&run.eval_logits, &self.eval_logits));
        let error = relative_l2(&self.eval_logits, &case.eval_logits.concat());
        compare("eval_logits", error, movement, logits);
        let movement = largest(&|run| relative_l2(&run.train_logits, &self.train_logits));
        let error = relative_l2(&self.train_logits, &case.train_logits.concat());
        compare("train_logits", error, movement, logits);
        let loss = |a: f32, b: f32| f64::from(((a - b) / b).abs());
        let movement = largest(&|run| loss(run.train_loss, self.train_loss));
        compare("train_loss", loss(self.train_loss, case.train_loss), movement, logits);

        let norm = |run: &Run, name: &str| run.grad_norm.get(name).copied().unwrap_or(f64::NAN);
        let decisive = |error: &dyn Fn(&str, f64) -> f64| {
            let errors = case.grad_norm.iter().map(|(name, expected)| error(name, *expected));
            let mut errors: Vec<f64> = errors.collect();
            errors.sort_by(f64::total_cmp);
            let index = if quantized { errors.len() / 2 } else { errors.len().saturating_sub(1) };
            errors.get(index).copied().unwrap_or(f64::NAN)
        };
        let movement =
            largest(&|run| decisive(&|name, _| relative(norm(run, name), norm(self, name))));
        let error = decisive(&|name, expected| relative(norm(self, name), expected));
        compare("gradient norms", error, movement, gradients);
        failures
    }
}

/// The entries of a JSON object in the order in which they stand.
fn ordered<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<(String, Vec<usize>)>, D::Error> {
    struct Entries;
    impl<'de> Visitor<'de> for Entries {
        type Value = Vec<(String, Vec<usize>)>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object of shapes")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut entries = Vec::new();
            while let Some(entry) = map.next_entry()? {
                entries.push(entry);
            }
            Ok(entries)
        }
    }
    from.deserialize_map(Entries)
}

/// Layers are visited in the order in which the reference registers them, which is that of its
/// state: policies address them by it.
fn same_order(network: &Network, expected: &[(String, Vec<usize>)]) -> Result<(), String> {
    let layers: Vec<String> = network.layers().into_iter().map(|layer| layer.name).collect();
    let weights = expected.iter().filter(|(_, shape)| shape.len() > 1);
    let weights = weights.filter_map(|(name, _)| name.strip_suffix(".weight"));
    let theirs: Vec<&str> = weights.collect();
    if layers == theirs { Ok(()) } else { Err(format!("layers {layers:?}, expected {theirs:?}")) }
}

/// Saved and loaded into another network of the same configuration, it computes the same bits.
fn round_trip(config: &NetworkConfig, state: &StateDict, case: &Case) -> Result<(), String> {
    let device = Device::flex();
    let filled = filled(state, 0.0);
    let read = StateDict::from_bytes(&filled.to_bytes().map_err(text)?).map_err(text)?;
    let outputs = [filled, read].map(|state| {
        let (network, report) = state.load_into(config.init(&device).map_err(text)?);
        report.require(false).map_err(text)?;
        let size = case.input_size.min(32);
        let input = TensorData::new(normals("round trip", 3 * size * size), [1, 3, size, size]);
        let logits = network.forward(Tensor::from_data(input, &device));
        Ok::<Vec<f32>, String>(logits.into_data().iter().collect())
    });
    let [before, after] = outputs;
    if before? == after? { Ok(()) } else { Err("saving and loading changes the outputs".into()) }
}

/// Zero is as far from zero as it can be: not at all.
fn relative(actual: f64, expected: f64) -> f64 {
    if actual == expected { 0.0 } else { (actual - expected).abs() / expected }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn same_state(state: &StateDict, expected: &[(String, Vec<usize>)]) -> Result<(), String> {
    let bookkeeping = |name: &str| BOOKKEEPING.iter().any(|end| name.ends_with(end));
    let ours: BTreeMap<&str, &Vec<usize>> = (state.entries())
        .filter(|(name, _)| !bookkeeping(name))
        .map(|(name, entry)| (name, &entry.shape))
        .collect();
    let theirs: BTreeMap<&str, &Vec<usize>> = (expected.iter())
        .filter(|(name, _)| !bookkeeping(name))
        .map(|(name, shape)| (name.as_str(), shape))
        .collect();
    let differs = |a: &BTreeMap<&str, &Vec<usize>>, b: &BTreeMap<&str, &Vec<usize>>| {
        let entry = a.iter().find(|(name, shape)| b.get(**name) != Some(shape));
        entry.map(|(name, shape)| format!("{name} {shape:?}"))
    };
    match differs(&ours, &theirs).or(differs(&theirs, &ours)) {
        None => Ok(()),
        Some(entry) => Err(format!("state: {entry} stands on one side only")),
    }
}

fn filled(state: &StateDict, by: f32) -> StateDict {
    StateDict::from_entries(state.entries().map(|(name, entry)| {
        // What follows the data starts as the quantizer has it.
        if name.ends_with(".basis") || name.ends_with(".iteration") {
            return (name.to_owned(), entry.clone());
        }
        let values = nudged(parameter(name, &entry.shape), by);
        (name.to_owned(), Entry { shape: entry.shape.clone(), values })
    }))
}

struct GradientNorms<'a> {
    gradients: &'a Gradients,
    norms: Vec<(ParamId, f64)>,
}

impl<'a> GradientNorms<'a> {
    fn of(network: &Network, gradients: &'a Gradients) -> Vec<(ParamId, f64)> {
        let mut visitor = Self { gradients, norms: Vec::new() };
        network.visit(&mut visitor);
        visitor.norms
    }
}

impl ModuleVisitor for GradientNorms<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(grad) = param.val().grad(self.gradients) {
            let grad = grad.into_data();
            let squares: f64 = grad.iter::<f32>().map(|g| f64::from(g).powi(2)).sum();
            self.norms.push((param.id, squares.sqrt()));
        }
    }
}
