//! Networks in recipes: field by field, by keywords, and from the second way to the first.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

use std::path::Path;

use quant_core::{Method, Role};
use quant_nn::{
    FirstLast, FirstLastQuantizers, NetworkConfig, ResNetConfig,
    keywords::WORDS,
    layers::norm::NormKind,
    mobilenet::{MobileNetV1Config, MobileNetV2Config},
    nin::NinConfig,
    resnet::{
        BlockKernel, Depth, DownsampleKind, Fixup, LosslessDownsample, NameStyle, Order,
        PointReshape, SkipSpan, Stem,
    },
    vgg_small::VggSmallConfig,
};
use quant_train::{
    Recipe, TrainError,
    recipe::{ModelRecipe, Structure},
};

/// A recipe in full precision and at 2 bits, of a network.
fn text(model: &str) -> String {
    format!(
        r#"
        name = "test"
        [data]
        kind = "cifar10"
        input_size = 64
        [model]
        {model}
        [[phase]]
        name = "full_precision"
        epochs = 1
        batch_size = 8
        learning_rate = 0.1
        [[phase]]
        name = "quantized"
        epochs = 1
        batch_size = 8
        learning_rate = 0.1
        [phase.quantization]
        activation = {{ method = "lsq", bits = 2 }}
        weight = {{ method = "lsq", bits = 2 }}
        "#
    )
}

fn parse(model: &str) -> Result<Recipe, TrainError> {
    Recipe::parse(&text(model), Path::new("test.toml"))
}

fn refusal(model: &str) -> String {
    parse(model).unwrap_err().to_string()
}

/// The networks of the phases, for 10 classes.
fn networks(recipe: &Recipe) -> Vec<NetworkConfig> {
    recipe.phases.iter().map(|phase| recipe.network(phase, 10).unwrap()).collect()
}

/// A recipe that is written out and read back.
fn written(recipe: &Recipe) -> Recipe {
    Recipe::parse(&recipe.to_toml().unwrap(), Path::new("written.toml")).unwrap()
}

#[test]
fn what_a_recipe_leaves_out_is_as_the_configuration_has_it() {
    for (model, config) in [
        (
            "depth = \"resnet34\"\nstem = \"imagenet\"",
            ResNetConfig::new(Depth::ResNet34, Stem::ImageNet, 10, 64).into(),
        ),
        (
            "architecture = \"resnet\"\ndepth = \"resnet20\"\nstem = \"cifar\"",
            ResNetConfig::new(Depth::ResNet20, Stem::Cifar, 10, 64).into(),
        ),
        (
            "architecture = \"mobilenet-v1\"",
            NetworkConfig::MobilenetV1(MobileNetV1Config::new(10, 64)),
        ),
        (
            "architecture = \"mobilenet-v2\"",
            NetworkConfig::MobilenetV2(MobileNetV2Config::new(10, 64)),
        ),
        ("architecture = \"vgg-small\"", NetworkConfig::VggSmall(VggSmallConfig::new(10, 64))),
        ("architecture = \"nin\"", NetworkConfig::Nin(NinConfig::new(10, 64))),
    ] {
        let recipe = parse(model).unwrap();
        assert_eq!(networks(&recipe)[0], config, "{model}");
        assert_eq!(written(&recipe), recipe, "{model}");
    }
}

#[test]
fn every_field_of_a_residual_network_can_be_written() {
    let model = r#"
        depth = "resnet20_"
        stem = { space-to-depth-max-pool = 3 }
        width_alpha = 0.5
        downsample = "repeat"
        zero_init_residual = true
        order = "bcas"
        skip = "layer"
        fix = false
        norm_before_pool = false
        pre_norm = true
        pre_norm_stem = true
        linear_stem = true
        identity_norm = true
        branches = 3
        lossless_downsample = { order = "cba", whole_block = true }
        first_kernel = "none"
        second_kernel = "one"
        extra_padding = true
        fixup = { bias = true }
        caffe_pooling = true
        groups = 2
        width_per_group = 32
        norm = { group = 8 }
        activation = "rprelu"
        names = "keyword"
    "#;
    let base = ResNetConfig::new(Depth::ResNet20Wide, Stem::SpaceToDepthMaxPool(3), 10, 64);
    let expected = ResNetConfig {
        width_alpha: 0.5,
        downsample: DownsampleKind::Repeat,
        zero_init_residual: true,
        order: Order::Bcas,
        skip: SkipSpan::Layer,
        fix: false,
        norm_before_pool: false,
        pre_norm: true,
        pre_norm_stem: true,
        linear_stem: true,
        identity_norm: true,
        branches: 3,
        lossless_downsample: Some(LosslessDownsample { order: "cba".into(), whole_block: true }),
        point_reshape: None,
        first_kernel: BlockKernel::None,
        second_kernel: BlockKernel::One,
        extra_padding: true,
        fixup: Some(Fixup { bias: true }),
        caffe_pooling: true,
        groups: 2,
        width_per_group: 32,
        norm: NormKind::Group(8),
        activation: quant_nn::layers::activation::ActivationKind::RPReLU,
        names: NameStyle::Keyword,
        ..base
    };
    let recipe = parse(model).unwrap();
    assert_eq!(networks(&recipe)[0], expected.clone().into());
    assert_eq!(written(&recipe), recipe);
    // It does not go with `pre_norm`.
    let reshape = PointReshape { keep_downsample: true, norm_before_restore: true };
    let expected = ResNetConfig { pre_norm: false, point_reshape: Some(reshape), ..expected };
    let model = model.replace(
        "pre_norm = true",
        "point_reshape = { keep_downsample = true, norm_before_restore = true }",
    );
    assert_eq!(networks(&parse(&model).unwrap())[0], expected.into());
}

