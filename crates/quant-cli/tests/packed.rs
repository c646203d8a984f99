//! Checks the way from a trained network to a packed one: `quant pack`, `quant run`, `quant eval`
//! and `quant inspect`, and the packed network of a run.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

#[macro_use]
mod common;

use std::fs;

use burn::tensor::{Device, Tensor, TensorData};
use common::Desk;
use quant_cli::networks::{self, Description, NetworkArguments};
use quant_export::Served;
use quant_infer::model::{Input, Model, Node, Op};
use quant_nn::StateDict;
use quant_train::{Recipe, deploy};
use serde_json::Value;

/// Pictures of 32 pixels, three phases apart only in what is quantized.
const RECIPE: &str = concat!(
    tiny!(
        "kind = 'rendered', rendered = { side = 48, train_per_class = 8, val_per_class = 6 }",
        "depth = 'resnet20', stem = 'cifar', width_alpha = 0.25"
    ),
    r#"
    [[phase]]
    name = "float"
    epochs = 1
    batch_size = 16
    learning_rate = 0.01
    [[phase]]
    name = "low"
    epochs = 1
    batch_size = 16
    learning_rate = 0.01
    quantization.activation = { method = "lsq", bits = 2 }
    quantization.weight = { method = "lsq", bits = 2, granularity = "per-channel" }
"#
);

/// Returns the number after `key` in the line that begins with `line`.
fn number(text: &str, line: &str, key: &str) -> f64 {
    let found = text.lines().find(|found| found.contains(line));
    let found = found.unwrap_or_else(|| panic!("{line}: {text}"));
    let after = found.split(key).nth(1).unwrap_or_else(|| panic!("{key}: {found}"));
    after.trim_start().split([' ', ',']).next().unwrap().parse().unwrap()
}

