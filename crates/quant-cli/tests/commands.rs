//! Checks what the commands of the `quant` program print. Nothing is downloaded.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

#[macro_use]
mod common;

use std::{fs, io, process::Stdio};

use common::Desk;

const RECIPE: &str = concat!(
    tiny!(
        "kind = 'fake', fake = { train = 16, val = 8, classes = 10 }",
        "depth = 'resnet18', stem = 'imagenet', width_alpha = 0.04"
    ),
    sgd_phase!("only", 1, 0.005, "")
);

/// Returns a pipe whose reader has ended, as in `quant ... | head -1`.
fn closed() -> Stdio {
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    writer.into()
}

#[test]
fn a_reader_that_has_gone_ends_every_command_quietly() {
    let desk = Desk::new(RECIPE);
    for arguments in [
        &["recipe", "list"][..],
        &["recipe", "show", "tiny.toml"],
        &["recipe", "check", "tiny.toml"],
        &["explain", "cifar10,cbas"],
        &["summary", "cifar10,cbas"],
        &["guide"],
        &["completion", "bash"],
        &["--help"],
        &["train", "--help"],
        &["train", "tiny.toml"],
        &["eval", "runs/tiny-001"],
        &["report", "runs/tiny-001"],
    ] {
        let output = desk.command(arguments).stdout(closed()).output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{arguments:?}: {error}");
        assert!(!error.contains("panicked") && !error.contains("error"), "{arguments:?}: {error}");
    }
}

#[test]
fn a_run_whose_messages_nobody_reads_goes_on_to_its_end() {
    let desk = Desk::new(RECIPE);
    let status = |arguments: &[&str]| {
        desk.command(arguments).stdout(closed()).stderr(closed()).status().unwrap().code()
    };
    assert_eq!(status(&["train", "tiny.toml"]), Some(0));
    assert!(desk.path("runs/tiny-001/summary.json").is_file());
    // A message that cannot be printed does not change the exit code.
    assert_eq!(status(&["train", "absent.toml"]), Some(1));
    assert_eq!(status(&["train"]), Some(2));
}

/// A full device is an error, unlike a reader that has ended.
#[cfg(target_os = "linux")]
#[test]
fn a_result_that_cannot_be_written_is_an_error() {
    let desk = Desk::new(RECIPE);
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = desk.command(&["recipe", "list"]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().starts_with("error: output: "));
}

/// Returns the example that follows a phrase in the help of a command, without its quotes.
fn example(help: &str, after: &str) -> String {
    let (_, rest) = help.split_once(after).unwrap_or_else(|| panic!("{after}: {help}"));
    match rest.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next().unwrap().to_owned(),
        None => rest.split_whitespace().next().unwrap().to_owned(),
    }
}

#[test]
fn the_examples_of_the_help_work_together() {
    let desk = Desk::new(RECIPE);
    for command in ["explain", "summary"] {
        let help = desk.says(&[command, "--help"]);
        let words = example(&help, "QTool's keywords, such as ");
        let options = example(&help, "in one pair of quotes, such as ");
        let options = options.as_str();
        assert!(options.starts_with("--width_alpha 0.5"), "{options}");
        let expected = desk.says(&[command, &words, "--options", options]);
        let joined = format!("--options={options}");
        let equals = options.replace("_alpha 0.5", "_alpha=0.5").replace("_bit 2", "_bit=2");
        for arguments in [
            vec![&words, joined.as_str()],
            vec!["--options", options, &words],
            vec!["--keyword", &words, "--options", options],
            vec!["--model", "resnet20", &words, "--options", &equals],
            // The help shows the default keywords of the model.
            vec!["--options", options],
        ] {
            let said = desk.says(&[&[command], &arguments[..]].concat());
            assert_eq!(said, expected, "{command} {arguments:?}");
        }
    }
    let two = ["summary", "cifar10,cbas", "--keyword", "cifar10,cbas"];
    assert!(desk.fails(&two).contains("give keywords once"));
}

