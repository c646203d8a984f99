//! Every golden network that is lowered is raised again, with the same codes and scores.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

#[expect(dead_code, reason = "other tests use the rest")]
mod common;

use std::process::ExitCode;

use burn::tensor::Device;
use common::{lowered, randomized};
use quant_core::qtool::QtoolOptions;
use quant_export::{RaiseOptions, raise};
use quant_golden::{Check, Folder, Report};
use quant_nn::keywords::network;
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    name: String,
    model: String,
    keyword: String,
    options: String,
}

/// Networks that do not come back: those whose norms scale before they normalise.
const REFUSED: [&str; 1] = ["norm/reverse-bn"];

fn main() -> ExitCode {
    let checks: &[Check] = &[("models.json", models)];
    quant_golden::run(concat!(env!("CARGO_MANIFEST_DIR"), "/../quant-nn"), checks)
}

fn models(folder: &Folder) -> Option<Report> {
    let cases: Vec<Case> = folder.json("models.json")?;
    let mut report = Report::default();
    for case in &cases {
        let result = match (check(case), REFUSED.contains(&&*case.name)) {
            (Err(reason), true) if reason.starts_with("the structure is none of") => Ok(()),
            (Ok(()), true) => Err("it is no longer refused".to_owned()),
            (result, _) => result,
        };
        report.case(&case.name, result);
    }
    Some(report)
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn check(case: &Case) -> Result<(), String> {
    let device = Device::flex();
    let qtool = QtoolOptions::parse(&case.keyword, &case.options).map_err(text)?;
    let network = network(&case.model, &qtool).map_err(text)?.init(&device).map_err(text)?;
    let model = lowered(&randomized(network, &case.name), &case.name).model;
    let raised = raise(&model, &RaiseOptions::default()).map_err(text)?;
    if raised.verified.differing > 0 || raised.verified.apart > 0.0 {
        return Err(format!("{} {:?}", raised.verified, raised.notes));
    }
    Ok(())
}
