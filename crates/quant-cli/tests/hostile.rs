//! Gives damaged bytes to everything that reads a file. A reader has to return an error or a
//! result, and must not panic. Each reader gets valid files in which bytes are changed, removed,
//! repeated or cut off, and the inputs that fuzzing has found.

use std::{fs, path::Path};

use burn::tensor::Device;
use quant_data::{
    Dataset, ImageFolder, RgbImage, Shards, dataset::shards::write_shards, random::Random,
};
use quant_golden::hostile::damaged;
use quant_nn::{
    NetworkConfig, ResNetConfig,
    resnet::{Depth, Stem},
};
use quant_train::{Recipe, weights};
use safetensors::SafeTensors;

#[expect(unreachable_pub, reason = "it is the library of the fuzz targets")]
#[path = "../fuzz/src/readers.rs"]
mod readers;

const ROUNDS: u64 = 400;

/// Gives `seed`, and `rounds` damaged versions of it, to `read`.
fn attack(seed: &[u8], rounds: u64, read: impl Fn(&[u8])) {
    read(seed);
    for round in 0..rounds {
        let mut random = Random::new(&[round]);
        read(&damaged(seed, |limit| random.below(limit)));
    }
}

#[test]
fn what_fuzzing_has_found() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    for (name, read) in readers::READERS {
        let cases: Vec<_> = fs::read_dir(corpus.join(name)).unwrap().collect();
        assert!(!cases.is_empty(), "{name} has no corpus");
        for case in cases {
            read(&fs::read(case.unwrap().path()).unwrap());
        }
    }
}

/// The targets are not compiled here, because they need a fuzzer. `.ci/check-fuzz` compiles them.
#[test]
fn every_reader_has_a_fuzz_target() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap();
    let files = fs::read_dir(folder.join("fuzz_targets")).unwrap().count();
    assert_eq!(files, readers::READERS.len());
    for (name, _) in readers::READERS {
        let target = format!("name = \"{name}\"\npath = \"fuzz_targets/{name}.rs\"\n");
        assert!(manifest.contains(&target), "fuzz/Cargo.toml has no target {name}");
        let code = fs::read_to_string(folder.join(format!("fuzz_targets/{name}.rs"))).unwrap();
        let call = format!("fuzz_target!(|bytes: &[u8]| quant_fuzz::{name}(bytes));");
        assert!(code.contains(&call), "{name}.rs does not call the reader");
    }
}

#[test]
fn recipes() {
    for (_, recipe) in quant_cli::recipes::RECIPES {
        attack(recipe.as_bytes(), ROUNDS, readers::recipe);
    }
}

#[test]
fn changes_to_recipes() {
    let (_, recipe) = quant_cli::recipes::RECIPES[0];
    attack(b"phase.quantized.quantization.weight.bits=4", ROUNDS, |bytes| {
        let _ = Recipe::parse_with(
            recipe,
            Path::new("x.toml"),
            &[String::from_utf8_lossy(bytes).into_owned()],
        );
    });
}

#[test]
fn configurations_and_policies_of_qtool() {
    let config = "dataset=cifar10\nroot=$FASTDIR/x\nmodel=resnet20\n\
                  keyword=\"cifar10,origin,cbsa,fix,lq\"\n\
                  options=\"--fm_bit 2 --fm_enable --wt_bit 2 --wt_enable --lr 0.1\"\n\
                  options=\"$options --lr_policy custom_step --lr_custom_step 3,5 -j 4\"\n";
    attack(config.as_bytes(), 4 * ROUNDS, readers::configuration);
    let rules = "on epoch: 1, 2\nby_index: 0, 3\nby_tag: fm\nlevel_num: -1\n\
                 progressive: True\nclip_val: 0.5\n";
    attack(rules.as_bytes(), 4 * ROUNDS, readers::policy);
}

#[test]
fn keywords_and_options() {
    let options =
        "cifar10,cbas,group-net --fm_bit 2 --fm_enable --width_alpha 0.1 --base 2 --order cba";
    attack(options.as_bytes(), ROUNDS, readers::keywords);
}

#[test]
fn networks() {
    let config =
        ResNetConfig { width_alpha: 0.02, ..ResNetConfig::new(Depth::ResNet18, Stem::Cifar, 3, 8) };
    let network = NetworkConfig::from(config).init(&Device::flex()).unwrap();
    let seed = weights::state_bytes(&network).unwrap();
    // Only the head of the file is damaged, because it has everything that can be misread.
    let head = seed.len().min(6000);
    for round in 0..ROUNDS {
        let mut random = Random::new(&[round]);
        let mut bytes = damaged(&seed[..head], |limit| random.below(limit));
        bytes.extend(&seed[head..]);
        readers::checkpoint(&bytes);
    }
}

