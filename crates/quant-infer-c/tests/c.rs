//! Programs in C and Python run a network through the library, with the engine's scores.
#![cfg(unix)]

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use quant_infer::{
    Image, Network,
    model::{Conv, Input, Model, Node, Op, Weight},
};

const CRATE: &str = env!("CARGO_MANIFEST_DIR");
const SIZE: [usize; 2] = [6, 5];

/// Runs a command, and returns its standard output. Anything else fails the test.
fn output(command: &mut Command) -> String {
    let output = command.output().expect("the program starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} failed: {errors}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn is_there(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
}

/// Builds the library, which tests do not depend on, and returns its folder.
fn library() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        // The test is <target>/<profile>/deps/<name>.
        let test = env::current_exe().expect("the path of the test");
        let target = test.ancestors().nth(3).expect("the target folder");
        output(
            Command::new(env!("CARGO"))
                .args(["build", "--offline", "--release", "--package", "quant-infer-c"])
                .arg("--target-dir")
                .arg(target)
                .env_remove("CARGO_BUILD_TARGET")
                .current_dir(CRATE),
        );
        target.join("release")
    })
}

/// The name of the shared library, and the variable with the folders where it is looked for.
fn shared() -> (&'static str, &'static str) {
    if cfg!(target_vendor = "apple") {
        ("libquant_infer.dylib", "DYLD_LIBRARY_PATH")
    } else {
        ("libquant_infer.so", "LD_LIBRARY_PATH")
    }
}

/// A folder of its own for a test, which is emptied.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("a folder");
    folder
}

/// A convolution of 3 channels to 4, a ReLU, and the mean: numbers that need all their bits.
fn model() -> Model {
    let node = |name: &str, op, inputs| Node { name: name.into(), op, inputs };
    let conv = Conv {
        in_channels: 3,
        out_channels: 4,
        kernel: [3, 3],
        stride: [1, 1],
        padding: [1, 1],
        dilation: [1, 1],
        groups: 1,
        quantizer: None,
        pads_codes: false,
        weight: Weight::Float((0..108).map(|i| ((i * 37 % 101) as f32 - 50.0) / 71.0).collect()),
        bias: Some(vec![0.1, -0.2, 0.3, 0.7]),
    };
    Model {
        name: "small".into(),
        producer: "test".into(),
        classes: vec!["circle".into(), "square".into(), "star".into(), "stripes".into()],
        input: Input {
            size: SIZE,
            shorter_side: None,
            scale: vec![0.0171, 0.0175, 0.0174],
            shift: vec![-2.1, -2.0, -1.8],
        },
        nodes: vec![
            node("input", Op::Input, vec![]),
            node("conv", Op::Conv(Box::new(conv)), vec![0]),
            node("relu", Op::Relu, vec![1]),
            node("pool", Op::GlobalPool, vec![2]),
        ],
    }
}

/// Writes the network and a picture into a folder. Returns their paths and the engine's scores.
fn files(folder: &Path) -> ([PathBuf; 2], Vec<f32>) {
    let mut pixels: Vec<u8> = (0..SIZE[0] * SIZE[1] * 3).map(|i| (i * 89 % 256) as u8).collect();
    // The header of the picture ends with one white space; these belong to the pixels.
    pixels[..3].copy_from_slice(b"\n 7");
    let paths = [folder.join("small.qnet"), folder.join("picture.ppm")];
    model().save(&paths[0]).expect("the network is written");
    let header = format!("P6\n{} {}\n255\n", SIZE[1], SIZE[0]);
    fs::write(&paths[1], [header.as_bytes(), &pixels].concat()).expect("the picture is written");
    let network = Network::new(&model()).expect("the network is valid");
    let scores = network.run(&Image::interleaved(&pixels, SIZE)).expect("the image fits");
    (paths, scores)
}

