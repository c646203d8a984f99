//! Checks the networks of the recipes that come with the program, as they are described field by
//! field.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

use std::path::Path;

use quant_cli::recipes::{self, RECIPES};
use quant_nn::NetworkConfig;
use quant_train::{
    Recipe,
    recipe::{KeywordModel, ModelRecipe},
};

fn parse(name: &str, text: &str) -> Recipe {
    Recipe::parse(text, Path::new(name)).unwrap()
}

fn known(name: &str) -> Recipe {
    let (_, text) = RECIPES.iter().find(|(known, _)| *known == name).unwrap();
    parse(name, text)
}

/// Returns the networks of the phases, for 1000 classes.
fn networks(recipe: &Recipe) -> Vec<NetworkConfig> {
    recipe.phases.iter().map(|phase| recipe.network(phase, 1000).unwrap()).collect()
}

#[test]
fn every_recipe_has_the_same_networks_when_it_is_shown_typed() {
    let mut of_qtool = 0;
    for (name, text) in RECIPES {
        let recipe = parse(name, text);
        let shown = recipes::show(name, true, &[]).unwrap();
        let typed = parse(name, &shown);
        assert!(matches!(typed.model, ModelRecipe::Typed(_)), "{name}");
        assert_eq!(networks(&typed), networks(&recipe), "{name}");
        assert!(!shown.contains("keywords =") && !shown.contains("options ="), "{name}");
        of_qtool += usize::from(name.starts_with("qtool-"));
    }
    assert!(of_qtool > 30, "{of_qtool}");
}

#[test]
fn recipes_but_for_those_of_qtools_table_describe_networks_by_fields() {
    let others = RECIPES.iter().filter(|(name, _)| !name.starts_with("qtool-"));
    for (name, text) in others {
        assert!(matches!(parse(name, text).model, ModelRecipe::Typed(_)), "{name}");
    }
}

/// Recipes whose networks can also be described by keywords, with the model, keywords and options.
const DESCRIBED: [(&[&str], &str, &str, &str); 7] = [
    (
        &[
            "cifar10-resnet20-lsq-w2a2",
            "cifar100-resnet20-fp",
            "cifar100-resnet20-dorefa-w2a2",
            "cifar100-resnet20-fatnn-ternary",
            "cifar100-resnet20-lq-nets-w2a2",
            "cifar100-resnet20-lsq-w2a2",
            "cifar100-resnet20-lsq-w3a3",
            "cifar100-resnet20-lsq-w4a4",
            "cifar100-resnet20-pact-w2a2",
        ],
        "resnet20",
        "cifar100,origin,cbsa,fix,fix_pooling,singleconv",
        "--width_alpha 0.25",
    ),
    (
        &["cifar100-resnet20-xnor-bireal"],
        "resnet20",
        "cifar100,cbas,NReLU,real_skip,xnor",
        "--width_alpha 0.25",
    ),
    (
        &["fashion-resnet20-xnor-bireal"],
        "resnet20",
        "cifar10,cbas,LReLU,real_skip",
        "--width_alpha 0.25",
    ),
    (&["imagenet-resnet18-xnor-bireal"], "resnet18", "imagenet,cbas,NReLU,real_skip,xnor", ""),
    (
        &["imagenet-resnet18-xnor-bireal-8bit"],
        "resnet18",
        "imagenet,cbas,NReLU,real_skip,xnor,first-last-8bit",
        "",
    ),
    (
        &["shapes-xnor-bireal"],
        "resnet18",
        "imagenet,cbas,NReLU,real_skip,xnor",
        "--width_alpha 0.5",
    ),
    (&["imagenet-mobilenet-react"], "mobilenetv1", "imagenet,bacs,bireal,react", ""),
];

fn same_network(recipe: &Recipe, name: &str, keywords: &str, options: &str) {
    let described = KeywordModel {
        name: name.to_owned(),
        keywords: Some(keywords.to_owned()),
        options: Some(options.to_owned()),
    };
    let other = Recipe { model: ModelRecipe::Keywords(described), ..recipe.clone() };
    assert_eq!(networks(recipe), networks(&other), "{}", recipe.name);
}

#[test]
fn typed_recipes_have_the_networks_of_qtools_keywords() {
    for (recipes, name, keywords, options) in DESCRIBED {
        for recipe in recipes {
            same_network(&known(recipe), name, keywords, options);
        }
    }
}

/// Each page has two examples that begin with `[model]`, which describe the same network.
#[test]
fn the_examples_of_the_guides_are_the_same_network_in_both_ways() {
    for page in ["networks.md", "recipes.md"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(page);
        let page = std::fs::read_to_string(path).unwrap();
        let blocks = page.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap());
        let models: Vec<Recipe> = blocks
            .filter(|block| block.starts_with("[model]"))
            .map(|block| {
                let data = "name = \"x\"\ndata = { kind = \"cifar10\", input_size = 224 }\n";
                let phase = "[[phase]]\nname = \"only\"\nepochs = 1\nbatch_size = 8\n\
                             learning_rate = 0.1\n";
                parse("page.toml", &format!("{data}{block}{phase}"))
            })
            .collect();
        let [by_fields, by_keywords] = models.as_slice() else { panic!("{}", models.len()) };
        assert!(matches!(by_fields.model, ModelRecipe::Typed(_)));
        assert!(matches!(by_keywords.model, ModelRecipe::Keywords(_)));
        let device = burn::tensor::Device::flex();
        let graph = |recipe: &Recipe| {
            let network = networks(recipe).remove(0).init(&device).unwrap();
            let names: Vec<String> = network.layers().into_iter().map(|layer| layer.name).collect();
            (format!("{:?}", network.graph()), names)
        };
        assert_eq!(graph(by_fields), graph(by_keywords));
    }
}

#[test]
fn keywords_that_are_left_out_stand_above_the_recipe() {
    let shown = recipes::show("qtool-imagenet-resnet18-group-net", true, &[]).unwrap();
    let first = shown.lines().next().unwrap();
    assert_eq!(first, "# left out, because it does not change the network: keyword xnor: signs");
    let untyped = recipes::show("qtool-imagenet-resnet18-group-net", false, &[]).unwrap();
    assert!(untyped.contains("keywords = \"imagenet,cabs,fix,group-net,singleconv,xnor\""));
}
