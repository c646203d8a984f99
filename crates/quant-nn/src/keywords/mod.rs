//! QTool's keywords: one table of words, with the effect of each word on a typed configuration and
//! an explanation.
//!
//! A network is described by a model name (`resnet20`, `pytorch-resnet18`, `mobilenetv1`, ...),
//! keywords and a few options. Words are applied in the order of the table, so their order in the
//! text does not matter. To add a word, add it to [`WORDS`]; it is then parsed, tested, explained
//! and documented. A program adds words of its own as closures ([`Registry::with`]).

use quant_core::{Role, qtool::QtoolOptions};

use crate::{
    config::{NetworkConfig, Quantization, resnet::NameStyle},
    error::NetworkError,
};

mod beside;
mod lenient;
mod models;
mod table;
#[cfg(test)]
mod tests;

use beside::{IGNORED, OPTIONS, QUANTIZER_OPTIONS, QUANTIZERS};
pub use lenient::{Acting, acting, nearest};
pub use models::MODELS;
use models::model;
pub use table::{WORDS, Word, table};

/// A word that a program has registered.
struct Custom {
    word: String,
    what: String,
    apply: Box<dyn Fn(&mut NetworkConfig)>,
}

/// The known words: those of the table, and those of the program.
///
/// ```
/// use quant_core::qtool::QtoolOptions;
/// use quant_nn::{NetworkConfig, keywords::Registry};
///
/// let half = |config: &mut NetworkConfig| {
///     if let NetworkConfig::ResNet(resnet) = config {
///         resnet.width_alpha = 0.5;
///     }
/// };
/// let registry = Registry::default().with("half_width", "half of the channels", half);
/// let options = QtoolOptions::parse("cifar10,cbas,half_width", "")?;
/// let explained = registry.read("resnet20", &options)?;
/// assert!(explained.lines.iter().any(|line| line.contains("half of the channels")));
/// # Ok::<(), quant_nn::NetworkError>(())
/// ```
#[derive(Default)]
pub struct Registry {
    custom: Vec<Custom>,
}

/// The network that a description gives, with an explanation.
#[derive(Debug, Clone, PartialEq)]
pub struct Explained {
    /// The configuration of the network.
    pub config: NetworkConfig,
    /// One line for each word, which says what the word did.
    pub lines: Vec<String>,
    /// Harmless oddities: words that are given twice, and words without effect on this model.
    pub warnings: Vec<String>,
}

/// Returns the network that QTool builds from `model_name`, its keywords and its options.
///
/// # Errors
/// [`NetworkError::Keyword`] for an unknown model or word, and for words that contradict each
/// other, and the errors of the quantizers.
pub fn network(model_name: &str, qtool: &QtoolOptions) -> Result<NetworkConfig, NetworkError> {
    Ok(Registry::default().read(model_name, qtool)?.config)
}

impl Registry {
    /// Registers a word of the program, which is applied after those of the table.
    #[must_use]
    pub fn with(
        mut self,
        word: impl Into<String>,
        what: impl Into<String>,
        apply: impl Fn(&mut NetworkConfig) + 'static,
    ) -> Self {
        let (word, what, apply) = (word.into(), what.into(), Box::new(apply));
        self.custom.push(Custom { word, what, apply });
        self
    }

    /// Reads a description, and explains what each word did.
    ///
    /// # Errors
    /// The errors of [`network`].
    pub fn read(&self, model_name: &str, qtool: &QtoolOptions) -> Result<Explained, NetworkError> {
        let mut config = model(model_name)?;
        let words: Vec<&str> = qtool.keywords().collect();
        words.iter().try_for_each(|word| self.known(word))?;
        qtool.names().try_for_each(known_option)?;
        contradictions(&words)?;
        let (mut lines, mut warnings) = (Vec::new(), Vec::new());
        for entry in WORDS.iter().filter(|entry| words.contains(&entry.word)) {
            if (entry.apply)(&mut config, qtool)? {
                lines.push(format!("{}: {}", entry.word, entry.what));
            } else {
                warnings.push(format!("{}: no effect on {model_name} here", entry.word));
            }
        }
        let described = QUANTIZERS.iter().chain(&IGNORED);
        for (word, what) in described.filter(|(word, _)| words.contains(word)) {
            lines.push(format!("{word}: {what}"));
        }
        options(&mut config, qtool)?;
        for custom in self.custom.iter().filter(|custom| words.contains(&custom.word.as_str())) {
            (custom.apply)(&mut config);
            lines.push(format!("{}: {}", custom.word, custom.what));
        }
        for word in qtool.repeated() {
            warnings.push(format!("{word}: given more than once"));
        }
        if let NetworkConfig::ResNet(resnet) = &config
            && resnet.names == NameStyle::Keyword
            && !words.iter().any(|word| kind(word) == Some("order"))
        {
            let reason = "needs the order of a block: cbas, cbsa, cabs, bacs or bcas".to_owned();
            return Err(NetworkError::Keyword { word: model_name.to_owned(), reason });
        }
        Ok(Explained { config, lines, warnings })
    }

    fn known(&self, word: &str) -> Result<(), NetworkError> {
        let custom = self.custom.iter().map(|custom| custom.word.as_str());
        let mut all: Vec<&str> = known_words().collect();
        all.extend(custom);
        if all.contains(&word) {
            return Ok(());
        }
        Err(unknown(word, "keyword", &all))
    }
}

