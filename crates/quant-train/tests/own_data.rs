//! Runs on data that a program opens itself: in a format of its own, as in `docs/own-models.md`.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

mod common;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use common::alone;
use quant_data::{DataError, Dataset, RgbImage};
use quant_train::{OpenData, Recipe, Run, RunOptions, TrainError, data::DataPair};

const SIDE: usize = 8;
const RECORD: usize = 1 + SIDE * SIDE;

/// Grey images, one after another, each behind a byte with its label.
struct Squares {
    bytes: Vec<u8>,
    classes: Vec<String>,
}

impl Dataset for Squares {
    fn len(&self) -> usize {
        self.bytes.len() / RECORD
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn label(&self, index: usize) -> usize {
        self.bytes[index * RECORD].into()
    }

    fn image(&self, index: usize) -> Result<RgbImage, DataError> {
        let grey = &self.bytes[index * RECORD + 1..][..SIDE * SIDE];
        let pixels = grey.iter().flat_map(|value| [*value; 3]).collect();
        Ok(RgbImage { width: SIDE, height: SIDE, pixels })
    }
}

/// Returns images of two classes, bright and dark.
fn bytes(images: usize) -> Vec<u8> {
    let record = |index: usize| {
        let label = (index % 2) as u8;
        let grey = (0..SIDE * SIDE).map(move |at| 200 * label + ((at * 7 + index) % 50) as u8);
        [label].into_iter().chain(grey)
    };
    (0..images).flat_map(record).collect()
}

/// Opens `train.squares` and `val.squares` in a folder, with the names of their classes.
fn open_with(folder: &Path, val_classes: &[&str]) -> Result<DataPair, quant_train::BuildError> {
    let part = |name: &str, classes: &[&str]| -> std::io::Result<Arc<dyn Dataset>> {
        let classes = classes.iter().map(|class| (*class).to_owned()).collect();
        Ok(Arc::new(Squares { bytes: fs::read(folder.join(name))?, classes }))
    };
    Ok((part("train.squares", &["dark", "bright"])?, part("val.squares", val_classes)?))
}

fn options() -> RunOptions {
    let open = OpenData::new(|folder| open_with(folder, &["dark", "bright"]));
    RunOptions { open_data: Some(open), ..alone() }
}

fn recipe() -> Recipe {
    let text = r#"
        name = "squares"
        [data]
        kind = "own"
        input_size = 8
        train = [{ padded-crop = { size = 8, padding = 1 } }]
        eval = [{ center-crop = { size = 8 } }]
        [model]
        depth = "resnet20"
        stem = "cifar"
        width_alpha = 0.1
        [[phase]]
        name = "full"
        epochs = 8
        batch_size = 8
        learning_rate = 0.05
        [[phase]]
        name = "quantized"
        epochs = 2
        batch_size = 8
        learning_rate = 0.02
        [phase.quantization]
        activation = { method = "lsq", bits = 2 }
        weight = { method = "lsq", bits = 2 }
    "#;
    Recipe::parse(text, Path::new("squares.toml")).unwrap()
}

/// Writes the data into a folder.
fn data(folder: &Path, train: usize) -> PathBuf {
    let data = folder.join("squares");
    fs::create_dir_all(&data).unwrap();
    fs::write(data.join("train.squares"), bytes(train)).unwrap();
    fs::write(data.join("val.squares"), bytes(12)).unwrap();
    data
}

#[test]
fn a_run_on_data_of_a_program_trains_packs_and_continues() {
    let folder = tempfile::tempdir().unwrap();
    let data = data(folder.path(), 32);
    let run = Run::create(folder.path(), recipe(), folder.path(), &data, options()).unwrap();
    let summary = run.execute().unwrap();
    assert_eq!(run.classes(), ["dark", "bright"]);
    let (packed, served) = (summary.packed.unwrap(), summary.served.unwrap());
    assert_eq!(packed.score, served);
    assert_eq!(summary.phases[0].last.images, 12);
    assert!(summary.phases[0].last.top1 > 90.0, "{:?}", summary.phases[0].last);

    // The last phase is lost, and trained again to the same bits.
    let file = run.network_file("quantized", false);
    let weights = fs::read(&file).unwrap();
    fs::remove_dir_all(run.folder().join("quantized")).unwrap();
    let resumed = Run::resume(run.folder(), None, options()).unwrap();
    assert_eq!(resumed.execute().unwrap().phases, summary.phases);
    assert!(fs::read(&file).unwrap() == weights);
    resumed.report().unwrap();
    let trained = resumed.trained_file("quantized", false).unwrap();
    let recipe = resumed.recipe();
    let found =
        Run::evaluate(&trained, recipe, Some("quantized"), resumed.data(), &options()).unwrap();
    assert_eq!(found.score, summary.phases[1].last);
}

#[test]
fn data_that_changed_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = data(folder.path(), 32);
    let run = Run::create(folder.path(), recipe(), folder.path(), &path, options()).unwrap();
    run.execute().unwrap();
    data(folder.path(), 40);
    let error = Run::resume(run.folder(), None, options()).unwrap().execute().unwrap_err();
    assert!(matches!(error, TrainError::OtherData { .. }), "{error}");
    assert!(error.to_string().contains("training images: 40, expected 32"), "{error}");
}

#[test]
fn data_that_cannot_be_opened_say_why_before_a_folder_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let path = data(folder.path(), 32);
    let runs = folder.path().join("runs");
    let create = |options| {
        let error = Run::create(&runs, recipe(), folder.path(), &path, options).err().unwrap();
        assert!(!runs.exists());
        error.to_string()
    };
    let error = create(alone());
    assert!(error.contains("data.kind") && error.contains("the program that opens"), "{error}");
    let other = OpenData::new(|folder| open_with(folder, &["bright", "dark"]));
    let error = create(RunOptions { open_data: Some(other), ..alone() });
    assert!(error.contains("the validation data: "), "{error}");
    fs::remove_file(path.join("val.squares")).unwrap();
    let error = create(options());
    assert!(error.starts_with("the program's own data cannot be opened: "), "{error}");
}
