//! The recipes in the guides are recipes, and the tests that a table names are there.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

use std::{fs, path::Path};

use quant_train::Recipe;

const REST: &str = r#"
    name = "guide"
    [data]
    kind = "image-folder"
    input_size = 32
    eval = [{ resize = { size = 32 } }, { center-crop = { size = 32 } }]
    [model]
    depth = "resnet18"
    stem = "imagenet"
    [[phase]]
    name = "quantized"
    epochs = 1
    batch_size = 8
    learning_rate = 0.05
    schedule = { policy = "cos" }
    optimizer = { kind = "sgd" }
"#;

#[test]
fn every_recipe_of_the_guide_makes_a_network() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/quantizers.md");
    let guide = std::fs::read_to_string(path).unwrap();
    let blocks: Vec<&str> =
        guide.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(blocks.len() > 10, "{}", blocks.len());
    for block in blocks {
        let recipe = Recipe::parse(&format!("{REST}{block}"), Path::new("guide.toml"));
        let recipe = recipe.unwrap_or_else(|error| panic!("{error}\n{block}"));
        recipe.validate().unwrap();
        let config = recipe.network(&recipe.phases[0], 10).unwrap();
        let network = config.init(&burn::tensor::Device::flex());
        assert!(network.is_ok(), "{:?}\n{block}", network.err());
    }
}

/// The text of a page of the documentation.
fn page(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(name);
    fs::read_to_string(&path).unwrap_or_default()
}

#[test]
fn the_page_of_fields_is_what_the_program_prints() {
    let expected = quant_train::fields::guide();
    let page = page("recipe-fields.md");
    assert!(page.trim_end() == expected.trim_end(), "quant recipe fields > docs/recipe-fields.md");
}

/// The page's own example, as it stands there.
#[test]
fn a_recipe_of_ten_lines_is_enough() {
    let page = page("recipes.md");
    let text = page.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    assert!(text.lines().count() <= 10, "{text}");
    let recipe = Recipe::parse(text, Path::new("mine.toml")).unwrap();
    let shown = recipe.to_toml().unwrap();
    for default in
        ["policy = \"sgdr\"", "kind = \"sgd\"", "momentum = 0.9", "weight_decay = 0.0001"]
    {
        assert!(shown.contains(default), "{default}: {shown}");
    }
    let quantization = recipe.phases[0].quantization.as_ref().unwrap();
    assert!(quantization.first_last.is_full_precision() && recipe.data.workers == 0);
    assert!(
        recipe.network(&recipe.phases[0], 2).unwrap().init(&burn::tensor::Device::flex()).is_ok()
    );
}

/// A network is described in one way; the other's fields are refused, not passed over.
#[test]
fn a_network_described_in_two_ways_is_refused() {
    let typed = "depth = \"resnet18\"\n    stem = \"imagenet\"";
    for (model, field) in [
        (format!("{typed}\n    name = \"resnet18\""), "either depth"),
        (format!("{typed}\n    keywords = \"cbsa\""), "either depth"),
        (
            "name = \"resnet20\"\n    keywords = \"cbsa\"\n    width_alpha = 0.5".into(),
            "either depth",
        ),
        ("name = \"resnet20\"\n    keywords = \"cbsa,fixx\"".into(), "nearest: fix"),
        (
            "name = \"resnet20\"\n    keywords = \"cbsa,dorefa\"\n    \
             options = \"--wt_bit 2 --wt_enable\""
                .into(),
            "phase.quantization",
        ),
    ] {
        let recipe = Recipe::parse(&REST.replace(typed, &model), Path::new("guide.toml"));
        let text = recipe.unwrap_err().to_string();
        assert!(text.contains(field), "{text}");
    }
}

/// The text of every Rust file below a folder.
fn sources(folder: &Path, into: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push_str(&fs::read_to_string(&path).unwrap());
        }
    }
}

#[test]
fn every_test_that_the_compatibility_table_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let table = fs::read_to_string(root.join("docs/compatibility.md")).unwrap();
    let mut text = String::new();
    sources(&root.join("crates"), &mut text);
    let rows = table.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| kind"));
    let mut named = 0;
    for row in rows {
        let tests = row.rsplit('|').nth(1).unwrap();
        let tests: Vec<&str> = tests.split('`').skip(1).step_by(2).collect();
        assert!(!tests.is_empty(), "no test: {row}");
        for test in tests {
            assert!(
                text.contains(&format!("#[test]\nfn {test}()"))
                    || text.contains(&format!("#[test]\n    fn {test}()")),
                "{test} is no test: {row}"
            );
            named += 1;
        }
    }
    assert!(named > 50, "{named}");
}