#[test]
fn a_summary_is_of_keywords_recipes_runs_and_files() {
    let desk = Desk::new(RECIPE);
    // The layer conv1 has 3x3 kernels from 3 to 64 channels.
    let usual = desk.says(&["summary"]);
    assert!(
        usual.lines().any(|row| row.starts_with("conv1 ") && row.contains(" 1728 ")),
        "{usual}"
    );
    let of_recipe = desk.says(&["summary", "tiny.toml"]);
    assert!(of_recipe.starts_with("phase only\n") && of_recipe.contains("layer4.1"), "{of_recipe}");
    let built_in = desk.says(&["summary", "shapes-lsq-w2a2", "--phase", "full_precision"]);
    assert!(built_in.starts_with("phase full_precision\n"), "{built_in}");
    assert!(desk.says(&["summary", "shapes-lsq-w2a2"]).contains("2/2"));
    let eight = desk.says(&["summary", "shapes-lsq-w2a2-8bit"]);
    let of_layer = |name: &str| eight.lines().find(|row| row.starts_with(name)).unwrap();
    assert!(of_layer("conv1 ").contains(" 8/8 ") && of_layer("fc ").contains(" 8/8 "), "{eight}");
    let absent = ["summary", "shapes-lsq-w2a2", "--phase", "absent"];
    assert!(desk.fails(&absent).contains("its phases are full_precision, quantized"));

    desk.says(&["train", "tiny.toml"]);
    let of_run = desk.says(&["summary", "runs/tiny-001"]);
    let table = |text: &str| text.split_once('\n').unwrap().1.to_owned();
    assert_eq!(table(&of_run), table(&of_recipe));
    assert_eq!(desk.says(&["summary", "runs/tiny-001/only/last.safetensors"]), of_run);
    assert!(desk.fails(&["summary", "absent.toml"]).contains("no such file"));
}

/// An option that would have no effect is refused.
#[test]
fn options_that_mean_nothing_are_refused_and_not_shown() {
    let desk = Desk::new(RECIPE);
    desk.says(&["train", "tiny.toml"]);
    for (arguments, option) in [
        (&["cifar10,cbas", "--phase", "x"][..], "--phase"),
        (&["cifar10,cbas", "--key", "x"], "--key"),
        (&["tiny.toml", "--recipe", "tiny.toml"], "--recipe"),
        (&["tiny.toml", "--model", "resnet18"], "--model"),
        (&["runs/tiny-001", "--map", "x"], "--map"),
        (&["runs/tiny-001", "--options", "--base 3"], "--options"),
    ] {
        let error = desk.fails(&[&["summary"], arguments].concat());
        assert!(error.contains(&format!("{option} has no effect with")), "{error}");
    }
    for (command, absent) in [
        ("eval", &["--devices", "--mpi", "--dashboard"][..]),
        ("report", &["--devices", "--mpi", "--dashboard", "--workers", "--after"]),
    ] {
        let help = desk.says(&[command, "--help"]);
        assert!(help.contains("--device <DEVICE>"), "{help}");
        for option in absent {
            assert!(!help.contains(option), "{command} {option}");
            assert_eq!(desk.quant(&[command, "runs/tiny-001", option]).status.code(), Some(2));
        }
    }
    let help = desk.says(&["train", "--help"]);
    for option in ["--device ", "--devices", "--mpi", "--dashboard", "--workers", "--after"] {
        assert!(help.contains(option), "{option}");
    }
    let many = desk.quant(&["train", "tiny.toml", "--workers", "1025"]);
    assert_eq!(many.status.code(), Some(2));
}

#[test]
fn a_file_is_not_converted_to_a_name_of_another_format() {
    let desk = Desk::new(RECIPE);
    desk.says(&["train", "tiny.toml"]);
    let from = "runs/tiny-001/only/last.safetensors";
    for to in ["y.pth", "y.pt", "y.pth.tar", "y.bin", "y.onnx"] {
        let error = desk.fails(&["convert", from, to]);
        assert!(error.contains(to) && error.contains("ends in .safetensors"), "{error}");
        assert!(!desk.path(to).exists());
    }
    for to in ["y.safetensors", "y.SafeTensors", "y"] {
        desk.says(&["convert", from, to]);
        assert!(desk.path(to).is_file());
    }
}