#[test]
fn descriptions_of_networks() {
    let config =
        ResNetConfig { width_alpha: 0.02, ..ResNetConfig::new(Depth::ResNet18, Stem::Cifar, 3, 8) };
    let network = NetworkConfig::from(config).init(&Device::flex()).unwrap();
    let (_, metadata) =
        SafeTensors::read_metadata(&weights::state_bytes(&network).unwrap()).unwrap();
    let description = metadata.metadata().as_ref().unwrap()["config"].clone();
    attack(description.as_bytes(), 4 * ROUNDS, readers::network_file);
}

#[test]
fn checkpoints_and_runs() {
    let [checkpoint, run] = readers::Tiny::seeds();
    assert_eq!((checkpoint.len(), run.len()), (6, 5));
    for seed in checkpoint {
        attack(&seed, ROUNDS / 20, readers::checkpoint_folder);
    }
    for seed in run {
        attack(&seed, ROUNDS / 20, readers::run_folder);
    }
}

#[test]
fn images_of_every_format() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../quant-data/tests");
    let files = [
        "jpeg/prog_upto3.jpg",
        "jpeg/rst_missing.jpg",
        "jpeg/s411.jpg",
        "jpeg/cmyk_adobe1.jpg",
        "formats/palette_trns.png",
        "formats/transparent.gif",
        "formats/lossy.webp",
        "formats/lossless.webp",
        "formats/palette.bmp",
        "formats/lzw.tif",
        "formats/text.ppm",
        "formats/bits.pbm",
    ];
    for file in files {
        attack(&fs::read(tests.join(file)).unwrap(), ROUNDS, readers::image);
    }
}

#[test]
fn images_shards_and_cifar() {
    let folder = tempfile::tempdir().unwrap();
    let class = folder.path().join("images/one");
    fs::create_dir_all(&class).unwrap();
    let mut random = Random::new(&[9]);
    for name in ["a.jpg", "b.jpg"] {
        let mut image = RgbImage::new(20, 16);
        image.pixels.iter_mut().for_each(|x| *x = random.below(256) as u8);
        let jpeg = image.to_jpeg(80).unwrap();
        attack(&jpeg, ROUNDS, readers::image);
        fs::write(class.join(name), jpeg).unwrap();
    }
    let images = ImageFolder::open(&folder.path().join("images")).unwrap();
    let shards = folder.path().join("shards");
    write_shards(&images.files(), images.classes(), &shards, 1 << 20, 1).unwrap();
    let path = shards.join("shard-00000.tar");
    let seed = fs::read(&path).unwrap();
    attack(&seed, ROUNDS, |bytes| {
        fs::write(&path, bytes).unwrap();
        if let Ok(shards) = Shards::open(&shards) {
            (0..shards.len()).for_each(|index| drop(shards.image(index)));
        }
    });
    let seed: Vec<u8> = (0..3 * 3074).map(|i| (i % 100) as u8).collect();
    attack(&seed, 100, readers::cifar);
    let seed = [&[0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 3][..], &[7; 18]].concat();
    attack(&seed, ROUNDS, readers::idx);
}

/// Gives damaged versions of a reader's corpus to `read`.
#[expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]
fn attack_corpus(name: &str, rounds: u64, read: impl Fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
    for case in fs::read_dir(corpus).unwrap() {
        attack(&fs::read(case.unwrap().path()).unwrap(), rounds, &read);
    }
}

#[test]
fn pickles() {
    attack_corpus("pickle", ROUNDS, readers::pickle);
}

#[test]
fn shards_of_every_form() {
    attack_corpus("shard", ROUNDS, readers::shard);
}

#[test]
fn idx_files_of_every_form() {
    attack_corpus("idx", ROUNDS, readers::idx);
}

#[test]
fn packed_networks() {
    attack_corpus("qnet", ROUNDS, readers::qnet);
}

#[test]
fn renaming_rules() {
    attack_corpus("renaming", ROUNDS, readers::renaming);
}

#[test]
fn lists_of_images() {
    attack_corpus("image_lists", ROUNDS, readers::image_lists);
}

#[test]
fn onnx_files() {
    attack_corpus("onnx", ROUNDS, readers::onnx);
}