/// Returns every word that QTool acts on or accepts.
fn known_words() -> impl Iterator<Item = &'static str> {
    let others = QUANTIZERS.iter().chain(&IGNORED).map(|(word, _)| *word);
    WORDS.iter().map(|entry| entry.word).chain(others)
}

/// Returns the subject of a known word that does not change the structure of a network: quantizers,
/// training, or none.
#[doc(hidden)]
pub fn beside_the_structure(word: &str) -> Option<&'static str> {
    let mut others = QUANTIZERS.iter().chain(&IGNORED);
    others.find(|(known, _)| *known == word).map(|(_, what)| *what)
}

/// The fields of quantizers for which QTool has an option, such as `bit` for `fm_bit`, `wt_bit` and
/// `ot_bit`.
#[doc(hidden)]
pub const QUANTIZER_FIELDS: &[&str] = &QUANTIZER_OPTIONS;

fn known_option(name: &str) -> Result<(), NetworkError> {
    let field = ["fm_", "wt_", "ot_"].iter().find_map(|tag| name.strip_prefix(tag));
    if OPTIONS.contains(&name) || field.is_some_and(|field| QUANTIZER_OPTIONS.contains(&field)) {
        return Ok(());
    }
    let prefix = &name[..field.map_or(0, |field| name.len() - field.len())];
    let fields = QUANTIZER_OPTIONS.iter().map(|field| format!("{prefix}{field}"));
    let all: Vec<String> =
        OPTIONS.iter().map(|option| (*option).to_owned()).chain(fields).collect();
    Err(unknown(name, "option", &all.iter().map(String::as_str).collect::<Vec<_>>()))
}

/// Returns the error for a word that is not known, with the known word that is most similar.
fn unknown(word: &str, what: &str, known: &[&str]) -> NetworkError {
    let mut near: Vec<(usize, &str)> =
        known.iter().map(|known| (strsim::levenshtein(word, known), *known)).collect();
    near.sort_unstable();
    let near: Vec<&str> = near.into_iter().take(3).map(|(_, known)| known).collect();
    let reason = format!("no such {what}; the nearest: {}", near.join(", "));
    NetworkError::Keyword { word: word.to_owned(), reason }
}

fn kind(word: &str) -> Option<&'static str> {
    WORDS.iter().find(|entry| entry.word == word).map(|entry| entry.kind)
}

/// Checks that no two words exclude each other, and that no two methods are given for one role.
fn contradictions(words: &[&str]) -> Result<(), NetworkError> {
    let clash = |a: &str, b: &str, why: &str| {
        let reason = format!("contradicts {b:?}: {why}");
        Err(NetworkError::Keyword { word: a.to_owned(), reason })
    };
    let structural = WORDS.iter().filter(|entry| !entry.kind.is_empty());
    let given: Vec<&Word> = structural.filter(|entry| words.contains(&entry.word)).collect();
    for (index, entry) in given.iter().enumerate() {
        if let Some(other) = given[..index].iter().find(|other| other.kind == entry.kind) {
            return clash(other.word, entry.word, &format!("one {} at most", entry.kind));
        }
    }
    for family in ["lq", "xnor"] {
        let rivals = ["lq", "xnor", "pact", "dorefa", "lsq"];
        let rival = rivals.iter().find(|rival| **rival != family && words.contains(rival));
        if let Some(rival) = rival.filter(|_| words.contains(&family)) {
            return clash(family, rival, "one family of quantizers at most");
        }
    }
    Ok(())
}

/// Applies the options that are given beside the words.
fn options(net: &mut NetworkConfig, qtool: &QtoolOptions) -> Result<(), NetworkError> {
    let classes: Option<usize> = qtool.get("num_classes")?;
    let size: Option<usize> = qtool.get("input_size")?;
    let alpha: Option<f64> = qtool.get("width_alpha")?;
    let branches: Option<usize> = qtool.get("base")?;
    let blocks: Option<f64> = qtool.get("block_alpha")?;
    if blocks.is_some_and(|alpha| alpha != 1.0) {
        let reason = "only the value 1 is supported, because QTool documents no other".to_owned();
        return Err(NetworkError::Keyword { word: "block_alpha".to_owned(), reason });
    }
    let size = size.unwrap_or(net.input_size());
    match net {
        // torchvision's networks keep their 1000 classes and their width.
        NetworkConfig::ResNet(c) if c.names == NameStyle::Torchvision => c.input_size = size,
        _ => {
            net.set_data(classes.unwrap_or(net.classes()), size);
            match net {
                NetworkConfig::ResNet(c) => {
                    c.branches = branches.unwrap_or(c.branches);
                    c.width_alpha = alpha.unwrap_or(c.width_alpha);
                }
                NetworkConfig::MobilenetV1(c) => c.width_alpha = alpha.unwrap_or(c.width_alpha),
                NetworkConfig::MobilenetV2(c) => c.width_alpha = alpha.unwrap_or(c.width_alpha),
                _ => {}
            }
        }
    }
    let quantization = net.quantization_mut();
    *quantization = Quantization {
        activation: qtool.quantizer(Role::Activation)?,
        weight: qtool.quantizer(Role::Weight)?,
        output: qtool.quantizer(Role::Output)?,
        padding_after_quant: qtool.has("padding_after_quant"),
        batch_size: qtool.get("batch_size")?,
        ..quantization.clone()
    };
    Ok(())
}
