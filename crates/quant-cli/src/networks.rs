//! What the `quant` program tells of networks and their states. Texts, for the program to print.

use std::{
    error::Error,
    fmt::Write,
    path::{Path, PathBuf},
};

use burn::tensor::Device;
use quant_core::qtool::QtoolOptions;
use quant_nn::{
    Network, NetworkConfig, QuantizedModule, Renaming, StateDict, codes_file,
    keywords::{self, Explained, Registry},
    summarize,
};
use quant_train::{Recipe, WeightsFile, weights};

use crate::recipes;

/// The model that is described where none is named, and its keywords.
const USUAL: (&str, &str) = ("resnet20", "cifar10,origin,cbsa,fix,lsq");

/// A network as keywords describe it.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Description {
    /// The model, such as resnet20, pytorch-resnet18 or mobilenetv1 [default: resnet20]
    #[arg(long)]
    pub model: Option<String>,
    /// Its keywords, such as cifar10,origin,cbsa,fix,lsq (the default of resnet20)
    pub keywords: Option<String>,
    /// The same, as QTool's option
    #[arg(long)]
    pub keyword: Option<String>,
    /// Its options, in one pair of quotes, such as "--width_alpha 0.5 --wt_bit 2 --wt_enable"
    #[arg(long, allow_hyphen_values = true)]
    pub options: Option<String>,
}

impl Description {
    /// Whether nothing is described.
    fn is_empty(&self) -> bool {
        self.model.is_none() && self.keyword.is_none() && self.options.is_none()
    }

    fn model(&self) -> &str {
        self.model.as_deref().unwrap_or(USUAL.0)
    }

    fn read(&self) -> Result<Explained, Box<dyn Error>> {
        let keywords = match (&self.keywords, &self.keyword) {
            (Some(_), Some(_)) => {
                return Err("give keywords once: in their place, or with --keyword".into());
            }
            (Some(words), None) | (None, Some(words)) => words,
            (None, None) if self.model() == USUAL.0 => USUAL.1,
            (None, None) => "",
        };
        let qtool = QtoolOptions::parse(keywords, self.options.as_deref().unwrap_or_default())?;
        Ok(Registry::default().read(self.model(), &qtool)?)
    }

    fn network(&self) -> Result<Network, Box<dyn Error>> {
        Ok(self.read()?.config.init(&Device::default())?)
    }
}

/// One line a word, then the first block that changes the resolution, or the first at all, as text.
///
/// # Errors
/// Those of [`keywords::network`], and of networks that cannot be built.
pub fn explain(description: &Description) -> Result<String, Box<dyn Error>> {
    let Explained { config, lines, warnings } = description.read()?;
    let mut text = String::new();
    for line in lines {
        writeln!(text, "{line}")?;
    }
    for warning in warnings {
        writeln!(text, "warning: {warning}")?;
    }
    let network = config.init(&Device::default())?;
    let blocks = network.blocks();
    let size = |block: &str| {
        let mut nodes = network.graph().nodes.iter().filter(|node| node.block == block);
        nodes.next_back().map(|node| node.size)
    };
    let shrinks = |pair: &[&str]| size(pair[0]) != size(pair[1]);
    let shown = blocks.windows(2).find(|pair| shrinks(pair)).map(|pair| pair[1]);
    if let Some(block) = shown.or(blocks.first().copied()) {
        write!(text, "\n{block}\n{}", network.draw(block))?;
    }
    Ok(text)
}

/// How a file of weights is read.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Reading {
    /// Key that the weights are filed under, such as state_dict_ema; by default wherever they fit
    #[arg(long, value_name = "NAME")]
    pub key: Option<String>,
    /// File of renaming rules, a line each: `old new`, `old -` takes a prefix off, `!old` drops entries;
    /// lists as in conv{1,2} layer.{0,1}
    #[arg(long, value_name = "FILE")]
    pub map: Option<PathBuf>,
}

impl Reading {
    /// A file that is read so.
    pub fn file(&self, path: &Path) -> WeightsFile {
        WeightsFile { path: path.to_owned(), key: self.key.clone(), map: self.map.clone() }
    }
}

/// What a summary is of.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Summarized {
    /// What stands in the place of keywords may be something else.
    #[command(flatten)]
    pub description: Description,
    /// Of a file that does not say what network it is of: the recipe that does
    #[arg(long)]
    pub recipe: Option<String>,
    /// Of a run, a recipe or a file: the phase; by default the last, or the last that the file fits
    #[arg(long)]
    pub phase: Option<String>,
    /// Of a file: how it is read
    #[command(flatten)]
    pub reading: Reading,
}