#[test]
fn a_run_ends_with_a_packed_network_that_scores_as_in_the_trainer() {
    let desk = Desk::new(RECIPE);
    desk.says(&["train", "tiny.toml"]);
    let run = "runs/tiny-001";
    let json = fs::read_to_string(desk.path("runs/tiny-001/summary.json")).unwrap();
    let summary: Value = serde_json::from_str(&json).unwrap();
    let (packed, served) = (&summary["packed"], &summary["served"]);
    assert_eq!(packed["images"], 60);
    assert_eq!(packed["top1"], served["top1"]);
    assert_eq!(packed["loss"], served["loss"]);
    let file = fs::read(desk.path("runs/tiny-001/packed.qnet")).unwrap();
    assert_eq!(packed["bytes"], file.len());
    // The float stem is small here: 1.05 times what the summary counts, plus the names.
    let counted = summary["size_bytes_packed"].as_u64().unwrap();
    assert!(file.len() as f64 <= 1.05 * counted as f64 + 4096.0, "{} {counted}", file.len());
    let report = fs::read_to_string(desk.path("runs/tiny-001/report.html")).unwrap();
    assert!(report.contains("Packed network (packed.qnet)"), "{report}");
    // The report that is written again still says it.
    desk.says(&["report", run]);
    assert_eq!(fs::read_to_string(desk.path("runs/tiny-001/report.html")).unwrap(), report);

    // Packing the run again gives the same file, and the same score on the same images.
    let said = desk.says(&["pack", run, "-o", "again.qnet", "--explain"]);
    assert_eq!(fs::read(desk.path("again.qnet")).unwrap(), file);
    assert!(said.contains("layer1.0.conv1") && said.contains("integers"), "{said}");
    // The parts that it counts are the file: each layer, all other operations, and the rest.
    let sum = said.lines().find_map(|line| line.strip_prefix("the file has ")).unwrap();
    let numbers = sum.split(|c: char| !c.is_ascii_digit()).filter(|digits| !digits.is_empty());
    let numbers: Vec<usize> = numbers.map(|digits| digits.parse().unwrap()).collect();
    let [all, layers, others, rest] = numbers[..] else { panic!("{sum}") };
    assert_eq!((all, layers + others + rest), (file.len(), file.len()), "{sum}");
    let table = said.lines().skip(1).take_while(|line| !line.contains(" MACs, "));
    let cell = |line: &str| -> usize {
        let cells: Vec<&str> = line.split_whitespace().collect();
        let bits = cells.iter().position(|cell| cell.contains('/')).unwrap();
        cells[bits + 1].parse().unwrap()
    };
    assert_eq!(table.map(cell).sum::<usize>(), layers, "{said}");
    // Operations are named too, and those that became thresholds.
    let operation = |name: &str| said.lines().find(|line| line.starts_with(name)).unwrap();
    assert!(
        operation("layer1.0.bn1").ends_with("thresholds of the sums of layer1.0.conv1"),
        "{said}"
    );
    assert!(operation("global pool").ends_with("floats"), "{said}");
    let bytes = |line: &str| -> usize {
        line.split("  ").filter_map(|cell| cell.trim().parse::<usize>().ok()).sum()
    };
    let operations = said.lines().skip_while(|line| !line.starts_with("operation "));
    let operations = operations.skip(1).take_while(|line| !line.starts_with("thresholds "));
    // The image is not among them.
    let named: usize = operations.map(bytes).sum::<usize>();
    assert!(named <= others && others < named + 32, "{named} {others}: {said}");
    assert!(said.contains("floats"), "{said}");
    let top1 = packed["top1"].as_f64().unwrap();
    let rounded = (100.0 * top1).round() / 100.0;
    let scored = desk.says(&["eval", "again.qnet", "--recipe", "tiny.toml", "--threads", "2"]);
    assert_eq!(number(&scored, "top-1", "top-1"), rounded, "{scored}");
    let both = desk.says(&["eval", run, "--served"]);
    assert_eq!(number(&both, "served arithmetic", "top-1"), rounded, "{both}");
    assert!(both.contains("usual evaluation") && both.contains("layer3.2.conv2"), "{both}");

    // The engine computes the bits of the trainer's served arithmetic, in scores and codes.
    let keywords = Some(desk.path(run).to_str().unwrap().to_owned());
    let description = Description { keywords, ..Description::default() };
    let of = NetworkArguments { description, ..NetworkArguments::default() };
    let (network, recipe, classes) = networks::trained(&of, false).unwrap();
    let lowered = deploy::lower(&network, &recipe.data, &recipe.name, &classes).unwrap();
    let images = quant_golden::normals("images", 4 * 3 * 32 * 32);
    let device = Device::flex();
    let batch = Tensor::from_data(TensorData::new(images.clone(), [4, 3, 32, 32]), &device);
    let (scores, codes) = Served::new(&lowered.model, &device).unwrap().forward_codes(batch);
    let scores: Vec<f32> = scores.into_data().iter().collect();
    let engine = quant_infer::Network::from_bytes(&file).unwrap();
    let mut session = engine.session();
    codes.iter().for_each(|codes| session.watch(codes.node));
    let bits = |scores: &[f32]| scores.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    let each = images.chunks(3 * 32 * 32).zip(scores.chunks(scores.len() / 4));
    for (index, (image, scores)) in each.enumerate() {
        let found = session.run(&quant_infer::Image::floats(image, [32, 32])).unwrap();
        assert_eq!(bits(found), bits(scores));
        for of_layer in &codes {
            let count = of_layer.codes.len() / 4;
            let expected = &of_layer.codes[index * count..][..count];
            assert_eq!(session.codes(of_layer.node), Some(expected), "{}", of_layer.layer);
        }
    }
    assert!(codes.len() >= 18, "{}", codes.len());

    let seen = desk.says(&["inspect", "again.qnet"]);
    assert!(seen.contains("layer1.0.conv1") && seen.contains("conv1"), "{seen}");
    assert!(seen.contains(&file.len().to_string()), "{seen}");
}

#[test]
fn pictures_are_classified_as_in_the_evaluation() {
    let desk = Desk::new(RECIPE);
    desk.says(&["train", "tiny.toml"]);
    let net = "runs/tiny-001/packed.qnet";
    // The run's validation pictures, in one folder for each class, as a user has them.
    let cache = desk.path("cache/quant-train");
    let made: Vec<_> = fs::read_dir(&cache).unwrap().map(|entry| entry.unwrap().path()).collect();
    let rendered = made.into_iter().find(|path| path.join("val").is_dir()).unwrap();
    let (mut right, mut all) = (0, 0);
    for class in fs::read_dir(rendered.join("val")).unwrap() {
        let class = class.unwrap();
        for picture in fs::read_dir(class.path()).unwrap() {
            let path = picture.unwrap().path();
            let said = desk.says(&["run", net, path.to_str().unwrap(), "--top", "1"]);
            let best = said.trim_end().rsplit(": ").next().unwrap().rsplit_once(' ').unwrap().0;
            right += usize::from(*best == *class.file_name());
            all += 1;
        }
    }
    let data = ["eval", net, "--data", rendered.to_str().unwrap()];
    let scored = desk.says(&data);
    let top1 = number(&scored, "top-1", "top-1");
    assert!((top1 - 100.0 * right as f64 / all as f64).abs() < 0.01, "{scored}");
    // Where a folder has another name, its labels mean another class.
    fs::rename(rendered.join("val/star"), rendered.join("val/sun")).unwrap();
    fs::rename(rendered.join("train/star"), rendered.join("train/sun")).unwrap();
    let error = desk.fails(&data);
    assert!(error.contains("class 7: \"stripes\", expected \"star\""), "{error}");
}