#[test]
fn numbers_of_structures_out_of_range_name_their_field_and_its_bounds() {
    let residual = "depth = \"resnet50\"\nstem = \"cifar\"\n";
    let v2 = "architecture = \"mobilenet-v2\"\n";
    for (base, field, value, takes) in [
        (residual, "width_alpha", "0", "a number above 0, up to 16"),
        (residual, "width_alpha", "inf", "a number above 0, up to 16"),
        (residual, "branches", "0", "1 to 256"),
        (residual, "branches", "9223372036854775807", "1 to 256"),
        (residual, "groups", "-1", "1 to 65,536"),
        (residual, "groups", "1.5", "1 to 65,536"),
        (residual, "width_per_group", "18446744073709551616", "1 to 65,536"),
        (v2, "width_alpha", "-1.0", "a number above 0, up to 16"),
        (v2, "width_alpha", "nan", "a number above 0, up to 16"),
    ] {
        let text = refusal(&format!("{base}{field} = {value}"));
        assert!(text.starts_with(&format!("recipe: model.{field} = {value}")), "{text}");
        assert!(text.contains(takes), "{field}: {text}");
    }
    for (model, parts) in [
        (format!("{residual}norm = {{ group = 0 }}"), ["model.norm.group = 0", "1 to 65,536"]),
        (
            "depth = \"resnet18\"\nstem = { space-to-depth = 4 }".to_owned(),
            ["model.stem.space-to-depth = 4", "from 1 to 3"],
        ),
        (
            "depth = \"resnet18\"\nstem = { space-to-depth = 2 }".to_owned(),
            ["kernel of the stem = 2", "1 or 3"],
        ),
    ] {
        let text = refusal(&model);
        assert!(parts.iter().all(|part| text.contains(part)), "{text}");
    }
}

/// A network of the largest numbers that fields take is refused before anything is made.
#[test]
fn numbers_that_are_too_large_together_are_refused() {
    let largest = "depth = \"resnet152\"\nstem = \"cifar\"\nwidth_alpha = 16\nbranches = 256\n\
                   groups = 65536\nwidth_per_group = 65536";
    let config = networks(&parse(largest).unwrap()).remove(0);
    let text = config.init(&burn::tensor::Device::flex()).unwrap_err().to_string();
    assert!(text.contains("take fewer classes, a smaller width"), "{text}");
}

#[test]
fn what_a_structure_does_not_have_is_told_in_words() {
    let residual = "depth = \"resnet20\"\nstem = \"cifar\"\n";
    for (model, parts) in [
        (residual.to_owned() + "widht_alpha = 2", ["unknown field", "did you mean `width_alpha`?"]),
        (
            residual.to_owned() + "order = \"cbsaa\"",
            ["model.order = \"cbsaa\"", "did you mean \"cbsa\"?"],
        ),
        (residual.to_owned() + "fixup = true", ["model.fixup = true", "expected a table"]),
        (residual.to_owned() + "classes = 10", ["no field `classes`", "the data"]),
        (residual.to_owned() + "input_size = 32", ["no field `input_size`", "data.input_size"]),
        (residual.to_owned() + "quantization = {}", ["no field `quantization`", "phase"]),
        ("stem = \"cifar\"".to_owned(), ["missing field `depth`", "`architecture`"]),
        (
            residual.to_owned() + "lossless_downsample = {}",
            ["missing field `lossless_downsample.order`", "[model]"],
        ),
        ("architecture = \"nim\"".to_owned(), ["`vgg-small`", "did you mean `nin`?"]),
        (
            "architecture = \"nin\"\nwidth_alpha = 0.5".to_owned(),
            ["unknown field `width_alpha`", "`architecture`"],
        ),
        (
            "architecture = \"mobilenet-v2\"\norder = \"cabs\"".to_owned(),
            ["order = cabs", "cbas or bacs"],
        ),
        (
            "own = \"mine\"\nname = \"x\"".to_owned(),
            ["`own` alone", "the program makes the network"],
        ),
        ("keywords = \"cbas\"".to_owned(), ["missing field `name`", "[model]"]),
    ] {
        let text = refusal(&model);
        assert!(parts.iter().all(|part| text.contains(part)), "{model}: {text}");
        for rust in ["struct ", "usize", "enum", "Config"] {
            assert!(!text.contains(rust), "{model}: {text}");
        }
    }
}