#[test]
fn a_change_that_cannot_be_is_named_as_it_was_typed() {
    let desk = Desk::new(RECIPE);
    for (change, part) in [
        ("phase.full.x=1", "the phases are only"),
        ("phase.epocs=3", "did you mean `epochs`?"),
        ("phase.epochs=18446744073709551615", "from 1 to 1,000,000"),
        ("data.input_size=-1", "data.input_size = -1"),
    ] {
        for command in [&["recipe", "check"][..], &["train"]] {
            let error = desk.fails(&[command, &["tiny.toml", "--set", change]].concat());
            assert!(error.starts_with(&format!("error: --set {change}: ")), "{error}");
            assert!(error.contains(part) && error.lines().count() == 1, "{error}");
        }
    }
    assert!(!desk.path("runs").exists());
}

#[test]
fn a_recipe_of_ten_lines_trains() {
    let desk = Desk::new(RECIPE);
    let recipe = r#"
name = "mine"
data = { kind = "fake", input_size = 32, fake = { train = 16, val = 8, classes = 3 } }
model = { depth = "resnet18", stem = "imagenet", width_alpha = 0.04 }
[[phase]]
name = "quantized"
epochs = 2
batch_size = 8
learning_rate = 0.01
quantization = { activation = { method = "lsq", bits = 2 }, weight = { method = "lsq", bits = 2 } }
"#;
    assert_eq!(recipe.trim().lines().count(), 9);
    fs::write(desk.path("mine.toml"), recipe).unwrap();
    desk.says(&["recipe", "check", "mine.toml"]);
    let said = desk.says(&["train", "mine.toml"]);
    assert!(said.contains("run folder: runs/mine-001"), "{said}");
    let fields = desk.says(&["recipe", "fields"]);
    assert!(fields.contains("| `first_last` |"), "{fields}");
}

#[test]
fn a_recipe_is_checked_with_its_data() {
    let desk = Desk::new(RECIPE);
    let batches = (1..=5).map(|index| format!("data_batch_{index}.bin"));
    for name in batches.chain(["test_batch.bin".into()]) {
        // Four black images, each behind its label.
        let images = (0..4).flat_map(|label: u8| [vec![label], vec![0; 3 * 32 * 32]].concat());
        fs::write(desk.path(&name), images.collect::<Vec<u8>>()).unwrap();
    }
    let cifar = RECIPE
        .replace("kind = 'fake', fake = { train = 16, val = 8, classes = 10 }", "kind = 'cifar10'");
    fs::write(desk.path("cifar.toml"), cifar).unwrap();
    let check = ["recipe", "check", "cifar.toml", "--data"];
    let said = desk.says(&[&check[..], &["."]].concat());
    assert!(said.contains("20 training and 4 validation images in 10 classes"), "{said}");
    let error = desk.fails(&[&check[..], &["absent"]].concat());
    assert!(error.contains("absent: there is no such folder of data"), "{error}");
    let large = [".", "--set", "phase.batch_size=32"];
    let error = desk.fails(&[&check[..], &large].concat());
    assert!(error.contains("phase \"only\"") && error.contains("20"), "{error}");
    let error = desk.fails(&["recipe", "check", "tiny.toml", "--data", "."]);
    assert!(error.contains("--data has no effect"), "{error}");
}

/// A network described by keywords can start from weights with torchvision's names, although its
/// own names differ.
#[test]
fn torchvisions_names_arrive_in_a_keyword_network() {
    let desk = Desk::new(RECIPE);
    desk.says(&["train", "tiny.toml"]);
    let model = "model={ name = 'resnet18', keywords = 'imagenet,origin,cbsa,fix', \
                 options = '--width_alpha 0.04' }";
    let init = "phase.init=runs/tiny-001/only/last.safetensors";
    let output = desk.quant(&["train", "tiny.toml", "--set", model, "--set", init]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{error}");
    assert!(error.contains("loaded, torchvision's names translated"), "{error}");
}

/// By default the system ends a program that writes too large a file, without a message.
#[test]
#[cfg(unix)]
fn a_file_beyond_the_limit_of_sizes_is_named() {
    let desk = Desk::new(RECIPE);
    // The limit is one block of 512 or 1024 bytes.
    let script = "ulimit -f 1; exec \"$0\" train tiny.toml";
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", script, env!("CARGO_BIN_EXE_quant")]).current_dir(desk.folder.path());
    let output = shell.env("XDG_CACHE_HOME", desk.path("cache")).output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("File too large"), "{error}");
}
