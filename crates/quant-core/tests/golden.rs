//! Compares every quantizer with the reference implementation: values, gradients, running values.

use std::{collections::BTreeMap, process::ExitCode};

use burn::tensor::{Device, Tensor, TensorData};
use quant_core::{
    Quantizer, Role, Site, methods::MethodModule, qtool::QtoolOptions, training_call,
};
use quant_golden::{Check, Folder, Report, Values, close};
use serde::Deserialize;

/// The relative and the absolute tolerance of outputs and gradients.
const TOLERANCE: (f32, f32) = (1e-5, 1e-6);

#[derive(Deserialize)]
struct Case {
    name: String,
    tag: String,
    shape: Vec<usize>,
    keyword: String,
    options: String,
    training: bool,
    batch_size: usize,
    input_size: Option<usize>,
    feature_stride: Option<usize>,
    quant_group: usize,
    num_levels: usize,
}

fn main() -> ExitCode {
    let checks: &[Check] = &[("quantizers.json", quantizers)];
    quant_golden::run(env!("CARGO_MANIFEST_DIR"), checks)
}

fn quantizers(folder: &Folder) -> Option<Report> {
    let cases: Vec<Case> = folder.json("quantizers.json")?;
    let tensors = folder.tensors("quantizers.safetensors")?;
    let mut report = Report::default();
    for case in &cases {
        report.case(&case.name, check(case, &tensors));
    }
    Some(report)
}

fn check(case: &Case, tensors: &BTreeMap<String, Values>) -> Result<(), String> {
    let get = |part: &str| tensors.get(&format!("{}/{part}", case.name));
    let values = |part: &str| get(part).ok_or(format!("{part} is missing"));
    let device = Device::flex().autodiff();

    let mut quantizer = build(case, &device).map_err(|error| error.to_string())?;
    if quantizer.groups() != case.quant_group && quantizer.clipping_value().is_some() {
        return Err(format!("{} groups, expected {}", quantizer.groups(), case.quant_group));
    }
    for learned in quantizer.learned() {
        let initial = values(&format!("param/{}", learned.name))?;
        if learned.pytorch_shape != initial.shape {
            let (ours, theirs) = (learned.pytorch_shape, &initial.shape);
            return Err(format!("{}: shape {ours:?}, expected {theirs:?}", learned.name));
        }
    }
    quantizer =
        with_parameters(quantizer, |name| Some(get(&format!("param/{name}"))?.values.clone()));
    let stable = options(case)?.get::<usize>("stable").map_err(|error| error.to_string())?;
    if let Some(calls) = stable {
        quantizer.set_warm_up(calls, -1.0, 0);
    }

    let input = values("input")?;
    let x = tensor(&input.values, &input.shape, &device).require_grad();
    // This is computed before the call, which may change running values.
    let moved = [1.0 - 2e-7, 1.0 + 2e-7].map(|factor| {
        let values: Vec<f32> = input.values.iter().map(|x| x * factor).collect();
        host(quantizer.forward(tensor(&values, &input.shape, &Device::flex())))
    });
    // The reference solves in f32, where a singular system amplifies rounding errors.
    let condition = match &quantizer.method {
        MethodModule::LqNets(lq) => lq.condition(&x).into_iter().fold(1.0, f64::max),
        _ => 1.0,
    };
    let (y, call) = training_call(|| {
        if case.training {
            quantizer.forward(x.clone())
        } else {
            quantizer.forward(x.clone().inner())
        }
    });
    // Where an ulp or two of the input change the output, rounding may give either of two values.
    let output = host(y.clone());
    let tie = |index: usize| {
        let differs =
            |side: &Vec<f32>| (side[index] - output[index]).abs() > 1e-5 * output[index].abs();
        moved.iter().any(differs)
    };
    close("output", &output, &values("output")?.values, TOLERANCE, tie)?;

    if case.training {
        let grad_output = values("grad_output")?;
        let grad_output = tensor(&grad_output.values, &grad_output.shape, &device);
        let gradients = (y * grad_output).sum().backward();
        let grad = x.grad(&gradients).ok_or("no gradient for the input")?;
        close("grad/input", &host(grad), &values("grad/input")?.values, TOLERANCE, tie)?;
        for learned in quantizer.learned() {
            let Some(expected) = get(&format!("grad/{}", learned.name)) else {
                continue;
            };
            let grad = learned.value.val().grad(&gradients);
            let grad = grad.ok_or(format!("no gradient for {}", learned.name))?;
            let grad: Vec<f32> = grad.into_data().iter().collect();
            let what = format!("grad/{}", learned.name);
            close(&what, &grad, &expected.values, TOLERANCE, |_| false)?;
        }
    }
    for (name, value) in quantizer.running() {
        if let Some(after) = get(&format!("after/{name}")) {
            let value: Vec<f32> = value.into_data().iter().collect();
            let relative = TOLERANCE.0 + 4.0 * f32::EPSILON * condition as f32;
            let tolerance = (relative, TOLERANCE.1);
            close(&format!("after/{name}"), &value, &after.values, tolerance, |_| false)?;
        }
    }
    let warmed_up = call.has_warmed_up();
    quantizer = call.settle(quantizer);
    let done = stable.map(|calls| calls - quantizer.warm_up_left()).filter(|_| warmed_up);
    if let (Some(done), Some(after)) = (done, get("after/iteration")) {
        close("after/iteration", &[done as f32], &after.values, (0.0, 0.0), |_| false)?;
    }
    for learned in quantizer.learned() {
        if let Some(after) = get(&format!("after/{}", learned.name)) {
            let value: Vec<f32> = learned.value.val().into_data().iter().collect();
            let what = format!("after/{}", learned.name);
            close(&what, &value, &after.values, TOLERANCE, |_| false)?;
        }
    }
    Ok(())
}

fn options(case: &Case) -> Result<QtoolOptions, String> {
    QtoolOptions::parse(&case.keyword, &case.options).map_err(|error| error.to_string())
}

fn build(case: &Case, device: &Device) -> Result<Quantizer, String> {
    let (role, site) = match case.tag.as_str() {
        "wt" => (Role::Weight, Site::weight(&case.name, case.shape.clone())),
        "fm" => (Role::Activation, Site::activation(&case.name, case.shape[1])),
        _ => (Role::Output, Site::activation(&case.name, case.shape[1])),
    };
    let config = options(case)?.quantizer(role).map_err(|error| error.to_string())?;
    let mut config = config.ok_or("the quantizer is not enabled")?;
    if let (Some(size), Some(stride)) = (case.input_size, case.feature_stride) {
        config.qtool.positions = Some((size / stride).pow(2));
        config.qtool.images = Some(case.batch_size);
    }
    if config.levels.count() != case.num_levels {
        return Err(format!("{} levels, expected {}", config.levels.count(), case.num_levels));
    }
    config.init(&site, device).map_err(|error| error.to_string())
}

fn with_parameters(
    mut quantizer: Quantizer,
    value: impl Fn(&str) -> Option<Vec<f32>>,
) -> Quantizer {
    for name in ["clip_val", "gamma", "alpha0", "alpha1", "alpha2"] {
        if let Some(values) = value(name) {
            quantizer.set_learned(name, &values);
        }
    }
    if let Some(values) = value("basis") {
        quantizer.set_running("basis", &values);
    }
    quantizer
}

fn tensor(values: &[f32], shape: &[usize], device: &Device) -> Tensor<4> {
    Tensor::from_data(TensorData::new(values.to_vec(), shape.to_vec()), device)
}

fn host(tensor: Tensor<4>) -> Vec<f32> {
    tensor.into_data().iter().collect()
}
