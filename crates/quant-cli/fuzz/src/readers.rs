//! The readers of data from outside, each as a function of bytes. A reader may refuse the bytes,
//! but must not panic.
//!
//! `cargo fuzz run <target>`, in the folder of the crate `quant-cli`, fuzzes one reader. The tests
//! in `tests/hostile.rs` give damaged files and the inputs in `corpus/` to all readers.

use std::{
    collections::BTreeMap,
    fs, io,
    panic::{self, PanicHookInfo},
    path::{Path, PathBuf},
    sync::{Mutex, OnceLock, PoisonError},
};

use burn::tensor::Device;
use quant_data::{
    Cifar, Dataset, Idx, ImageFolder, RgbImage, Shards, Truncated,
    dataset::cifar::{CifarKind, Split},
};
use quant_infer::{inspect::Overview, model::Model};
use quant_nn::{Network, NetworkConfig, Renaming, StateDict, keywords};
use quant_onnx::{Format, ImportOptions};
use quant_train::{
    Recipe, Run, RunOptions, WeightsFile, checkpoint as checkpoints, files,
    phase::Phase,
    qtool::{config::ShellConfig, import, policy as rules},
    weights,
};

/// A name and a reader.
pub type Reader = (&'static str, fn(&[u8]));

/// All readers. The name is that of the fuzz target, and of the reader's folder below `corpus/`.
pub const READERS: [Reader; 17] = [
    ("recipe", recipe),
    ("configuration", configuration),
    ("policy", policy),
    ("keywords", keywords),
    ("checkpoint", checkpoint),
    ("image", image),
    ("cifar", cifar),
    ("idx", idx),
    ("pickle", pickle),
    ("shard", shard),
    ("checkpoint_folder", checkpoint_folder),
    ("run_folder", run_folder),
    ("network_file", network_file),
    ("qnet", qnet),
    ("onnx", onnx),
    ("renaming", renaming),
    ("image_lists", image_lists),
];

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Reads a recipe, and converts its keywords to fields.
pub fn recipe(bytes: &[u8]) {
    if let Ok(recipe) = Recipe::parse(&text(bytes), Path::new("recipe.toml")) {
        let _ = recipe.typed();
    }
}

/// Reads and imports a configuration file of QTool.
pub fn configuration(bytes: &[u8]) {
    let config = ShellConfig::parse(&text(bytes), &BTreeMap::new());
    let _ = import::import(&config, |_| Ok(String::new()));
}

/// Reads a policy file of QTool.
pub fn policy(bytes: &[u8]) {
    let _ = rules::policies(&text(bytes), |_| {});
}

/// Reads keywords and options of QTool. The keywords are the bytes before the first space.
pub fn keywords(bytes: &[u8]) {
    let text = text(bytes);
    let (words, options) = text.split_once(' ').unwrap_or((&text, ""));
    if let Ok(qtool) = quant_core::qtool::QtoolOptions::parse(words, options) {
        let _ = keywords::network("resnet20", &qtool).map(|config| config.validate());
    }
}

/// Reads a checkpoint of PyTorch or of this project.
pub fn checkpoint(bytes: &[u8]) {
    let _ = StateDict::from_bytes(bytes);
    in_file("network.safetensors", bytes, |path| {
        let _ = weights::read_network(&WeightsFile::new(path), &[], &Device::flex());
    });
}

/// Reads a file of renaming rules, and applies them to the names of a network.
pub fn renaming(bytes: &[u8]) {
    static NAMES: OnceLock<Option<StateDict>> = OnceLock::new();
    let names = NAMES.get_or_init(|| {
        let recipe = Recipe::parse(TINY, Path::new("tiny.toml")).ok()?;
        let network = recipe.network(recipe.phases.first()?, 2).ok()?.init(&Device::flex()).ok()?;
        StateDict::from_bytes(&weights::state_bytes(&network).ok()?).ok()
    });
    if let Some((names, rules)) = names.clone().zip(Renaming::parse(&text(bytes)).ok()) {
        let _ = names.renamed(&rules);
    }
}

/// Reads the file with the classes of Tiny ImageNet's validation images, and the list of a folder's
/// images that is kept in a cache.
pub fn image_lists(bytes: &[u8]) {
    let Ok(folder) = tempfile::tempdir() else { return };
    let (root, cache) = (folder.path().join("val"), folder.path().join("cache"));
    let images = root.join("images");
    let written = fs::create_dir_all(&images)
        .and_then(|()| fs::create_dir(&cache))
        .and_then(|()| fs::write(images.join("val_0.JPEG"), []));
    if written.is_err() {
        return;
    }
    let open = || {
        if let Ok(data) = ImageFolder::open_cached(&root, &cache) {
            (0..data.len()).for_each(|index| drop(data.image(index)));
            data.fingerprint();
        }
    };
    open();
    for list in names(&cache).into_iter().flatten() {
        if fs::write(cache.join(list), bytes).is_ok() {
            open();
        }
    }
    if fs::write(root.join("val_annotations.txt"), bytes).is_ok() {
        open();
    }
}

/// Decodes an image of any format.
pub fn image(bytes: &[u8]) {
    for truncated in [Truncated::Refuse, Truncated::Accept] {
        let _ = RgbImage::decode(bytes, truncated);
    }
}

/// Reads a binary file of CIFAR-100.
pub fn cifar(bytes: &[u8]) {
    in_file("train.bin", bytes, |path| {
        let _ = Cifar::open(path.parent().unwrap_or(path), CifarKind::Cifar100, Split::Train);
    });
}

/// Reads a file of images and a file of labels in MNIST's format.
pub fn idx(bytes: &[u8]) {
    let open = |images: &[u8], labels: &[u8]| {
        in_file("train-images-idx3-ubyte", images, |path| {
            if fs::write(path.with_file_name("train-labels-idx1-ubyte"), labels).is_ok()
                && let Ok(data) = Idx::open(path.parent().unwrap_or(path), Split::Train)
            {
                (0..data.len()).for_each(|index| drop(data.image(index)));
                data.fingerprint();
            }
        });
    };
    open(bytes, &[0, 0, 8, 1, 0, 0, 0, 2, 0, 1]);
    open(&[0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 1, 5, 6], bytes);
}

/// Reads a file of the Python version of CIFAR-10.
pub fn pickle(bytes: &[u8]) {
    in_file("test_batch", bytes, |path| {
        let _ = Cifar::open(path.parent().unwrap_or(path), CifarKind::Cifar10, Split::Test);
    });
}

/// Reads a tar file of images without a list of classes, with one, and as another part of a data
/// set.
pub fn shard(bytes: &[u8]) {
    let read = |shards: &Shards| {
        (0..shards.len()).for_each(|index| drop(shards.image(index)));
        shards.fingerprint();
    };
    in_file("a.tar", bytes, |path| {
        let folder = path.parent().unwrap_or(path);
        let unnamed = Shards::open(folder);
        unnamed.iter().for_each(read);
        if fs::write(folder.join("classes.txt"), "cat\ndog\n1\n").is_ok() {
            Shards::open(folder).iter().for_each(read);
            if let Ok(training) = &unnamed {
                Shards::open_like(folder, training).iter().for_each(read);
            }
        }
    });
    // The same bytes are read as a list of classes.
    in_file("classes.txt", bytes, |path| drop(Shards::open(path.parent().unwrap_or(path))));
}

/// Reads the JSON description of a network: alone, and in the metadata of a safetensors file.
pub fn network_file(bytes: &[u8]) {
    if let Ok(config) = serde_json::from_slice::<NetworkConfig>(bytes) {
        let _ = config.validate();
    }
    let Ok(text) = String::from_utf8(bytes.to_vec()) else { return };
    let metadata = Some([("config".to_owned(), text)].into());
    let values = [0; 4];
    let tensor = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![1], &values);
    if let Ok(tensor) = tensor
        && let Ok(file) = safetensors::serialize([("fc.bias", tensor)], metadata)
    {
        checkpoint(&file);
    }
}