/// Renders the pictures of [`RECIPE`] into a folder, without the classes that `keep` refuses.
fn rendered(desk: &Desk, name: &str, keep: impl Fn(&str) -> bool) -> String {
    let shapes = quant_data::dataset::shapes::ShapesConfig {
        side: 48,
        train_per_class: 8,
        val_per_class: 6,
        seed: 1,
    };
    let to = desk.path(name);
    fs::rename(shapes.render(&desk.path(&format!("{name}-cache"))).unwrap(), &to).unwrap();
    for part in ["train", "val"] {
        for class in fs::read_dir(to.join(part)).unwrap() {
            let class = class.unwrap();
            if !keep(class.file_name().to_str().unwrap()) {
                fs::remove_dir_all(class.path()).unwrap();
            }
        }
    }
    to.to_str().unwrap().to_owned()
}

#[test]
fn data_with_other_classes_are_refused_with_what_differs() {
    let desk = Desk::new(RECIPE);
    let all = rendered(&desk, "all", |_| true);
    let data = "data={ kind = 'image-folder', input_size = 32 }";
    desk.says(&["train", "tiny.toml", "--data", &all, "--set", data]);
    let (net, file) = ("runs/tiny-001/packed.qnet", "runs/tiny-001/low/last.safetensors");
    let with = |subject: &str, data_at: &str| {
        let of_file = ["--recipe", "tiny.toml", "--set", data];
        let more = if subject == file { &of_file[..] } else { &[] };
        desk.quant(&[&["eval", subject, "--data", data_at][..], more].concat())
    };
    // Every class but one that stands in the middle, once with and once without training pictures.
    let fewer = rendered(&desk, "fewer", |class| class != "ring");
    let classes = fs::read_dir(desk.path("all/val")).unwrap().count();
    let val_alone = rendered(&desk, "val_alone", |class| class != "ring");
    fs::remove_dir_all(desk.path("val_alone/train")).unwrap();
    // The number of classes is the same, but one has another name and another place.
    let renamed = rendered(&desk, "renamed", |_| true);
    for part in ["train", "val"] {
        let at = desk.path("renamed").join(part);
        fs::rename(at.join("ring"), at.join("a_ring")).unwrap();
    }
    for subject in [net, file, "runs/tiny-001"] {
        for (data_at, says) in [
            (&fewer, format!("the network has {classes} classes, the data {}", classes - 1)),
            (&fewer, "with a folder train beside val".into()),
            (&val_alone, format!("the network has {classes} classes, the data {}", classes - 1)),
            (&renamed, "class 0: \"a_ring\", expected".into()),
        ] {
            let output = with(subject, data_at);
            let error = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(1), "{subject} {data_at}: {error}");
            assert!(error.contains(&says), "{subject} {data_at}: {error}");
            assert!(error.contains("first that differs: class "), "{error}");
        }
        assert!(with(subject, &all).status.success(), "{subject}");
    }
    // What the error advises works: all classes to train with, and fewer to evaluate.
    let advised = rendered(&desk, "advised", |_| true);
    fs::remove_dir_all(desk.path("advised/val/ring")).unwrap();
    let said = desk.says(&["eval", net, "--data", &advised]);
    assert!(said.contains(&format!("on {} images", 6 * (classes - 1))), "{said}");
    // A network that is packed from a file knows its classes too.
    desk.says(&["pack", file, "--recipe", "tiny.toml", "-o", "of_file.qnet"]);
    assert!(!with("of_file.qnet", &renamed).status.success());
}

