//! The recipes that come with the program, and the recipes that users name.

use std::{
    error::Error,
    path::{Path, PathBuf},
};

macro_rules! recipes {
    ($($name:literal),* $(,)?) => {
        /// The names and texts of the recipes that come with the program.
        pub const RECIPES: &[(&str, &str)] =
            &[$(($name, include_str!(concat!("../../recipes/", $name, ".toml")))),*];
    };
}

recipes!(
    "shapes-lsq-w2a2",
    "shapes-lsq-w2a2-8bit",
    "shapes-lq-nets-w2a2",
    "shapes-xnor-bireal",
    "shapes-xnor-bireal-8bit",
    "fashion-resnet20-lsq-w2a2",
    "fashion-resnet20-xnor-bireal",
    "fine-tune-resnet18-lsq-w2a2",
    "cifar10-resnet20-lsq-w2a2",
    "cifar100-resnet20-fp",
    "cifar100-resnet20-dorefa-w2a2",
    "cifar100-resnet20-lq-nets-w2a2",
    "cifar100-resnet20-lsq-w2a2",
    "cifar100-resnet20-lsq-w3a3",
    "cifar100-resnet20-lsq-w4a4",
    "cifar100-resnet20-pact-w2a2",
    "cifar100-resnet20-fatnn-ternary",
    "cifar100-resnet20-xnor-bireal",
    "imagenet-resnet18-lsq-w2a2",
    "imagenet-resnet18-lsq-w2a2-8bit",
    "imagenet-resnet18-lsq-w3a3",
    "imagenet-resnet18-lsq-w4a4",
    "imagenet-resnet18-lq-nets-w2a2",
    "imagenet-resnet18-pact-w2a2",
    "imagenet-resnet18-apot-w2a2",
    "imagenet-resnet18-n2uq-w2a2",
    "imagenet-resnet18-pact-w3a3",
    "imagenet-resnet18-pact-w4a4",
    "imagenet-resnet18-lq-nets-w3a3",
    "imagenet-resnet18-lq-nets-w4a4",
    "imagenet-resnet18-apot-w3a3",
    "imagenet-resnet18-apot-w4a4",
    "imagenet-resnet18-n2uq-w3a3",
    "imagenet-resnet18-n2uq-w4a4",
    "imagenet-resnet18-dorefa-w2a2",
    "imagenet-resnet18-fatnn-ternary",
    "imagenet-resnet18-xnor-bireal",
    "imagenet-resnet18-xnor-bireal-8bit",
    "imagenet-mobilenet-react",
    "qtool-cifar100-resnet20-baseline-w2a2",
    "qtool-cifar100-resnet20-baseline-w2a2-shortcut",
    "qtool-cifar100-resnet20-lossless-c-w2a2",
    "qtool-cifar100-resnet20-lossless-cb-w2a2",
    "qtool-cifar100-resnet20-lossless-cb-w2a2-shortcut",
    "qtool-cifar100-resnet20-lossless-ca-w2a2",
    "qtool-cifar100-resnet20-lossless-cba-w2a2",
    "qtool-cifar100-resnet20-lossless-cba-w2a2-shortcut",
    "qtool-cifar100-resnet18",
    "qtool-cifar100-resnet18-pointwise",
    "qtool-cifar100-resnet50",
    "qtool-cifar100-resnet50-pointwise",
    "qtool-imagenet-resnet18-fp",
    "qtool-imagenet-torch-resnet18-fp",
    "qtool-imagenet-resnet18-fixup",
    "qtool-imagenet-resnet50-fixup",
    "qtool-imagenet-resnet18-tresnet-stem",
    "qtool-imagenet-resnet18-lossless-cb",
    "qtool-imagenet-resnet18-lq-nets",
    "qtool-imagenet-resnet18-lq-nets-groups",
    "qtool-imagenet-resnet18-lq-nets-normalized-ep40",
    "qtool-imagenet-resnet18-lq-nets-normalized",
    "qtool-imagenet-resnet18-lq-nets-normalized-tensor",
    "qtool-imagenet-resnet18-dorefa-w2a2",
    "qtool-imagenet-torch-resnet18-lsq-w2a2",
    "qtool-imagenet-torch-resnet18-lsq-w1a1",
    "qtool-imagenet-torch-resnet18-lsq-ternary",
    "qtool-imagenet-torch-resnet34-lsq-ternary",
    "qtool-imagenet-torch-resnet50-lsq-ternary",
    "qtool-imagenet-resnet18-lsq-w2a2-taught",
    "qtool-imagenet-torch-resnet18-fatnn-w2a2",
    "qtool-imagenet-torch-resnet18-fatnn-ternary",
    "qtool-imagenet-resnet18-xnor-triangle",
    "qtool-imagenet-resnet18-xnor-ste",
    "qtool-imagenet-resnet18-group-net",
);

/// Returns the text and the path of a recipe. `name` is the path of a file, or the name of a recipe
/// that comes with the program.
///
/// # Errors
/// If there is neither such a file nor such a recipe: the message suggests a similar name. If the
/// file cannot be read as text.
pub fn find(name: &str) -> Result<(String, PathBuf), Box<dyn Error>> {
    let path = Path::new(name);
    if path.is_file() {
        return Ok((read(path)?, path.to_owned()));
    }
    match RECIPES.iter().find(|(known, _)| *known == name) {
        Some((known, text)) => Ok(((*text).to_owned(), PathBuf::from(format!("{known}.toml")))),
        None => {
            let near =
                RECIPES.iter().map(|(known, _)| (strsim::damerau_levenshtein(name, known), known));
            let near = near.min().filter(|(distance, _)| *distance <= 1 + name.len() / 3);
            let near = near.map_or(String::new(), |(_, known)| format!("; did you mean {known}?"));
            Err(format!(
                "{name}: no such file, and no recipe of this name (see quant recipe list){near}"
            )
            .into())
        }
    }
}

/// Returns whether a recipe of this name comes with the program.
pub(crate) fn is_known(name: &str) -> bool {
    RECIPES.iter().any(|(known, _)| *known == name)
}

/// Returns the text of a file.
///
/// # Errors
/// If the file cannot be read as text; the message has its path.
pub(crate) fn read(path: &Path) -> Result<String, Box<dyn Error>> {
    Ok(std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?)
}