/// Checks lines of a score and a class.
fn assert_scores(printed: &str, scores: &[f32]) {
    let lines: Vec<(f32, &str)> = (printed.lines().take(scores.len()))
        .map(|line| line.split_once(' ').expect("a score and a class"))
        .map(|(score, class)| (score.parse().expect("a score"), class))
        .collect();
    let model = model();
    let expected: Vec<(f32, &str)> =
        scores.iter().zip(&model.classes).map(|(score, class)| (*score, &class[..])).collect();
    assert_eq!(lines, expected);
    let bits = |score: f32| score.to_bits();
    assert!(lines.iter().zip(scores).all(|(line, score)| bits(line.0) == bits(*score)));
}

/// Compiles the example, and returns the program.
fn compile(folder: &Path, libraries: &[&str]) -> PathBuf {
    let program = folder.join("classify");
    output(
        Command::new("cc")
            .args(["-std=c99", "-Wall", "-Wextra", "-pedantic", "-Werror", "-I"])
            .arg(Path::new(CRATE).join("include"))
            .arg(Path::new(CRATE).join("examples/c/classify.c"))
            .arg("-L")
            .arg(library())
            .args(libraries)
            .arg("-o")
            .arg(&program),
    );
    program
}

#[test]
fn a_program_in_c_gets_the_scores_of_the_engine() {
    if !is_there("cc") {
        eprintln!("skipped: there is no C compiler, cc");
        return;
    }
    let folder = folder("c");
    let (paths, scores) = files(&folder);
    let program = compile(&folder, &["-lquant_infer"]);
    let printed = output(Command::new(&program).args(&paths).env(shared().1, library()));
    assert_scores(&printed, &scores);
    let best = quant_infer::top_k(&scores, 1)[0].0;
    assert_eq!(printed.lines().last(), Some(&format!("best: {best}")[..]));

    // A file that is not a network.
    let swapped = Command::new(&program)
        .args([&paths[1], &paths[0]])
        .env(shared().1, library())
        .output()
        .expect("the program starts");
    assert_eq!(swapped.status.code(), Some(1));
    let errors = String::from_utf8_lossy(&swapped.stderr);
    assert!(errors.contains("picture.ppm"), "{errors}");
}

#[test]
fn a_program_in_c_can_contain_the_library() {
    if !is_there("cc") {
        eprintln!("skipped: there is no C compiler, cc");
        return;
    }
    let folder = folder("c-static");
    let (paths, scores) = files(&folder);
    let archive = library().join("libquant_infer.a");
    let archive = archive.to_str().expect("UTF-8");
    let program = compile(&folder, &[archive, "-lpthread", "-ldl", "-lm"]);
    assert_scores(&output(Command::new(program).args(&paths)), &scores);
}

/// Runs the program of the README.
#[test]
fn a_program_in_python_gets_the_scores_of_the_engine() {
    if !is_there("python3") {
        eprintln!("skipped: there is no python3");
        return;
    }
    let folder = folder("python");
    let (paths, scores) = files(&folder);
    let readme = fs::read_to_string(Path::new(CRATE).join("README.md")).expect("README.md");
    let block = readme.split("```python\n").nth(1).expect("a block of Python");
    let script = folder.join("classify.py");
    fs::write(&script, block.split("```").next().unwrap_or_default()).expect("a script");
    let library = library().join(shared().0);
    let printed = output(Command::new("python3").arg(&script).arg(library).args(&paths));
    assert_scores(&printed, &scores);
}

#[test]
fn the_header_declares_the_functions_of_the_library() {
    let read = |path: &str| fs::read_to_string(Path::new(CRATE).join(path)).expect("a file");
    let (header, source) = (read("include/quant_infer.h"), read("src/lib.rs"));
    let declarations = header.split("extern \"C\" {").nth(1).expect("declarations");
    let mut declared: Vec<&str> = (declarations.lines())
        .filter(|line| !line.starts_with([' ', '/', '*', '#', '}']) && line.contains('('))
        .map(|line| line.split('(').next().unwrap_or_default())
        .filter_map(|line| line.rsplit([' ', '*']).next())
        .collect();
    let mut defined: Vec<&str> = (source.split("extern \"C\" fn ").skip(1))
        .map(|rest| rest.split('(').next().unwrap_or_default())
        .collect();
    declared.sort_unstable();
    defined.sort_unstable();
    assert_eq!(declared, defined);
    assert!(defined.len() > 10, "only {} functions were found", defined.len());
}