/// Keywords with everything that they need to mean something, for a model.
fn sample(model: &str, word: &str) -> Option<(String, &'static str)> {
    let entry = WORDS.iter().find(|entry| entry.word == word)?;
    let needs = match word {
        "ldn3x3" | "f0x0" | "f1x1" | "f3x3" => "ReShapeResolution",
        "no_prone_downsample" | "bn_before_restore" | "s1x1" | "s3x3" => "prone",
        "bias" => "fixup",
        "patch_preBN_stem" => "preBN",
        "react" => "bireal",
        _ => "",
    };
    let order = match (entry.kind, model) {
        ("order", _) => "",
        (_, "vgg_small") => "bac",
        (_, "mobilenetv2") => "bacs",
        _ => "cbas",
    };
    let options = match word {
        "TResNetStem" | "TResNetStemMaxPool" => "--stem_kernel 3 --width_alpha 0.5",
        "group-net" => "--base 3",
        "ReShapeResolution" => "--order cba",
        "group-norm" => "--fm_quant_group 8",
        "cbas" => "--width_alpha 0.25 --padding_after_quant --input_size 128 --num_classes 7",
        _ => "",
    };
    // Bottlenecks and point-wise blocks do not go with every word.
    let block = if model == "resnet50" { "origin" } else { "" };
    let words: Vec<&str> = [word, needs, order, block]
        .into_iter()
        .enumerate()
        .filter(|(index, other)| !other.is_empty() && (*index == 0 || *other != word))
        .map(|(_, word)| word)
        .collect();
    Some((words.join(","), options))
}

const MODELS: [&str; 10] = [
    "resnet20",
    "resnet34_",
    "resnet50",
    "pytorch-resnet18",
    "pytorch-resnext50_32x4d",
    "pytorch-wide_resnet50_2",
    "mobilenetv1",
    "mobilenetv2",
    "vgg_small",
    "nin",
];

#[test]
fn keywords_and_the_fields_that_they_stand_for_are_the_same_network() {
    let mut compared = 0;
    for model in MODELS {
        for entry in WORDS {
            let Some((words, options)) = sample(model, entry.word) else { continue };
            let said =
                format!("name = \"{model}\"\nkeywords = \"{words}\"\noptions = \"{options}\"");
            let Ok(recipe) = parse(&said) else { continue };
            let (typed, _) = recipe.typed().unwrap();
            assert!(matches!(typed.model, ModelRecipe::Typed(_)), "{said}");
            assert_eq!(networks(&typed), networks(&recipe), "{said}");
            assert_eq!(written(&typed), typed, "{said}");
            compared += 1;
        }
    }
    // Words of other families' orders, and preBN with point-wise blocks, are errors.
    assert!(compared > MODELS.len() * WORDS.len() * 8 / 10, "{compared}");
}

#[test]
fn every_word_of_the_table_is_in_a_network_that_was_compared() {
    for entry in WORDS {
        let read = MODELS.iter().any(|model| {
            sample(model, entry.word).is_some_and(|(words, options)| {
                let said =
                    format!("name = \"{model}\"\nkeywords = \"{words}\"\noptions = \"{options}\"");
                parse(&said).is_ok_and(|recipe| recipe.typed().unwrap().1.is_empty())
            })
        });
        assert!(read, "{}: no effect on any model", entry.word);
    }
}