/// What may stand in the place of keywords.
enum Subject {
    Keywords,
    Run(PathBuf),
    Recipe(String),
    File(PathBuf),
}

impl Subject {
    /// What a text means.
    fn find(text: Option<&str>) -> Result<Self, Box<dyn Error>> {
        let Some(text) = text else { return Ok(Self::Keywords) };
        let path = Path::new(text);
        if path.is_dir() {
            return Ok(Self::Run(path.to_owned()));
        }
        let is_toml = path.extension().is_some_and(|extension| extension == "toml");
        match (path.exists(), is_toml || recipes::is_known(text)) {
            (_, true) => Ok(Self::Recipe(text.to_owned())),
            (true, false) => Ok(Self::File(path.to_owned())),
            _ if path.components().count() > 1 || path.extension().is_some() => {
                Err(format!("{text}: no such file or run folder").into())
            }
            _ => Ok(Self::Keywords),
        }
    }

    /// Refuses options that say nothing about it.
    fn check(&self, of: &Summarized) -> Result<(), String> {
        let (name, described, file, phase) = match self {
            Self::Keywords => ("keywords", true, false, false),
            Self::Run(_) => ("a run, which has its own recipe and networks", false, false, true),
            Self::Recipe(_) => ("a recipe, which says what its networks are", false, false, true),
            Self::File(_) => ("a file", true, true, true),
        };
        let Summarized { description, recipe, phase: chosen, reading } = of;
        let ignored = [
            ("--model", description.model.is_some() && !described),
            ("--keyword", description.keyword.is_some() && !described),
            ("--options", description.options.is_some() && !described),
            ("--recipe", recipe.is_some() && !file),
            ("--phase", chosen.is_some() && !phase),
            ("--key", reading.key.is_some() && !file),
            ("--map", reading.map.is_some() && !file),
        ];
        let first = ignored.into_iter().find(|(_, given)| *given);
        first.map_or(Ok(()), |(option, _)| Err(format!("{option} means nothing with {name}")))
    }
}

/// Per layer: shapes, bits, parameters, multiply-accumulates; and totals. Of the network that keywords
/// describe, of a phase of a recipe, or of the network that a run or file holds.
///
/// # Errors
/// Those of [`explain`], of recipes, and of reading the file; options that say nothing about it.
pub fn summary(of: &Summarized) -> Result<String, Box<dyn Error>> {
    let subject = Subject::find(of.description.keywords.as_deref())?;
    subject.check(of)?;
    match subject {
        Subject::Keywords => Ok(table(&of.description.network()?)),
        Subject::Recipe(name) => {
            let recipe = recipe_of(&name)?;
            let candidates = recipe.candidates(of.phase.as_deref(), recipes::classes(&recipe))?;
            let (phase, config) = candidates.into_iter().next().ok_or("no phase")?;
            Ok(format!("phase {phase}\n{}", table(&config.init(&Device::default())?)))
        }
        Subject::Run(folder) => summary_of(of_run(&folder, of)?),
        Subject::File(path) => summary_of(of_file(&path, of)?),
    }
}

/// A file, and the networks that it may be of.
type Read = (WeightsFile, Vec<(String, NetworkConfig)>);

/// The last network of a run's phase.
fn of_run(folder: &Path, of: &Summarized) -> Result<Read, Box<dyn Error>> {
    let recipe = Recipe::read(&folder.join("recipe.toml"))?;
    let last = recipe.phases.last().map(|phase| phase.name.as_str());
    let phase = of.phase.as_deref().or(last).unwrap_or_default();
    let file = WeightsFile::new(folder.join(phase).join("last.safetensors"));
    Ok((file, recipe.candidates(Some(phase), 1000)?))
}

fn of_file(path: &Path, of: &Summarized) -> Result<Read, Box<dyn Error>> {
    let candidates = match &of.recipe {
        Some(name) => recipe_of(name)?.candidates(of.phase.as_deref(), 1000)?,
        None if of.description.is_empty() => Vec::new(),
        None => {
            let described = Description { keywords: None, ..of.description.clone() };
            vec![(described.model().to_owned(), described.read()?.config)]
        }
    };
    Ok((of.reading.file(path), candidates))
}

