//! The optimizer, the parameter groups and the schedule from the options of QTool.

use quant_core::{QuantizerError, qtool::QtoolOptions};

use crate::optimize::{
    optimizer::{GroupException, GroupRules, Optimizer},
    schedule::Schedule,
};

/// Returns the initial learning rate and the schedule.
///
/// # Errors
/// [`QuantizerError::Option`] for an unknown policy or a value that is not a number.
pub fn schedule(qtool: &QtoolOptions) -> Result<(f64, Schedule), QuantizerError> {
    let number = |name, default| Ok::<f64, QuantizerError>(qtool.get(name)?.unwrap_or(default));
    let factor = number("lr_decay", 0.98)?;
    let eta_min = number("eta_min", 0.0)?;
    let list = qtool.get::<String>("lr_custom_step")?.unwrap_or("20,30,40".into());
    let steps = list.split(',').map(|step| {
        step.trim().parse().map_err(|_| QuantizerError::Option {
            option: "lr_custom_step".into(),
            value: list.clone(),
            accepted: "epochs separated by commas",
        })
    });
    let steps: Vec<usize> = steps.collect::<Result<_, _>>()?;
    let policy = qtool.get::<String>("lr_policy")?.unwrap_or("decay".into());
    let schedule = match policy.as_str() {
        "decay" => Schedule::Decay { factor },
        "fix" => Schedule::Fix,
        "fix_step" => Schedule::FixStep { every: qtool.get("lr_fix_step")?.unwrap_or(30), factor },
        "custom_step" => Schedule::CustomStep { steps, factor },
        "poly" => Schedule::Poly { steps, power: factor, eta_min },
        "sgdr" => Schedule::Sgdr { steps, eta_min, restarts: false },
        "sgdr_step" => Schedule::SgdrStep { steps, factor, eta_min, restarts: false },
        "cos" => Schedule::Cos { steps, eta_min, restarts: false },
        _ => {
            return Err(QuantizerError::Option {
                option: "lr_policy".into(),
                value: policy,
                accepted: "decay, fix, fix_step, custom_step, poly, sgdr, sgdr_step or cos",
            });
        }
    };
    Ok((number("lr", 0.01)?, schedule))
}

/// Returns the optimizer.
///
/// # Errors
/// [`QuantizerError::Option`] for an optimizer other than SGD and ADAM.
pub fn optimizer(qtool: &QtoolOptions) -> Result<Optimizer, QuantizerError> {
    let kind = qtool.get::<String>("optimizer")?.unwrap_or("SGD".into());
    match kind.as_str() {
        "SGD" => Ok(Optimizer::Sgd {
            momentum: qtool.get("momentum")?.unwrap_or(0.9),
            nesterov: qtool.has("nesterov"),
        }),
        "ADAM" => Ok(Optimizer::Adam { betas: [0.9, 0.999], epsilon: 1e-8 }),
        _ => Err(QuantizerError::Option {
            option: "optimizer".into(),
            value: kind,
            accepted: "SGD or ADAM",
        }),
    }
}

/// Returns the weight decay and its exceptions.
///
/// # Errors
/// [`QuantizerError::Option`] for a value that is not a number.
pub fn group_rules(qtool: &QtoolOptions) -> Result<GroupRules, QuantizerError> {
    let weight_decay = match qtool.get("wd")? {
        Some(decay) => decay,
        None => qtool.get("weight_decay")?.unwrap_or(1e-4),
    };
    let names = |option| {
        let list = qtool.get::<String>(option)?.unwrap_or_default();
        let names = list.split(',').map(str::trim).filter(|name| !name.is_empty());
        Ok::<_, QuantizerError>(names.map(str::to_owned).collect::<Vec<_>>())
    };
    let decay: f64 = qtool.get("custom_decay")?.unwrap_or(0.02);
    let rate: f64 = qtool.get("custom_lr")?.unwrap_or(1e-5);
    let decays = names("custom_decay_list")?.into_iter().map(|name_contains| GroupException {
        name_contains,
        weight_decay: Some(decay),
        learning_rate: None,
    });
    let rates = names("custom_lr_list")?.into_iter().map(|name_contains| GroupException {
        name_contains,
        weight_decay: None,
        learning_rate: Some(rate),
    });
    Ok(GroupRules {
        weight_decay,
        decay_small: qtool.has("decay_small"),
        exceptions: decays.chain(rates).collect(),
    })
}