#[test]
fn what_keywords_say_of_quantized_layers_goes_to_the_phases_that_quantize() {
    let said = "name = \"resnet20\"\nkeywords = \"cifar10,cbas,real_skip,first-last\"\n\
                options = \"--padding_after_quant\"";
    let (typed, idle) = parse(said).unwrap().typed().unwrap();
    assert!(idle.is_empty(), "{idle:?}");
    assert_eq!(typed.phases[0].quantization, None);
    let quantization = typed.phases[1].quantization.as_ref().unwrap();
    assert!(quantization.real_downsample);
    assert_eq!(quantization.first_last, FirstLast::LikeOthers);
    assert!(quantization.padding_after_quant);
    assert_eq!(quantization.of(Role::Weight).unwrap().method, Method::Lsq);
}

#[test]
fn a_keyword_gives_the_first_and_the_last_layer_eight_bits() {
    let said = "name = \"resnet20\"\nkeywords = \"cifar10,cbas,first-last-8bit\"";
    let eight = FirstLast::Own(FirstLastQuantizers::new(8));
    let recipe = parse(said).unwrap();
    assert_eq!(networks(&recipe)[1].quantization().first_last, eight);
    let (typed, _) = recipe.typed().unwrap();
    assert_eq!(typed.phases[1].quantization.as_ref().unwrap().first_last, eight);
    assert_eq!(networks(&typed), networks(&recipe));
    assert_eq!(written(&typed), typed);
    // What the phase says goes before what the keyword says.
    let four = FirstLast::Own(FirstLastQuantizers::new(4));
    let mut other = recipe;
    other.phases[1].quantization.as_mut().unwrap().first_last = four;
    assert_eq!(networks(&other)[1].quantization().first_last, four);
    let said = said.replace("8bit", "8bit,first-last");
    assert!(refusal(&said).contains("one treatment of first and last layer at most"));
}

#[test]
fn words_that_say_nothing_of_a_structure_are_named() {
    let said = "name = \"pytorch-resnet18\"\nkeywords = \"imagenet,label-smooth,lsq,preBN\"";
    let (_, idle) = parse(said).unwrap().typed().unwrap();
    let named = ["label-smooth: ", "lsq: ", "preBN: no effect on pytorch-resnet18"];
    assert_eq!(idle.len(), named.len(), "{idle:?}");
    assert!(named.iter().zip(&idle).all(|(word, idle)| idle.starts_with(word)), "{idle:?}");
}

#[test]
fn a_value_of_keywords_that_no_field_takes_is_named_with_the_reason() {
    let said = "name = \"resnet20\"\nkeywords = \"cifar10,cbas\"\noptions = \"--width_alpha 20\"";
    let text = parse(said).unwrap().typed().unwrap_err().to_string();
    assert!(text.contains("--width_alpha 20"), "{text}");
    assert!(
        text.contains("model.width_alpha = 20.0: expected a number above 0, up to 16"),
        "{text}"
    );
}

#[test]
fn a_teachers_keywords_are_written_as_fields_too() {
    let said = text("architecture = \"nin\"")
        + "[phase.distillation]\nteacher = \"t.pth\"\n\
           model = { name = \"resnet20\", keywords = \"cifar10,cbsa,origin,first-last\" }";
    let recipe = Recipe::parse(&said, Path::new("test.toml")).unwrap();
    let teacher = |recipe: &Recipe| {
        let distillation = recipe.phases[1].distillation.clone().unwrap();
        distillation.model.unwrap()
    };
    let (typed, _) = recipe.typed().unwrap();
    assert!(matches!(teacher(&typed), ModelRecipe::Typed(_)));
    let network = |recipe: &Recipe| teacher(recipe).network(None, 10, 64).unwrap();
    assert_eq!(network(&typed), network(&recipe));
    assert_eq!(written(&typed), typed);
}

#[test]
fn a_recipe_without_keywords_stays_as_it_is() {
    for model in ["architecture = \"vgg-small\"\norder = \"abc\"", "own = \"mine\""] {
        let recipe = parse(model).unwrap();
        assert_eq!(recipe.typed().unwrap(), (recipe, Vec::new()));
    }
}

#[test]
fn a_structure_has_no_classes_input_size_or_quantizers() {
    let config = |classes, size| {
        NetworkConfig::from(ResNetConfig::new(Depth::ResNet18, Stem::ImageNet, classes, size))
    };
    assert_eq!(Structure::from(config(10, 64)), Structure::from(config(1000, 224)));
    let quantized =
        networks(&parse("depth = \"resnet18\"\nstem = \"imagenet\"").unwrap()).remove(1);
    assert_eq!(Structure::from(quantized.clone()), Structure::from(config(10, 64)));
    let again =
        Structure::from(quantized.clone()).network(quantized.quantization().clone(), 10, 64);
    assert_eq!(again, quantized);
}