/// Reads a checkpoint of a tiny network. The first byte chooses one of its files, and the other
/// bytes replace the content of the file. The checkpoint is read with the old checksum of the file,
/// and with the correct one.
pub fn checkpoint_folder(bytes: &[u8]) {
    let Some((tiny, (which, bytes))) = Tiny::get().zip(bytes.split_first()) else { return };
    let Ok(folder) = tempfile::tempdir() else { return };
    let step = folder.path().join(&tiny.step);
    if copy(&tiny.checkpoints().join(&tiny.step), &step).is_err() {
        return;
    }
    let name = &tiny.files[usize::from(*which) % tiny.files.len()];
    let load = || {
        let _ = checkpoints::load(folder.path(), &tiny.phase, &tiny.network, |_| ());
    };
    if fs::write(step.join(name), bytes).is_ok() {
        load();
    }
    if let Some(progress) = with_checksum(&step, name)
        && fs::write(step.join("progress.json"), progress).is_ok()
    {
        without_hook(load);
    }
}

/// Opens a run. The first byte chooses one of its files, and the other bytes replace the content of
/// the file. The run is read with the bytes as they are, and with their correct checksum.
pub fn run_folder(bytes: &[u8]) {
    let Some((tiny, (which, bytes))) = Tiny::get().zip(bytes.split_first()) else { return };
    let Ok(folder) = tempfile::tempdir() else { return };
    let run = folder.path().join("run");
    if copy(&tiny.run(), &run).is_err() {
        return;
    }
    let read = || {
        if let Ok(run) = Run::resume(&run, None, options()) {
            let _ = run.report();
        }
    };
    let path = run.join(RUN_FILES[usize::from(*which) % RUN_FILES.len()]);
    for content in [Some(bytes.to_vec()), sealed_again(bytes)].into_iter().flatten() {
        if fs::write(&path, content).is_ok() {
            read();
        }
    }
}

