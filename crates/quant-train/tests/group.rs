//! Several processes that train one network: here threads of one program.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

mod common;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};

use common::{data, options, state};
use quant_core::Method;
use quant_train::{
    Recipe, Run, Summary, TrainError,
    evaluate::Score,
    group::{Alone, Group, Threads},
};

/// `{batch}` is to be filled in. Batch norms are frozen: else each process normalises by its own
/// images, unless they share their statistics.
const RECIPE: &str = r#"
    name = "shared"
    [data]
    kind = "image-folder"
    input_size = 32
    train = [{ resize = { size = 32 } }, { center-crop = { size = 32 } }]
    eval = [{ resize = { size = 32 } }, { center-crop = { size = 32 } }]
    eval_batch_size = 6
    [model]
    depth = "resnet18"
    stem = "imagenet"
    width_alpha = 0.04
    [[phase]]
    name = "full_precision"
    epochs = 2
    batch_size = {batch}
    learning_rate = 0.02
    schedule = { policy = "fix" }
    optimizer = { kind = "sgd" }
    clip_norm = 1.0
    frozen_statistics = ["bn", "downsample"]
    [[phase]]
    name = "quantized"
    epochs = 2
    batch_size = {batch}
    learning_rate = 0.001
    schedule = { policy = "fix" }
    optimizer = { kind = "sgd" }
    clip_norm = 1.0
    {more}
    [phase.quantization]
    activation = { method = "lsq", bits = 4 }
    weight = { method = "lsq", bits = 4 }
    calibration_batches = {calibration}
"#;

fn recipe(batch: usize, calibration: usize, more: &str) -> Recipe {
    let text = RECIPE
        .replace("{batch}", &batch.to_string())
        .replace("{calibration}", &calibration.to_string())
        .replace("{more}", more);
    Recipe::parse(&text, Path::new("shared.toml")).unwrap()
}