#[test]
fn a_picture_that_cannot_be_read_does_not_keep_the_others_from_being_classified() {
    let desk = Desk::new(RECIPE);
    desk.says(&["train", "tiny.toml"]);
    let net = "runs/tiny-001/packed.qnet";
    let picture = |name: &str, grey: u8| {
        let mut image = quant_data::RgbImage::new(32, 32);
        image.pixels.fill(grey);
        fs::write(desk.path(name), image.to_jpeg(90).unwrap()).unwrap();
    };
    picture("first.jpg", 0);
    picture("last.jpg", 255);
    fs::write(desk.path("text.jpg"), "no picture").unwrap();
    let output = desk.quant(&["run", net, "first.jpg", "text.jpg", "absent.jpg", "last.jpg"]);
    assert_eq!(output.status.code(), Some(1));
    let printed = String::from_utf8(output.stdout).unwrap();
    let alone = |name| desk.says(&["run", net, name]);
    assert_eq!(printed, alone("first.jpg") + &alone("last.jpg"));
    for line in desk.says(&["run", net, "first.jpg", "last.jpg", "--json"]).lines() {
        let Value::Object(said) = serde_json::from_str(line).unwrap() else { panic!("{line}") };
        let name = said["picture"].as_str().unwrap();
        let scores = said["scores"].as_array().unwrap();
        let best = said["best"].as_array().unwrap().iter();
        let text = best.map(|best| {
            let index = best["index"].as_u64().unwrap();
            assert_eq!(scores[index as usize], best["score"]);
            format!("{} {:.3}", best["class"].as_str().unwrap(), best["score"].as_f64().unwrap())
        });
        let text = format!("{name}: {}\n", text.collect::<Vec<_>>().join(", "));
        assert_eq!(text, desk.says(&["run", net, name]));
        assert_eq!(scores.len(), 10, "one for each class");
    }
    let errors = String::from_utf8(output.stderr).unwrap();
    let [text, absent, last] = errors.lines().collect::<Vec<_>>()[..] else { panic!("{errors}") };
    assert!(text.starts_with("text.jpg: not a usable image"), "{errors}");
    assert!(absent.starts_with("absent.jpg: "), "{errors}");
    assert_eq!(last, "error: 2 of 4 pictures could not be classified");
}

/// VGG-small for images of 96 pixels, whose linear layer has 73,728 inputs.
const WIDE: &str = r#"
    name = "wide"
    data = { kind = "rendered", input_size = 96 }
    model = { architecture = "vgg-small" }
    [[phase]]
    name = "low"
    epochs = 1
    batch_size = 16
    learning_rate = 0.01
    quantization.activation = { method = "lsq", bits = 8 }
    quantization.weight = { method = "lsq", bits = 8 }
    quantization.first_last = { bits = 8 }
"#;

#[test]
fn a_layer_whose_sums_may_exceed_32_bits_is_refused_by_name() {
    let desk = Desk::new(WIDE);
    let recipe = Recipe::parse(WIDE, "tiny.toml".as_ref()).unwrap();
    let network = recipe.network(&recipe.phases[0], 10).unwrap().init(&Device::flex()).unwrap();
    let state = StateDict::of(&network);
    let inputs = 512 * 12 * 12;
    let entries = state.entries().map(|(name, entry)| {
        let mut entry = entry.clone();
        if entry.shape == [10, inputs] {
            // The highest code of every weight.
            entry.values.fill(1.0);
        }
        (name.to_owned(), entry)
    });
    let (network, report) = StateDict::from_entries(entries).load_into(network);
    report.require(false).unwrap();
    fs::write(desk.path("wide.safetensors"), StateDict::of(&network).to_bytes().unwrap()).unwrap();
    let pack = ["pack", "wide.safetensors", "--recipe", "tiny.toml", "-o", "wide.qnet"];
    let error = desk.fails(&pack);
    assert!(error.contains("in output channel 0, which exceeds 32 bits"), "{error}");
    assert!(error.contains("layer ") && error.contains("fits"), "{error}");
    assert_eq!(error.trim_end().lines().count(), 1, "{error}");
    assert!(!desk.path("wide.qnet").exists());
}