/// Writes the quantized weights of a run or a file as integers: a safetensors file, with what each
/// integer stands for.
///
/// # Errors
/// Those of reading the network and of writing the file. A network without quantized weights is an
/// error, and so are keywords and recipes, which have no trained weights.
pub fn codes(of: &Summarized, to: &Path) -> Result<String, Box<dyn Error>> {
    let named = of.description.keywords.as_deref();
    let subject = Subject::find(named)?;
    subject.check(of)?;
    let read = match subject {
        Subject::Run(folder) => of_run(&folder, of)?,
        Subject::File(path) => of_file(&path, of)?,
        Subject::Keywords | Subject::Recipe(_) => {
            let named = named.unwrap_or("no file");
            let what = "expected a run folder, a safetensors file or a PyTorch checkpoint";
            return Err(format!("{named}: {what}").into());
        }
    };
    let loaded = load(read)?;
    let weights = loaded.network.weight_codes();
    if weights.is_empty() {
        return Err("the network has no quantized weight: choose the phase with --phase".into());
    }
    quant_train::files::write(to, &codes_file(&weights)?)?;
    let elements: usize = weights.iter().map(|weight| weight.codes.len()).sum();
    Ok(format!("{} weights, {elements} integers in {}", weights.len(), to.display()))
}

fn table(network: &Network) -> String {
    summarize(network, &StateDict::of(network)).to_string()
}

/// The network in a file, which is one of the candidates unless it says so itself.
fn load((file, candidates): Read) -> Result<weights::Loaded, Box<dyn Error>> {
    let device = Device::default();
    let candidates = weights::with_classes_of(&file, candidates, &device)?;
    Ok(weights::read_network(&file, &candidates, &device)?)
}

fn summary_of(read: Read) -> Result<String, Box<dyn Error>> {
    let loaded = load(read)?;
    let of = loaded.candidate.map_or(String::new(), |name| format!("{name}: "));
    Ok(format!("{of}{}\n{}", loaded.report, table(&loaded.network)))
}

fn recipe_of(name: &str) -> Result<Recipe, Box<dyn Error>> {
    let (text, path) = recipes::find(name)?;
    Ok(Recipe::parse(&text, &path)?)
}

/// The entries of a state file: names, shapes, types, smallest and largest value, and quantizers' parameters.
///
/// # Errors
/// Those of [`WeightsFile::read`].
pub fn inspect(file: &Path, reading: &Reading) -> Result<String, Box<dyn Error>> {
    let state = reading.file(file).read()?;
    let mut text = String::new();
    for (key, value) in state.metadata() {
        writeln!(text, "{key}: {value}")?;
    }
    let (name, shape, kind) = ("name", "shape", "type");
    writeln!(text, "{name:<52} {shape:<16} {kind:<5} {:>12} {:>12}", "smallest", "largest")?;
    let mut elements = 0;
    for (name, entry) in state.entries() {
        let shape: Vec<String> = entry.shape.iter().map(usize::to_string).collect();
        let (low, high) = (entry.values.iter())
            .fold((f32::INFINITY, f32::NEG_INFINITY), |(l, h), x| (l.min(*x), h.max(*x)));
        let unusual = match entry.values.iter().filter(|x| !x.is_finite()).count() {
            0 => String::new(),
            count => format!("   {count} not finite"),
        };
        let shape = shape.join("x");
        let kind = state.stored_type(name).unwrap_or("-");
        writeln!(text, "{name:<52} {shape:<16} {kind:<5} {low:>12.5} {high:>12.5}{unusual}")?;
        elements += entry.values.len();
    }
    write!(text, "{} entries, {elements} elements", state.entries().count())?;
    Ok(text)
}

/// Reads a PyTorch checkpoint or safetensors file and writes a safetensors file.
///
/// # Errors
/// Where the name `to` is that of another format, those of reading, and of writing; then nothing is
/// left at `to`.
pub fn convert(
    from: &Path,
    to: &Path,
    reading: &Reading,
    from_torchvision: bool,
) -> Result<String, Box<dyn Error>> {
    if to.extension().is_some_and(|extension| !extension.eq_ignore_ascii_case("safetensors")) {
        return Err(format!(
            "{}: a safetensors file is written, no other format: give it a name that ends in \
             .safetensors (in Python, safetensors.torch.load_file reads it)",
            to.display()
        )
        .into());
    }
    let read = reading.file(from).read()?;
    let all = read.entries().count();
    let mut state = read.main();
    if from_torchvision {
        state = state.renamed(&Renaming::torchvision_to_keywords())?;
    }
    quant_train::files::write(to, &state.to_bytes()?)?;
    let count = state.entries().count();
    let rest = match all - count {
        0 => String::new(),
        rest => format!("; {rest} entries below other keys were left out (--key chooses)"),
    };
    Ok(format!("{count} entries in {}{rest}", to.display()))
}