/// A finished run of a tiny network. The readers of folders damage copies of it.
pub struct Tiny {
    folder: tempfile::TempDir,
    phase: Phase,
    network: Network,
    /// Name of the newest checkpoint.
    step: String,
    /// Names of the checkpoint's files.
    files: Vec<String>,
}

/// Files of a run that [`run_folder`] replaces.
const RUN_FILES: [&str; 5] =
    ["run.json", "recipe.toml", "summary.json", "log.jsonl", "only/result.json"];

const TINY: &str = r#"
    name = "tiny"
    [data]
    kind = "fake"
    input_size = 32
    [data.fake]
    train = 4
    val = 2
    classes = 2
    [model]
    depth = "resnet20"
    stem = "cifar"
    width_alpha = 0.07
    [[phase]]
    name = "only"
    epochs = 1
    batch_size = 4
    learning_rate = 0.01
    average = 0.9
    checkpoint_steps = 1
    [phase.quantization]
    activation = { method = "lsq", bits = 2 }
    weight = { method = "lsq", bits = 2 }
"#;

impl Tiny {
    fn get() -> Option<&'static Self> {
        static TINY: OnceLock<Option<Tiny>> = OnceLock::new();
        TINY.get_or_init(Self::make).as_ref()
    }

    fn make() -> Option<Self> {
        let recipe = Recipe::parse(TINY, Path::new("tiny.toml")).ok()?;
        let folder = tempfile::tempdir().ok()?;
        let runs = folder.path();
        let run = Run::create(runs, recipe.clone(), runs, runs, options()).ok()?;
        run.execute().ok()?;
        let phase = recipe.phases.first()?.clone();
        let network = recipe.network(&phase, 2).ok()?.init(&Device::flex()).ok()?;
        let mut tiny = Self { folder, phase, network, step: String::new(), files: Vec::new() };
        tiny.step = names(&tiny.checkpoints()).ok()?.pop()?;
        tiny.files = names(&tiny.checkpoints().join(&tiny.step)).ok()?;
        Some(tiny)
    }

    /// Returns inputs with which [`checkpoint_folder`] and [`run_folder`] read the files unchanged.
    pub fn seeds() -> [Vec<Vec<u8>>; 2] {
        let of = |folder: PathBuf, names: Vec<&str>| {
            let read = |(which, name): (usize, &str)| {
                let content = fs::read(folder.join(name)).ok()?;
                Some([vec![which as u8], content].concat())
            };
            names.into_iter().enumerate().filter_map(read).collect()
        };
        let Some(tiny) = Self::get() else { return Default::default() };
        let step = tiny.checkpoints().join(&tiny.step);
        let files = tiny.files.iter().map(String::as_str).collect();
        [of(step, files), of(tiny.run(), RUN_FILES.to_vec())]
    }

    fn run(&self) -> PathBuf {
        self.folder.path().join("tiny-001")
    }

    fn checkpoints(&self) -> PathBuf {
        self.run().join("only/checkpoints")
    }
}

