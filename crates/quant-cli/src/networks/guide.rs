//! Writes the guide to networks, `docs/networks.md`.

use std::{error::Error, fmt::Write};

use quant_nn::keywords;
use quant_train::output::wrapped;

use super::description::Description;

/// The structures that the guide draws: title, model, keywords and options.
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

/// Returns the guide to networks, `docs/networks.md`, with drawings of structures and a table of
/// all keywords.
///
/// # Errors
/// If one of the networks that are drawn cannot be built, which a test rules out.
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
    let models = keywords::MODELS.map(|model| format!("`{model}`")).join(", ");
    write!(text, "\n## Models\n\n{}\n", wrapped(&models))?;
    write!(text, "\n## Keywords\n\n{WORDS}\n{}", keywords::table())?;
    Ok(text)
}

const GUIDE: &str = "# Networks

A network is described by a typed configuration: `quant_nn::ResNetConfig`, `MobileNetV1Config`,
`MobileNetV2Config`, `VggSmallConfig` or `NinConfig`. A recipe can set every field of the
configuration. Fields that it leaves out have their default values, and
[recipe-fields.md](recipe-fields.md#model) lists the values that each field accepts. This is a
ResNet-20 of half the width with a skip over each convolution (bi-real):

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

Networks other than ResNets have an `architecture`: `mobilenet-v1`, `mobilenet-v2`, `vgg-small` or
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
`quant summary` prints the parameters and operations of each layer.

A built network consists of layers and of a graph that connects them. Layers that have parameters
or running statistics have PyTorch's names, and are in the order in which QTool registers them. You
can define a keyword of your own as a closure that changes the configuration:

```rust
let registry = Registry::default().with(\"half\", \"half the width\", |network| {
    if let NetworkConfig::ResNet(config) = network {
        config.width_alpha /= 2.0;
    }
});
let explained = registry.read(\"resnet20\", &QtoolOptions::parse(\"cifar10,cbas,half\", \"\")?)?;
```

This page is the output of `quant guide`. A test compares the two.

## Structures

Each line of a drawing stands for one value in the network: its number, the operation that computes
it, its channels and size, and the numbers of the values that it is computed from. The layers have
PyTorch's names, relative to the block.
";

const WORDS: &str = "\
The order of words does not matter. A word excludes the words in the last column. A word that has
no effect on a model gives a warning, and an unknown word is an error that shows the most similar
words. `quant recipe show --typed` prints the fields that the words of a recipe set.
";