/// Structures that the guide draws: title, model, keywords, options.
const DRAWN: [(&str, &str, &str, &str); 9] = [
    (
        "A plain block: `origin,cbsa,fix`",
        "resnet20",
        "cifar10,origin,cbsa,fix,fix_pooling,singleconv",
        "",
    ),
    ("Bi-real, `cbas` without `origin`", "resnet20", "cifar10,cbas", ""),
    ("Pre-activation: `origin,bacs,preBN,fix`", "resnet20", "cifar10,origin,bacs,preBN,fix", ""),
    (
        "Group-Net: `cabs,group-net` with `--base 3`",
        "resnet20",
        "cifar10,cabs,real_skip,group-net",
        "--base 3",
    ),
    (
        "Lossless downsampling: `ReShapeResolution` with `--order cba`",
        "resnet20",
        "cifar10,origin,cbsa,fix,ReShapeResolution",
        "--order cba",
    ),
    ("Point-wise and reshape: `prone`", "resnet20", "cifar10,origin,cbsa,fix,prone", ""),
    ("Fixup with biases: `fixup,bias`", "resnet20", "cifar10,origin,cbsa,fixup,bias", ""),
    ("Double channel, halve resolution: `DCHR`", "resnet20", "cifar10,origin,cbas,DCHR", ""),
    ("ReActNet's MobileNet: `bireal,react`", "mobilenetv1", "cifar10,bacs,bireal,react", ""),
];

/// The guide to networks, `docs/networks.md`: every structure drawn, and every keyword.
///
/// # Errors
/// Those of [`explain`]; none, for the structures that are drawn.
pub fn guide() -> Result<String, Box<dyn Error>> {
    let mut text = String::from(GUIDE);
    for (title, model, keyword, options) in DRAWN {
        let description = Description {
            model: Some(model.to_owned()),
            keywords: Some(keyword.to_owned()),
            keyword: None,
            options: Some(options.to_owned()),
        };
        let network = description.network()?;
        let blocks = network.blocks();
        let strided = match model {
            "mobilenetv1" => blocks.get(1),
            _ => blocks.iter().find(|block| block.starts_with("layer2.0")),
        };
        let block = strided.copied().unwrap_or_default();
        let drawing = network.draw(block);
        write!(text, "\n### {title}\n\n`{block}` of {model}:\n\n```text\n{drawing}```\n")?;
    }
    write!(text, "\n## Models\n\n{}\n", keywords::MODELS.map(|m| format!("`{m}`")).join(", "))?;
    write!(text, "\n## Keywords\n\n{WORDS}\n{}", keywords::table())?;
    Ok(text)
}

const GUIDE: &str = "# Networks

A network is a typed configuration: `quant_nn::ResNetConfig`, `MobileNetV1Config`, `MobileNetV2Config`,
`VggSmallConfig` or `NinConfig`. A recipe can write every field of it; what it leaves out has the
default of the configuration, and [recipe-fields.md](recipe-fields.md#model) says what each field
takes. This is a ResNet-20 of half the width with a skip over each convolution (bi-real):

```toml
[model]
depth = \"resnet20\"
stem = \"cifar\"
width_alpha = 0.5
order = \"cbas\"
skip = \"layer\"
fix = false
norm_before_pool = false
downsample = \"average-pool\"
names = \"keyword\"
```

Other networks than ResNets have an `architecture`: `mobilenet-v1`, `mobilenet-v2`, `vgg-small` or
`nin`. The second way to describe a network is a model name with QTool's keywords, which are
translated into a configuration. This is the same network:

```toml
[model]
name = \"resnet20\"
keywords = \"cifar10,cbas\"
options = \"--width_alpha 0.5\"
```

`quant recipe show --typed` prints a recipe with its keywords written as fields. `quant explain
--model resnet20 --keyword cifar10,origin,cbsa,fix` says what each word does and draws a block, and
`quant summary` tells what a network costs.

A network is pieces with PyTorch's names (what has a state), in the order in which the reference registers them, and a graph
that wires them. A keyword of your own is a closure on the configuration:

```rust
let registry = Registry::default().with(\"half\", \"half the width\", |network| {
    if let NetworkConfig::ResNet(config) = network {
        config.width_alpha /= 2.0;
    }
});
let explained = registry.read(\"resnet20\", &QtoolOptions::parse(\"cifar10,cbas,half\", \"\")?)?;
```

This page is written by `quant guide`; a test holds it to that.

## Structures

Each line is a value: its number, what it is computed by, its channels and size, and the values it is computed from. Names
are PyTorch's, within the block.
";

const WORDS: &str = "The order of words does not matter. Words of one kind exclude each other. Words without effect on a \
model are warnings, unknown words errors that show the nearest.
";