fn options() -> RunOptions {
    RunOptions { workers: Some(1), ..RunOptions::new(Device::flex()) }
}

/// Returns the names in a folder, in order.
fn names(folder: &Path) -> io::Result<Vec<String>> {
    let entries: Result<Vec<_>, _> = fs::read_dir(folder)?.collect();
    let mut names: Vec<String> =
        entries?.iter().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    Ok(names)
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for name in names(from)? {
        let (from, to) = (from.join(&name), to.join(&name));
        if from.is_dir() {
            copy(&from, &to)?;
        } else {
            fs::copy(from, to)?;
        }
    }
    Ok(())
}

/// Returns a JSON object with its correct checksum, as this project's files have it.
fn sealed_again(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut fields: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(bytes).ok()?;
    fields.remove("checksum");
    files::sealed(&fields).ok()
}

/// Returns the `progress.json` of a checkpoint with the correct checksums of the file `name` and of
/// itself.
fn with_checksum(step: &Path, name: &str) -> Option<Vec<u8>> {
    let progress = fs::read(step.join("progress.json")).ok()?;
    let mut fields: serde_json::Value = serde_json::from_slice(&progress).ok()?;
    if name != "progress.json" {
        let sum = files::checksum(&fs::read(step.join(name)).ok()?);
        *fields.get_mut("files")?.get_mut(name)? = sum.into();
    }
    sealed_again(&serde_json::to_vec(&fields).ok()?)
}

/// Calls `read`, which may catch a panic, without the panic hook. The hook of a fuzzer would end
/// the process before the panic is caught.
fn without_hook(read: impl FnOnce()) {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let hook: Box<dyn Fn(&PanicHookInfo<'_>) + Sync + Send> = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    read();
    panic::set_hook(hook);
}

fn in_file(name: &str, bytes: &[u8], read: impl FnOnce(&Path)) {
    let Ok(folder) = tempfile::tempdir() else {
        return;
    };
    let path = folder.path().join(name);
    if fs::write(&path, bytes).is_ok() {
        read(&path);
    }
}

/// A packed network, as it is and with the length and the checksum that it should have. A network
/// that is accepted comes back when it is written.
pub fn qnet(bytes: &[u8]) {
    for bytes in [bytes.to_vec(), sealed(bytes.to_vec())] {
        if let Ok(model) = Model::from_bytes(&bytes) {
            assert_eq!(Model::from_bytes(&model.to_bytes()), Ok(model));
            assert!(
                Overview::of_file(&bytes).is_ok_and(|overview| !overview.to_string().is_empty())
            );
        }
    }
}

/// A network in an ONNX file. One that is accepted can be packed, and be written as ONNX again. The
/// same bytes are the content of all files with constants that it names.
pub fn onnx(bytes: &[u8]) {
    let names = quant_onnx::external_files(bytes).unwrap_or_default();
    let external = names.into_iter().map(|name| (name, bytes.to_vec())).collect();
    let options = ImportOptions { external, ..ImportOptions::default() };
    if let Ok(found) = quant_onnx::import(bytes, &options) {
        assert_eq!(Model::from_bytes(&found.model.to_bytes()), Ok(found.model.clone()));
        for format in [Format::Qonnx, Format::Int8, Format::Compact] {
            assert!(quant_onnx::export(&found.model, format).is_ok());
        }
    }
}

/// Writes length and checksum into the header of a packed network.
fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    if bytes.len() >= 64 {
        let length = bytes.len() as u64;
        bytes[16..24].copy_from_slice(&length.to_le_bytes());
        let checked = bytes[..12].iter().chain(&bytes[16..]);
        let checksum = checked.fold(u32::MAX, |sum, &byte| {
            (0..8).fold(sum ^ u32::from(byte), |sum, _| {
                if sum & 1 == 1 { sum >> 1 ^ 0xedb8_8320 } else { sum >> 1 }
            })
        });
        bytes[12..16].copy_from_slice(&(!checksum).to_le_bytes());
    }
    bytes
}
