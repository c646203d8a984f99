//! Finds the options of QTool that have no effect.

use super::{
    choices::{GRAD_SCALE, adaptive, grad_type},
    options::QtoolOptions,
    quantizer::tag,
};
use crate::{
    config::{Levels, QuantizerConfig},
    method::{Method, Role},
    table::capability,
};

impl QtoolOptions {
    /// Removes the options that the reference implementation reads but that have no effect: options
    /// of a quantizer that is not enabled, and values that the quantizer's method does not know,
    /// because the reference only compares them with the values that it knows. Returns each removed
    /// option with the reason.
    pub fn drop_idle(&mut self) -> Vec<(String, String)> {
        let mut idle = Vec::new();
        for role in Role::ALL {
            let tag = tag(role);
            let name = |option: &str| format!("{tag}_{option}");
            if !self.has(&name("enable")) {
                // Group normalisation reads its number of groups from an option of the quantizers.
                let norm = |option: &str| option == "fm_quant_group" && self.keyword("group-norm");
                let given = self.names().filter(|option| option.starts_with(&name("")));
                let given = given.filter(|option| !norm(option));
                let why = format!("no effect without --{tag}_enable");
                idle.extend(given.map(|option| (option.to_owned(), why.clone())));
                continue;
            }
            // `quantizer` reports the error where no method is given.
            let Ok(method) = self.method(role, tag) else { continue };
            let mut check = |option: &str, refusal: Option<&str>| {
                if let Some(accepted) = refusal {
                    let value = self.text(&name(option));
                    let why = format!("{value:?} has no effect with {method}: {accepted}");
                    idle.push((name(option), why));
                }
            };
            let levels = self.levels(&name);
            if matches!(method, Method::Xnor(_))
                && levels.is_ok_and(|levels| levels != Levels::BINARY)
            {
                let option = if self.has(&name("level")) { "level" } else { "bit" };
                check(option, Some("signs have two levels"));
            }
            check("adaptive", adaptive(method, role).refusal(self.text(&name("adaptive"))));
            check("grad_type", grad_type(method, role).refusal(self.text(&name("grad_type"))));
            let scale = self.text(&name("grad_scale"));
            let range = QuantizerConfig::new(method, role, Levels::TERNARY).range;
            let offer = capability(method, role, range);
            let scaled = offer.is_some_and(|offer| offer.options.contains(&"gradient_scale"));
            let idle =
                (!scaled && scale != "none").then_some("this quantizer has no gradient scale");
            check("grad_scale", GRAD_SCALE.refusal(scale).or(idle));
        }
        for (option, _) in &idle {
            self.remove(option);
        }
        idle
    }
}