/// A network that takes images of this height and width, and whose scores are the means of its
/// channels.
fn means(desk: &Desk, name: &str, [channels, height, width]: [usize; 3]) {
    let node = |name: &str, op, inputs| Node { name: name.into(), op, inputs };
    let model = Model {
        name: "means".into(),
        producer: "test".into(),
        classes: (0..channels).map(|channel| format!("channel{channel}")).collect(),
        input: Input {
            size: [height, width],
            shorter_side: None,
            scale: vec![1.0; channels],
            shift: vec![0.0; channels],
        },
        nodes: vec![node("image", Op::Input, vec![]), node("mean", Op::GlobalPool, vec![0])],
    };
    fs::write(desk.path(name), model.to_bytes()).unwrap();
}

#[test]
fn pictures_fit_networks_of_one_channel_and_of_any_height_and_width() {
    let desk = Desk::new(RECIPE);
    let picture =
        |name: &str, [width, height]: [usize; 2], pixel: &dyn Fn(usize, usize) -> [u8; 3]| {
            let header = format!("P6 {width} {height} 255\n").into_bytes();
            let places = (0..width * height).map(|index| pixel(index % width, index / width));
            fs::write(desk.path(name), [header, places.flatten().collect()].concat()).unwrap();
        };
    picture("grey.ppm", [6, 4], &|_, _| [100; 3]);
    picture("colour.ppm", [6, 4], &|_, _| [10, 20, 30]);
    means(&desk, "grey.qnet", [1, 4, 6]);
    means(&desk, "four.qnet", [4, 4, 6]);
    means(&desk, "colour.qnet", [3, 2, 6]);

    assert_eq!(desk.says(&["run", "grey.qnet", "grey.ppm"]), "grey.ppm: channel0 100.000\n");
    let output = desk.quant(&["run", "grey.qnet", "colour.ppm", "grey.ppm"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "grey.ppm: channel0 100.000\n");
    let errors = String::from_utf8(output.stderr).unwrap();
    let [colour, last] = errors.lines().collect::<Vec<_>>()[..] else { panic!("{errors}") };
    assert!(colour.starts_with("colour.ppm: the picture has colours"), "{errors}");
    assert_eq!(last, "error: 1 of 2 pictures could not be classified");
    let error = desk.fails(&["run", "four.qnet", "grey.ppm"]);
    assert!(error.contains("grey.ppm: a picture has 3 channels"), "{error}");

    // The two rows in the middle of four: red counts rows, and green counts columns.
    picture("rows.ppm", [6, 4], &|x, y| [60 * y as u8, 10 * x as u8, 7]);
    let said = desk.says(&["run", "colour.qnet", "rows.ppm"]);
    assert_eq!(said, "rows.ppm: channel0 90.000, channel1 25.000, channel2 7.000\n");
    let error = desk.fails(&["eval", "colour.qnet", "--data", "."]);
    assert!(error.contains("images of 2 x 6 pixels with 3 channels"), "{error}");
}

#[test]
fn what_cannot_be_packed_or_run_is_said_in_one_sentence() {
    let desk = Desk::new(RECIPE);
    desk.says(&["train", "tiny.toml"]);
    let net = "runs/tiny-001/packed.qnet";
    let bytes = fs::read(desk.path(net)).unwrap();
    fs::write(desk.path("cut.qnet"), &bytes[..bytes.len() / 2]).unwrap();
    let mut newer = bytes.clone();
    newer[8] = 200;
    fs::write(desk.path("newer.qnet"), newer).unwrap();
    fs::write(desk.path("picture.png"), "no picture").unwrap();
    for (arguments, expected) in [
        (&["inspect", "cut.qnet"][..], "cut.qnet: "),
        (&["eval", "cut.qnet", "--recipe", "tiny.toml"], "cut.qnet: "),
        (&["run", "newer.qnet", "picture.png"], "use a newer version of this program"),
        (&["run", net, "picture.png"], "picture.png: "),
        (&["run", net, "absent.png"], "absent.png: "),
        (&["eval", net], "--data <folder> is needed"),
        (&["eval", net, "--served", "--recipe", "tiny.toml"], "--served has no effect with"),
        (&["pack", "tiny.toml", "-o", "x.qnet"], "expected a run folder"),
        (&["pack", "runs/tiny-001/low/last.safetensors", "-o", "x.qnet"], "--recipe is needed"),
        (&["inspect", net, "--key", "x"], "--key has no effect with a packed network"),
    ] {
        let error = desk.fails(arguments);
        assert!(error.contains(expected), "{arguments:?}: {error}");
        assert_eq!(error.trim_end().lines().count(), 1, "{arguments:?}: {error}");
    }
    assert!(!desk.path("x.qnet").exists());
}
