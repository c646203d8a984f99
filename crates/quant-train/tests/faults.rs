//! What goes wrong in a run, and what becomes of it: the table in docs/training.md, row by row.
//!
//! The number of damaged files is small here; the variable `QUANT_FAULTS=200` asks for more.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

mod common;

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};

use common::{Desk, TWO_PHASES, alone};
use quant_data::random::Random;
use quant_nn::StateDict;
use quant_train::{
    Recipe, Run, RunOptions, Summary, TrainError, WeightsFile,
    events::{Event, read_log},
    group::Threads,
};

fn recipe(changes: &[&str]) -> Recipe {
    let changes: Vec<String> = changes.iter().map(|change| (*change).to_owned()).collect();
    Recipe::parse_with(TWO_PHASES, Path::new("tiny.toml"), &changes).unwrap()
}

/// A run that is done.
fn done(desk: &Desk, changes: &[&str]) -> Run {
    let run = desk.create(recipe(changes)).unwrap();
    run.execute().unwrap();
    run
}

fn resume(folder: &Path) -> Run {
    Run::resume(folder, None, alone()).unwrap()
}

fn last(run: &Path) -> Vec<u8> {
    fs::read(run.join("quantized/last.safetensors")).unwrap()
}

fn steps(phase: &Path) -> Vec<String> {
    let entries = fs::read_dir(phase.join("checkpoints")).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// As if the run had been killed behind its newest checkpoint.
fn reopen(run: &Path) {
    for name in ["result.json", "last.safetensors"] {
        fs::remove_file(run.join("quantized").join(name)).unwrap();
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn warnings(run: &Path) -> Vec<String> {
    let log = read_log(&run.join("log.jsonl")).unwrap();
    let warnings = log.into_iter().filter_map(|event| match event {
        Event::Warning { message } => Some(message),
        _ => None,
    });
    warnings.collect()
}

#[test]
fn divergence_in_the_very_last_step_is_an_error_and_the_last_finite_checkpoint_stays() {
    let desk = Desk::new();
    // One step an epoch; the second and last has a rate at which every weight overflows, and a
    // finite loss.
    let wild = [
        "phase.full_precision.epochs=2",
        "phase.full_precision.batch_size=40",
        "phase.full_precision.schedule={ policy = 'custom_step', steps = [1], factor = 1e38 }",
    ];
    let run = desk.create(recipe(&wild)).unwrap();
    let error = run.execute().unwrap_err();
    assert!(matches!(&error, TrainError::Diverged { step: 2, .. }), "{error}");
    assert!(error.to_string().contains("phase full_precision"), "{error}");
    let phase = run.folder().join("full_precision");
    assert_eq!(steps(&phase), ["step-000000001"]);
    assert!(!phase.join("result.json").exists() && !phase.join("last.safetensors").exists());
    let best = common::state(&phase.join("best.safetensors"));
    assert!(best.entries().all(|(_, entry)| entry.values.iter().all(|value| value.is_finite())));
    // It goes on from there, again into the same end, or to a better one at another rate.
    assert!(matches!(resume(run.folder()).execute(), Err(TrainError::Diverged { step: 2, .. })));
    let tamed = ["phase.full_precision.schedule={ policy = 'fix' }".to_owned()];
    resume(run.folder()).with_changes(&tamed).unwrap().execute().unwrap();
}

#[test]
fn weights_that_are_no_numbers_start_nothing() {
    let desk = Desk::new();
    let network = recipe(&[]).network(&recipe(&[]).phases[0], 10).unwrap();
    let network = network.init(&burn::tensor::Device::flex()).unwrap();
    let mut entries: Vec<_> = StateDict::of(&network)
        .entries()
        .map(|(name, entry)| (name.to_owned(), entry.clone()))
        .collect();
    let (_, entry) = entries.iter_mut().find(|(name, _)| name == "conv1.weight").unwrap();
    entry.values[3] = f32::NAN;
    let bytes = StateDict::from_entries(entries).to_bytes().unwrap();
    fs::write(desk.folder.path().join("nan.safetensors"), bytes).unwrap();
    let teacher = "phase.quantized.distillation={ teacher = 'nan.safetensors' }";
    let file = WeightsFile::new(desk.folder.path().join("nan.safetensors"));
    for error in [
        desk.create(recipe(&["phase.full_precision.init=nan.safetensors"])).err().unwrap(),
        desk.create(recipe(&[teacher])).err().unwrap(),
        Run::evaluate(&file, &recipe(&[]), None, &desk.data, &alone()).unwrap_err(),
    ] {
        let error = error.to_string();
        assert!(
            error.contains("nan.safetensors") && error.contains("conv1.weight holds NaN"),
            "{error}"
        );
    }
}

#[test]
fn a_batch_norm_over_one_value_is_an_error_that_names_it() {
    let desk = Desk::new();
    // Five strides of two leave one position of 32 pixels.
    let run = desk.create(recipe(&["phase.full_precision.batch_size=1"])).unwrap();
    let error = run.execute().unwrap_err();
    assert!(
        matches!(&error, TrainError::OneValue { layer, .. } if layer.contains("layer4")),
        "{error}"
    );
    assert!(!run.folder().join("full_precision/checkpoints").exists());
    let frozen = recipe(&[
        "phase.full_precision.batch_size=1",
        "phase.full_precision.learning_rate=0.0001",
        "phase.full_precision.frozen_statistics=['bn', 'downsample']",
    ]);
    desk.create(frozen).unwrap().execute().unwrap();
    // One image is left of 40 for a fourth batch of 13.
    let kept =
        recipe(&["phase.full_precision.batch_size=13", "phase.full_precision.last_batch=keep"]);
    assert!(matches!(desk.create(kept).unwrap().execute(), Err(TrainError::OneValue { .. })));
}

#[test]
fn more_epochs_go_on_from_the_end_of_a_finished_run() {
    let desk = Desk::new();
    let fixed = "phase.quantized.schedule={ policy = 'fix' }";
    let whole = done(&desk, &[fixed, "phase.quantized.epochs=3"]);
    let short = done(&desk, &[fixed]);
    let more = ["phase.quantized.epochs=3".to_owned()];
    resume(short.folder()).with_changes(&more).unwrap().execute().unwrap();
    assert!(last(whole.folder()) == last(short.folder()), "the weights differ");
    let log = read_log(&short.folder().join("log.jsonl")).unwrap();
    let change = "phase.quantized.epochs: 2 before, 3 now";
    assert!(
        log.iter().any(|event| matches!(event, Event::Changed { changes } if changes == &[change]))
    );
    // It is the run's recipe from now on.
    resume(short.folder()).execute().unwrap();
    // Killed between its two files, the same change is asked for again.
    let again = ["phase.quantized.epochs=4".to_owned()];
    let path = short.folder().join("recipe.toml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replacen("epochs = 3", "epochs = 4", 1)).unwrap();
    assert!(matches!(resume(short.folder()).execute(), Err(TrainError::OtherRecipe { .. })));
    resume(short.folder()).with_changes(&again).unwrap().execute().unwrap();
    for (change, reason) in [
        ("phase.quantized.epochs=3", "only with more"),
        ("phase.full_precision.epochs=4", "phase quantized has begun"),
        ("phase.quantized.batch_size=4", "can still change"),
        ("seed=7", "depends on it"),
    ] {
        let changed = resume(short.folder()).with_changes(&[change.to_owned()]).unwrap();
        let error = changed.execute().unwrap_err();
        assert!(matches!(error, TrainError::Unchangeable { .. }), "{error}");
        assert!(error.to_string().contains(reason), "{change}: {error}");
    }
}

#[test]
fn a_recipe_that_was_edited_under_a_run_names_every_field_that_differs() {
    let desk = Desk::new();
    let run = done(&desk, &[]);
    reopen(run.folder());
    let path = run.folder().join("recipe.toml");
    let text = fs::read_to_string(&path).unwrap();
    let edited = text.replace("learning_rate = 0.01", "learning_rate = 0.02");
    fs::write(&path, edited.replace("seed = 1", "seed = 2")).unwrap();
    let run = Run::resume(run.folder(), None, alone());
    let error = run.and_then(|run| run.execute()).unwrap_err();
    let text = error.to_string();
    for line in [
        "\n  seed: 1 before, 2 now",
        "\n  phase.quantized.learning_rate: 0.01 before, 0.02 now",
        "quant resume",
        "quant train",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
}

#[test]
fn other_data_or_devices_are_an_error_until_they_are_accepted() {
    let desk = Desk::new();
    let run = done(&desk, &[]);
    reopen(run.folder());
    let whole = steps(&run.folder().join("quantized"));
    // A class less.
    let other = desk.folder.path().join("other");
    copy(&desk.data, &other);
    for part in ["train", "val"] {
        let first =
            fs::read_dir(other.join(part)).unwrap().map(|entry| entry.unwrap().path()).min();
        fs::remove_dir_all(first.unwrap()).unwrap();
    }
    let at = |data: &Path| Run::resume(run.folder(), Some(data), alone()).unwrap();
    let error = at(&other).execute().unwrap_err().to_string();
    assert!(error.contains("classes: 9, expected 10"), "{error}");
    // The same images elsewhere are the same data.
    let moved = desk.folder.path().join("moved");
    copy(&desk.data, &moved);
    // An image less is not.
    let less = desk.folder.path().join("less");
    copy(&desk.data, &less);
    let class = fs::read_dir(less.join("train")).unwrap().map(|entry| entry.unwrap().path()).min();
    let image = fs::read_dir(class.unwrap()).unwrap().map(|entry| entry.unwrap().path()).min();
    fs::remove_file(image.unwrap()).unwrap();
    let error = at(&less).execute().unwrap_err();
    assert!(matches!(error, TrainError::OtherData { .. }), "{error}");
    assert!(error.to_string().contains("training images: 39, expected 40"), "{error}");
    // Nor is an image that was replaced by another under its name.
    let replaced = desk.folder.path().join("replaced");
    copy(&desk.data, &replaced);
    let class =
        fs::read_dir(replaced.join("val")).unwrap().map(|entry| entry.unwrap().path()).min();
    let image = fs::read_dir(class.unwrap()).unwrap().map(|entry| entry.unwrap().path()).min();
    let jpeg = quant_data::RgbImage::new(40, 40).to_jpeg(80).unwrap();
    fs::write(image.unwrap(), jpeg).unwrap();
    let error = at(&replaced).execute().unwrap_err().to_string();
    assert!(error.contains("validation images: the same files and labels, but other"), "{error}");
    let two = Threads::new(2, Duration::from_secs(20)).into_iter().map(|group| {
        let folder = run.folder().to_owned();
        thread::spawn(move || {
            let options = common::options(Arc::new(group));
            Run::resume(&folder, None, options).unwrap().execute().unwrap_err().to_string()
        })
    });
    for error in two.collect::<Vec<_>>() {
        let error = error.join().unwrap();
        assert!(error.contains("devices or processes: 2, expected 1"), "{error}");
    }
    // Another kind of device rounds otherwise. The name stands for one here.
    let elsewhere = RunOptions { device_name: "cuda".to_owned(), ..alone() };
    let moved_on = Run::resume(run.folder(), None, elsewhere).unwrap();
    let error = moved_on.execute().unwrap_err().to_string();
    assert!(error.contains("device: cuda, expected flex, which --device flex chooses"), "{error}");
    assert_eq!(steps(&run.folder().join("quantized")), whole);
    at(&moved).execute().unwrap();
    reopen(run.folder());
    at(&less).accepting_changes().execute().unwrap();
    // They are the run's data from now on.
    Run::resume(run.folder(), None, alone()).unwrap().execute().unwrap();
}

/// The scores of the recipe's last phase, epoch by epoch, with the epoch of its best network.
fn best_epoch(run: &Path) -> usize {
    let result = fs::read(run.join("quantized/result.json")).unwrap();
    let result: serde_json::Value = serde_json::from_slice(&result).unwrap();
    result["best_epoch"].as_u64().unwrap() as usize
}

#[test]
fn a_best_network_that_is_lost_is_told_and_found_again_where_that_is_possible() {
    let desk = Desk::new();
    let epochs = ["phase.quantized.epochs=3", "phase.quantized.schedule={ policy = 'fix' }"];
    let run = done(&desk, &epochs);
    let best = |run: &Path| run.join("quantized/best.safetensors");
    let whole = fs::read(best(run.folder())).unwrap();
    let known = best_epoch(run.folder());
    let damages: [&dyn Fn(&Path); 3] = [
        &|path| fs::remove_file(path).unwrap(),
        &|path| {
            let mut bytes = fs::read(path).unwrap();
            let at = bytes.len() - 5;
            bytes[at] ^= 4;
            fs::write(path, bytes).unwrap();
        },
        &|path| fs::write(path, "").unwrap(),
    ];
    for (index, damage) in damages.into_iter().enumerate() {
        // Of a finished phase, the last network is the best only if its epoch is the best.
        let copied = desk.folder.path().join(format!("finished-{index}"));
        copy(run.folder(), &copied);
        damage(&best(&copied));
        resume(&copied).execute().unwrap();
        let message = warnings(&copied).join("\n");
        assert!(message.contains("the best network cannot be read"), "{message}");
        assert!(message.contains("best.safetensors"), "{message}");
        if known == 2 {
            assert!(fs::read(best(&copied)).unwrap() == whole);
        } else {
            assert!(
                message.contains(&format!("the network of epoch {} is lost", known + 1)),
                "{message}"
            );
        }
        // Of a phase that continues, the checkpoint may have it; else a later epoch is the best.
        let copied = desk.folder.path().join(format!("continued-{index}"));
        copy(run.folder(), &copied);
        reopen(&copied);
        let phase = copied.join("quantized");
        fs::remove_dir_all(phase.join("checkpoints").join(&steps(&phase)[1])).unwrap();
        damage(&best(&copied));
        resume(&copied).execute().unwrap();
        let message = warnings(&copied).join("\n");
        assert!(message.contains("the best network of the phase cannot be read"), "{message}");
        common::state(&best(&copied));
        assert!(last(&copied) == last(run.folder()), "the weights differ");
    }
}

#[test]
fn a_folder_in_the_place_of_a_network_is_an_error_that_says_so() {
    let desk = Desk::new();
    let run = done(&desk, &[]);
    reopen(run.folder());
    let weights = run.folder().join("quantized/last.safetensors");
    fs::create_dir(&weights).unwrap();
    let error = resume(run.folder()).execute().unwrap_err().to_string();
    assert!(error.contains("last.safetensors: it is a folder"), "{error}");
}

/// Deleted and moved folders: the run ends, and nothing is made in their place.
#[test]
fn a_run_folder_that_goes_away_while_it_is_used_ends_the_run() {
    let desk = Desk::new();
    let long = ["phase.full_precision.epochs=5000", "phase.full_precision.checkpoint_steps=1"];
    let run = desk.create(recipe(&long)).unwrap();
    let folder = run.folder().to_owned();
    let moved = desk.folder.path().join("moved");
    let training = thread::spawn(move || run.execute().unwrap_err());
    while !folder.join("full_precision/best.safetensors").is_file() {
        assert!(!training.is_finished());
        thread::sleep(Duration::from_millis(5));
    }
    fs::rename(&folder, &moved).unwrap();
    let error = training.join().unwrap();
    assert!(matches!(&error, TrainError::Gone { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains(folder.to_str().unwrap()) && text.contains("deleted, moved"), "{text}");
    assert!(!folder.exists(), "the folder was made again");
    assert_eq!(error.resumes_with(), None);
}

#[test]
fn a_second_writer_is_refused_with_who_holds_the_run() {
    let desk = Desk::new();
    let run = done(&desk, &[]);
    reopen(run.folder());
    let held = File::create(run.folder().join("lock")).unwrap();
    held.lock().unwrap();
    fs::write(run.folder().join("lock"), "process 4711 (quant resume)").unwrap();
    let before = steps(&run.folder().join("quantized"));
    for error in
        [resume(run.folder()).execute().unwrap_err(), resume(run.folder()).report().unwrap_err()]
    {
        assert!(matches!(&error, TrainError::InUse { .. }), "{error}");
        assert!(error.to_string().contains("process 4711 (quant resume)"), "{error}");
    }
    assert_eq!(steps(&run.folder().join("quantized")), before);
    // Without its holder the lock is free, whatever the file says.
    drop(held);
    let partial = run.folder().join("quantized/checkpoints/.partial-abc");
    fs::create_dir(&partial).unwrap();
    resume(run.folder()).execute().unwrap();
    assert!(!partial.exists());
}

#[test]
fn a_start_that_fails_leaves_no_folder() {
    let desk = Desk::new();
    for (change, part) in [
        ("phase.full_precision.init=absent.pth", "absent.pth"),
        ("phase.quantized.distillation={ teacher = 'absent.pth' }", "absent.pth"),
        ("phase.quantized.distillation={ teacher = 'quantized' }", "the phase itself"),
        ("phase.full_precision.distillation={ teacher = 'quantized' }", "a later phase"),
    ] {
        let error = desk.create(recipe(&[change])).err().unwrap().to_string();
        assert!(error.contains(part), "{change}: {error}");
        assert!(!desk.runs().exists(), "{change}");
    }
    // What a later phase needs from the data.
    let large = desk.create(recipe(&["phase.quantized.batch_size=50"])).err().unwrap().to_string();
    assert!(large.contains("\"quantized\"") && large.contains("one batch of 50"), "{large}");
    assert!(!desk.runs().exists());
    // Images that are gone between the check and the start.
    let run = desk.create(recipe(&[])).unwrap();
    fs::rename(&desk.data, desk.folder.path().join("gone")).unwrap();
    run.execute().unwrap_err();
    assert!(!run.can_resume() && !run.folder().exists());
    // What was trained stays, whatever a second execution fails with.
    fs::rename(desk.folder.path().join("gone"), &desk.data).unwrap();
    let done = done(&desk, &[]);
    fs::rename(&desk.data, desk.folder.path().join("gone")).unwrap();
    done.execute().unwrap_err();
    assert!(done.can_resume());
    // A process that was killed before its folder had a name.
    let abandoned = desk.runs().join(".partial-xyz");
    fs::create_dir_all(&abandoned).unwrap();
    fs::write(abandoned.join("lock"), "process 1").unwrap();
    fs::rename(desk.folder.path().join("gone"), &desk.data).unwrap();
    desk.create(recipe(&[])).unwrap();
    assert!(!abandoned.exists());
}

/// As if the run had been killed between its phases.
fn before_the_second_phase(run: &Path) {
    fs::remove_dir_all(run.join("quantized")).unwrap();
}

#[test]
fn a_resumed_run_is_checked_before_it_trains_and_before_its_files_change() {
    let desk = Desk::new();
    let run = done(&desk, &[]);
    before_the_second_phase(run.folder());
    let files =
        || ["run.json", "recipe.toml"].map(|name| fs::read(run.folder().join(name)).unwrap());
    let before = files();
    for (change, part) in [
        ("phase.quantized.init=absent.pth", "absent.pth"),
        ("phase.quantized.batch_size=50", "one batch of 50"),
    ] {
        let changed = resume(run.folder()).with_changes(&[change.to_owned()]).unwrap();
        let error = changed.execute().unwrap_err().to_string();
        assert!(error.contains("\"quantized\"") && error.contains(part), "{error}");
        assert!(files() == before, "{change}: the files of the run changed");
    }
    resume(run.folder()).execute().unwrap();
}

#[test]
fn data_with_another_number_of_classes_are_refused_even_if_changes_are_accepted() {
    let desk = Desk::new();
    let run = done(&desk, &[]);
    before_the_second_phase(run.folder());
    let header = fs::read(run.folder().join("run.json")).unwrap();
    let fewer = desk.folder.path().join("fewer");
    copy(&desk.data, &fewer);
    for part in ["train", "val"] {
        let classes = fs::read_dir(fewer.join(part)).unwrap().map(|class| class.unwrap().path());
        fs::remove_dir_all(classes.max().unwrap()).unwrap();
    }
    let other = Run::resume(run.folder(), Some(&fewer), alone()).unwrap().accepting_changes();
    let error = other.execute().unwrap_err();
    assert!(matches!(&error, TrainError::Unchangeable { .. }), "{error}");
    assert!(error.to_string().contains("classes: 9, and the networks have 10 outputs"), "{error}");
    assert!(fs::read(run.folder().join("run.json")).unwrap() == header);
    resume(run.folder()).execute().unwrap();
}

#[cfg(unix)]
#[test]
fn names_that_are_not_utf8_are_refused_where_files_would_lose_them_and_work_elsewhere() {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};
    let desk = Desk::new();
    let odd = desk.folder.path().join(OsStr::from_bytes(b"odd\xff"));
    copy(&desk.data, &odd);
    let here = desk.folder.path();
    let error = Run::create(&desk.runs(), recipe(&[]), here, &odd, alone()).err().unwrap();
    assert!(error.to_string().contains("its name is not UTF-8"), "{error}");
    assert!(!desk.runs().exists());
    let run = Run::create(&odd.join("runs"), recipe(&[]), here, &desk.data, alone()).unwrap();
    run.execute().unwrap();
    resume(run.folder()).execute().unwrap();
}

#[cfg(unix)]
#[test]
fn weights_are_read_from_regular_files_only() {
    let error = WeightsFile::new("/dev/zero").read().unwrap_err().to_string();
    assert!(error.contains("/dev/zero") && error.contains("a device"), "{error}");
}

/// One damage, of a kind and at a place that `random` chooses; whether the file is another one now.
fn damage(path: &Path, random: &mut Random) -> bool {
    let old = fs::read(path).unwrap();
    let mut bytes = old.clone();
    let at = random.below(bytes.len().max(1));
    match random.below(5) {
        0 => bytes[at] ^= 1 << random.below(8),
        1 => bytes.truncate(at),
        2 => bytes[at..].iter_mut().take(512).for_each(|byte| *byte = 0),
        3 => bytes[at..].iter_mut().take(64).for_each(|byte| *byte = random.below(256) as u8),
        _ => bytes.extend_from_slice(b"more"),
    }
    fs::write(path, &bytes).unwrap();
    bytes != old
}

#[test]
fn a_damaged_checkpoint_is_never_used() {
    let desk = Desk::new();
    let run = done(&desk, &["phase.quantized.average=0.9"]);
    reopen(run.folder());
    let whole = {
        let copied = desk.folder.path().join("whole");
        copy(run.folder(), &copied);
        resume(&copied).execute().unwrap();
        last(&copied)
    };
    let newest = format!("quantized/checkpoints/{}", steps(&run.folder().join("quantized"))[1]);
    let mut files: Vec<PathBuf> = fs::read_dir(run.folder().join(&newest))
        .unwrap()
        .map(|entry| entry.unwrap().path().strip_prefix(run.folder()).unwrap().to_owned())
        .collect();
    files.sort();
    assert!(files.len() >= 5, "{files:?}");
    let rounds = std::env::var("QUANT_FAULTS").map_or(20, |count| count.parse().unwrap());
    let mut random = Random::new(&[13]);
    for round in 0..rounds {
        let copied = desk.folder.path().join("damaged");
        copy(run.folder(), &copied);
        let file = &files[round % files.len()];
        if !damage(&copied.join(file), &mut random) {
            continue;
        }
        resume(&copied).execute().unwrap();
        assert!(last(&copied) == whole, "{round}: {} damaged: the weights differ", file.display());
        let warned = warnings(&copied).iter().any(|text| text.contains("the checkpoint before"));
        assert!(warned, "{round}: {} damaged: no warning", file.display());
        fs::remove_dir_all(&copied).unwrap();
    }
    // Where no checkpoint is left, nothing is trained.
    for step in steps(&run.folder().join("quantized")) {
        let path = run.folder().join("quantized/checkpoints").join(step).join("network.bpk");
        fs::write(path, "no network").unwrap();
    }
    let error = resume(run.folder()).execute().unwrap_err();
    assert!(matches!(&error, TrainError::Checkpoint { .. }), "{error}");
    assert!(error.to_string().contains("remove its folder"), "{error}");
}

#[test]
fn a_damaged_result_is_made_again_from_the_last_checkpoint() {
    let desk = Desk::new();
    let run = done(&desk, &[]);
    let (whole, phase) = (last(run.folder()), run.folder().join("quantized"));
    let result = fs::read(phase.join("result.json")).unwrap();
    let mut random = Random::new(&[17]);
    for name in ["result.json", "last.safetensors"] {
        for _ in 0..5 {
            damage(&phase.join(name), &mut random);
            resume(run.folder()).execute().unwrap();
            assert!(last(run.folder()) == whole, "{name}: the weights differ");
            assert!(fs::read(phase.join("result.json")).unwrap() == result, "{name}");
        }
    }
    assert!(warnings(run.folder()).iter().any(|text| text.contains("continues from the last")));
    fs::write(run.folder().join("run.json"), "{}").unwrap();
    let error = Run::resume(run.folder(), None, alone()).err().unwrap();
    assert!(error.to_string().contains("run.json"), "{error}");
}

/// Runs of `size` processes, which all end.
fn together(
    desk: &Desk,
    size: usize,
    recipe: &Recipe,
) -> Vec<Result<(PathBuf, Summary), TrainError>> {
    thread::scope(|scope| {
        let threads = Threads::new(size, Duration::from_secs(60)).into_iter().map(|group| {
            let (runs, data) = (desk.runs(), &desk.data);
            scope.spawn(move || {
                let options = common::options(Arc::new(group));
                let run = Run::create(&runs, recipe.clone(), &runs, data, options)?;
                Ok((run.folder().to_owned(), run.execute()?))
            })
        });
        let threads: Vec<_> = threads.collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn the_error_of_one_process_ends_the_others_with_its_message() {
    let desk = Desk::new();
    fs::create_dir_all(desk.runs()).unwrap();
    // The first writes, and cannot: a folder is where the last network is to be.
    let begin = std::time::Instant::now();
    let results = thread::scope(|scope| {
        let threads = Threads::new(2, Duration::from_secs(60)).into_iter().map(|group| {
            let (runs, data) = (desk.runs(), &desk.data);
            scope.spawn(move || {
                let options = common::options(Arc::new(group));
                let run = Run::create(&runs, recipe(&[]), &runs, data, options).unwrap();
                if run.reports() {
                    let taken = run.folder().join("full_precision/last.safetensors/taken");
                    fs::create_dir_all(taken).unwrap();
                }
                run.execute().unwrap_err()
            })
        });
        let threads: Vec<_> = threads.collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    assert!(begin.elapsed() < Duration::from_secs(50));
    assert!(matches!(&results[0], TrainError::Io { .. }), "{}", results[0]);
    assert!(matches!(&results[1], TrainError::Peer { rank: 0, .. }), "{}", results[1]);
    assert!(results[1].to_string().contains("last.safetensors"), "{}", results[1]);
}

#[test]
fn unusable_images_do_not_part_processes() {
    let desk = Desk::new();
    fs::create_dir_all(desk.runs()).unwrap();
    let images = |part: &str| {
        let classes = fs::read_dir(desk.data.join(part)).unwrap();
        let mut images: Vec<PathBuf> = classes
            .flat_map(|class| fs::read_dir(class.unwrap().path()).unwrap())
            .map(|image| image.unwrap().path())
            .collect();
        images.sort();
        images
    };
    for path in [&images("train")[..3], &images("val")[..2]].concat() {
        fs::write(path, "no image").unwrap();
    }
    let broken = "data.max_broken=1.0";
    // Nine images a round: of the last four the third process has none.
    let kept = [
        broken,
        "phase.batch_size=3",
        "phase.last_batch=keep",
        "phase.shared_statistics=true",
        "phase.accumulate={ batches = 3 }",
    ];
    let own_statistics = [broken, "phase.batch_size=4"];
    for (changes, whole) in [(&kept[..], true), (&own_statistics[..], false)] {
        let results = together(&desk, 3, &recipe(changes));
        let results: Vec<_> = results.into_iter().map(Result::unwrap).collect();
        assert!(results.iter().all(|result| result.1.phases == results[0].1.phases));
        let score = results[0].1.quantized.unwrap();
        assert_eq!((score.images, score.skipped), (18, 2));
        let log = read_log(&results[0].0.join("log.jsonl")).unwrap();
        let named = |part: &str| {
            let skipped = log.iter().filter(
                |event| matches!(event, Event::ImageSkipped { reason } if reason.contains(part)),
            );
            skipped.count()
        };
        // Three epochs in all; evaluation follows each, whoever had the image. Dropped batches have
        // some too.
        let (train, val) = (named("/train/"), named("/val/"));
        assert!(if whole { train == 9 } else { train <= 9 }, "{train}");
        assert_eq!(val, 6);
    }
}