/// Folder and summary of a run of `size` processes, as each of them sees it.
fn run(runs: &Path, data: &Path, size: usize, recipe: &Recipe) -> Vec<(PathBuf, Summary)> {
    thread::scope(|scope| {
        let threads = Threads::new(size, Duration::from_secs(60)).into_iter().map(|group| {
            scope.spawn(move || {
                let run = Run::create(runs, recipe.clone(), runs, data, options(Arc::new(group)));
                let run = run.unwrap();
                (run.folder().to_owned(), run.execute().unwrap())
            })
        });
        let threads: Vec<_> = threads.collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

fn distance(a: &Path, b: &Path) -> f32 {
    let read = |run: &Path, phase: &str| state(&run.join(phase).join("last.safetensors"));
    let mut largest = 0.0f32;
    for phase in ["full_precision", "quantized"] {
        let (a, b) = (read(a, phase), read(b, phase));
        for (name, entry) in a.entries() {
            let other = b.get(name).unwrap();
            for (x, y) in entry.values.iter().zip(&other.values) {
                largest = largest.max((x - y).abs());
            }
        }
    }
    largest
}

#[test]
fn two_processes_train_as_one_with_the_doubled_batch() {
    two_train_as_one(false);
}

#[test]
fn with_shared_statistics_batch_norms_too_work_as_in_one_process() {
    two_train_as_one(true);
}

/// Returns a summary without the packed network, which only the first process makes.
fn trained(summary: &Summary) -> Summary {
    Summary { packed: None, served: None, ..summary.clone() }
}

/// With batch norms that share their statistics, or frozen ones.
fn two_train_as_one(shared: bool) {
    let folder = tempfile::tempdir().unwrap();
    let data = data(folder.path());
    // Clipping values from a file: each process would calibrate on images of its own.
    let fixed = "init = 'fixed.safetensors'\nfrozen_statistics = ['bn', 'downsample']";
    let one = run(folder.path(), &data, 1, &recipe(20, 1, ""));
    let (whole, alone) = &one[0];
    fs::copy(whole.join("quantized/best.safetensors"), folder.path().join("fixed.safetensors"))
        .unwrap();
    let calibrated = |batch| {
        let mut recipe = recipe(batch, 1, fixed);
        // Weights are calibrated on themselves, activations not at all: both come from the file.
        recipe.phases[1].quantization.as_mut().unwrap().calibration_batches = 0;
        if shared {
            for phase in &mut recipe.phases {
                phase.frozen_statistics.clear();
                phase.shared_statistics = true;
            }
        }
        recipe
    };
    let one = run(folder.path(), &data, 1, &calibrated(20));
    let two = run(folder.path(), &data, 2, &calibrated(10));
    assert_eq!(two[0].0, two[1].0);
    assert!(trained(&two[0].1) == trained(&two[1].1), "the processes disagree");
    let apart = distance(&one[0].0, &two[0].0);
    assert!(apart > 0.0 && apart < 1e-5, "{apart}");
    let (mine, theirs) = (one[0].1.quantized.unwrap(), two[0].1.quantized.unwrap());
    assert_eq!((mine.images, theirs.images), (20, 20));
    assert!((mine.loss - theirs.loss).abs() < 1e-4, "{mine:?} {theirs:?}");
    assert_eq!(alone.quantized.unwrap().images, 20);
}

#[test]
fn three_processes_agree_on_what_follows_the_data() {
    let folder = tempfile::tempdir().unwrap();
    let data = data(folder.path());
    let mut recipe = recipe(6, 2, "average = 0.9\nmixing = { mixup = 0.5 }");
    recipe.phases[0].frozen_statistics.clear();
    // Bases that follow the data of each process.
    let quantization = recipe.phases[1].quantization.as_mut().unwrap();
    quantization.weight.as_mut().unwrap().method = Method::LQ_NETS;
    let results = run(folder.path(), &data, 3, &recipe);
    let first = &results[0];
    assert!(results.iter().all(|(path, _)| *path == first.0));
    assert!(results.iter().all(|(_, summary)| trained(summary) == trained(&first.1)));
    assert!(results[0].1.quantized.unwrap().loss.is_finite());
    // One folder, one log, one of everything.
    let runs = fs::read_dir(folder.path()).unwrap().filter(|entry| {
        entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("shared-")
    });
    assert_eq!(runs.count(), 1);
}

#[test]
fn a_group_that_one_asks_to_stop_stops_at_one_step_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let data = data(folder.path());
    let recipe = recipe(10, 1, "");
    let whole = run(folder.path(), &data, 2, &recipe);
    let last = |run: &Path| fs::read(run.join("quantized/last.safetensors")).unwrap();
    let mut run_folder: Option<PathBuf> = None;
    let mut stops = 0;
    loop {
        let results: Vec<_> = thread::scope(|scope| {
            let threads = Threads::new(2, Duration::from_secs(60)).into_iter().map(|group| {
                let (run_folder, recipe, data, runs) =
                    (run_folder.clone(), recipe.clone(), &data, folder.path());
                scope.spawn(move || {
                    let rank = group.rank();
                    let options = options(Arc::new(group));
                    // Only the second process gets the signal.
                    if rank == 1 {
                        options.stop.ask();
                    }
                    let run = match run_folder {
                        Some(run_folder) => Run::resume(&run_folder, None, options),
                        None => Run::create(runs, recipe, runs, data, options),
                    };
                    let run = run.unwrap();
                    (run.folder().to_owned(), run.execute())
                })
            });
            let threads: Vec<_> = threads.collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        run_folder = Some(results[0].0.clone());
        match (&results[0].1, &results[1].1) {
            (
                Err(TrainError::Stopped { step, phase }),
                Err(TrainError::Stopped { step: other_step, phase: other_phase }),
            ) => assert_eq!((step, phase), (other_step, other_phase)),
            (Ok(_), Ok(_)) => break,
            (first, second) => panic!("{first:?} {second:?}"),
        }
        stops += 1;
    }
    assert_eq!(stops, 8);
    assert!(last(&run_folder.unwrap()) == last(&whole[0].0), "the weights differ");
}

/// The scores over all images of two processes, from those of each.
fn of_all(scores: [Score; 2]) -> Vec<Result<Score, TrainError>> {
    let groups = Threads::new(2, Duration::from_secs(60));
    thread::scope(|scope| {
        let threads: Vec<_> = (groups.into_iter().zip(scores))
            .map(|(group, score)| scope.spawn(move || score.of_all(&group)))
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn scores_of_several_processes_are_those_of_one() {
    let score = |hits: f64, images: usize| {
        let percent = 100.0 / images as f64;
        Score { top1: hits * percent, top5: 0.0, loss: 0.5, images, skipped: 0 }
    };
    for images in [11, 22, 49, 81] {
        for hits in 0..=images {
            let mine = hits / 3;
            let split =
                [score(mine as f64, images / 2), score((hits - mine) as f64, images - images / 2)];
            let alone = score(hits as f64, images);
            for all in of_all(split) {
                assert_eq!(all.unwrap().top1.to_bits(), alone.top1.to_bits(), "{hits} of {images}");
            }
        }
    }
    let none = Score { skipped: 3, ..Score::default() };
    for error in of_all([none, none]) {
        let error = error.unwrap_err().to_string();
        assert!(error.contains("none of the 6 images is usable"), "{error}");
    }
}

#[test]
fn a_lost_process_ends_the_others_with_a_message() {
    let folder = tempfile::tempdir().unwrap();
    let data = data(folder.path());
    let mut threads = Threads::new(2, Duration::from_millis(300));
    // The second never comes.
    let group = threads.remove(0);
    let run = Run::create(
        folder.path(),
        recipe(10, 1, ""),
        folder.path(),
        &data,
        options(Arc::new(group)),
    );
    let error = run.err().unwrap().to_string();
    assert!(error.contains("has not answered") && error.contains("resume"), "{error}");
    assert_eq!(Alone.size(), 1);
}
