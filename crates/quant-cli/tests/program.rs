//! Runs the `quant` program as its users do, on data that need no download.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

#[macro_use]
mod common;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use common::Desk;

const RECIPE: &str = concat!(
    tiny!(
        "kind = 'fake', fake = { train = 64, val = 20, classes = 10 }",
        "depth = 'resnet18', stem = 'imagenet', width_alpha = 0.04"
    ),
    sgd_phase!("full_precision", 1, 0.005, "clip_norm = 1.0\ncheckpoint_steps = 2"),
    sgd_phase!("quantized", 3, 0.001, "clip_norm = 1.0\ncheckpoint_steps = 2"),
    two_bits!()
);

fn last(run: &Path) -> Vec<u8> {
    fs::read(run.join("quantized/last.safetensors")).unwrap()
}

#[test]
fn several_devices_train_together_and_go_on() {
    let desk = Desk::new(RECIPE);
    let two =
        ["--devices", "2", "--set", "phase.shared_statistics=true", "--set", "phase.batch_size=4"];
    let said = desk.says(&[&["train", "tiny.toml"][..], &two[..]].concat());
    // The devices together print one result, that of one run.
    assert_eq!(said.matches("run folder: runs/tiny-001").count(), 1, "{said}");
    let run = desk.path("runs/tiny-001");
    let whole = last(&run);
    // The run is put into the state of one that was stopped before its last checkpoint.
    for name in ["last.safetensors", "result.json"] {
        fs::remove_file(run.join("quantized").join(name)).unwrap();
    }
    let steps = fs::read_dir(run.join("quantized/checkpoints")).unwrap();
    fs::remove_dir_all(steps.map(|step| step.unwrap().path()).max().unwrap()).unwrap();
    desk.says(&["resume", "runs/tiny-001", "--devices", "2"]);
    assert!(last(&run) == whole, "the weights differ");

    let eval = desk.quant(&["eval", "runs/tiny-001", "--devices", "2"]);
    assert_eq!(eval.status.code(), Some(2), "an evaluation has one device");
    assert!(
        desk.fails(&["queue", "tiny.toml", "--devices", "2", "--retries", "1"])
            .contains("--retries")
    );
    let error =
        desk.fails(&["train", "tiny.toml", "--devices", "2", "--set", "phase.batch_size=50"]);
    assert!(error.contains("64"), "{error}");
}

#[test]
fn train_eval_and_report() {
    let desk = Desk::new(RECIPE);
    let said = desk.says(&["train", "tiny.toml", "--set", "phase.epochs=1", "--set", "name=short"]);
    assert!(said.contains("run folder: runs/short-001"), "{said}");
    let quantized = said.lines().find_map(|line| line.strip_prefix("quantized:")).unwrap();
    let score = desk.says(&["eval", "runs/short-001"]);
    // The network and the images are the same, so the score is too.
    assert!(score.starts_with(quantized.trim()), "{score} is not {quantized}");
    let file = "runs/short-001/quantized/last.safetensors";
    assert_eq!(desk.says(&["eval", file, "--recipe", "tiny.toml"]), score);
    let resized =
        desk.says(&["eval", file, "--recipe", "tiny.toml", "--set", "data.input_size=64"]);
    assert!(resized.contains("for images of 32 pixels, but the recipe gives 64"), "{resized}");
    let other = ["eval", file, "--recipe", "tiny.toml", "--phase", "full_precision"];
    assert!(desk.fails(&other).contains("another network than that of phase"));
    let with_run = ["eval", "runs/short-001", "--set", "seed=2"];
    assert!(desk.fails(&with_run).contains("--set has no effect with a run"));
    let summary = desk.says(&["summary", "runs/short-001"]);
    assert!(summary.contains("layer1.0.conv1") && summary.contains("2/2"), "{summary}");
    assert_eq!(desk.says(&["summary", file]), summary);
    assert!(desk.fails(&["summary", "absent.pth"]).contains("no such file"));

    // The weights of the run, as integers, have 4 levels each, and those of its file are the same.
    let said = desk.says(&["codes", "runs/short-001", "-o", "codes.safetensors"]);
    let codes = fs::read(desk.path("codes.safetensors")).unwrap();
    let codes = safetensors::SafeTensors::deserialize(&codes).unwrap();
    let weight = codes.tensor("layer1.0.conv1.codes").unwrap();
    assert!(weight.data().iter().all(|code| *code < 4), "{said}");
    assert_eq!(codes.tensor("layer1.0.conv1.values").unwrap().shape()[1], 4);
    desk.says(&["codes", file, "--output", "same.safetensors"]);
    let [one, other] = ["codes.safetensors", "same.safetensors"];
    assert!(fs::read(desk.path(one)).unwrap() == fs::read(desk.path(other)).unwrap());
    let refused = desk.fails(&["codes", "resnet20", "-o", "none.safetensors"]);
    assert!(refused.contains("expected a run folder"), "{refused}");
    desk.says(&["eval", "runs/short-001", "--phase", "full_precision", "--best"]);
    fs::remove_file(desk.path("runs/short-001/report.html")).unwrap();
    desk.says(&["report", "runs/short-001"]);
    assert!(desk.path("runs/short-001/report.html").is_file());

    assert!(desk.fails(&["eval", file]).contains("--recipe"));
    assert!(desk.fails(&["report", "nowhere"]).contains("not a run folder"));
    assert!(desk.fails(&["train", "nobody"]).contains("quant recipe list"));
    assert!(desk.fails(&["train", "shapes-lsq-w2a"]).contains("did you mean shapes-lsq-w2a2?"));
    assert!(desk.fails(&["train", "tiny.toml", "--set", "sead=1"]).contains("did you mean `seed`"));
    assert!(desk.fails(&["train", "tiny.toml", "--device", "gpu"]).contains("flex"));
    assert!(desk.fails(&["train", "cifar10-resnet20-lsq-w2a2"]).contains("--data"));
}

#[test]
fn a_run_goes_on_as_its_user_says_and_refuses_what_is_not_its_own() {
    let desk = Desk::new(RECIPE);
    let short = ["--set", "phase.quantized.epochs=1"];
    desk.says(&[&["train", "tiny.toml"][..], &short[..]].concat());
    let run = "runs/tiny-001";
    let more = ["resume", run, "--set", "phase.quantized.epochs=3"];
    let output = desk.quant(&more);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{stderr}");
    assert!(stderr.contains("phase.quantized.epochs: 1 before, 3 now"), "{stderr}");
    // The learning rate is fixed, so three epochs in one run give the same weights.
    desk.says(&["train", "tiny.toml", "--set", "name=whole"]);
    assert!(last(&desk.path(run)) == last(&desk.path("runs/whole-001")), "the weights differ");

    let error = desk.fails(&["resume", run, "--set", "phase.quantized.batch_size=4"]);
    assert!(error.contains("phase.quantized.batch_size: 8 before, 4 now"), "{error}");
    let error = desk.fails(&["resume", run, "--devices", "2"]);
    assert!(error.contains("devices or processes: 2, expected 1"), "{error}");
    assert!(error.contains("--accept-changes"), "{error}");
    desk.says(&["resume", run, "--devices", "2", "--accept-changes"]);

    // Another run starts from the last network of this one.
    let weights = "runs/tiny-001/full_precision/last.safetensors";
    let from = ["train", "tiny.toml", "--init", weights, "--set", "name=from"];
    let output = desk.quant(&[&from[..], &short[..]].concat());
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && stderr.contains(weights), "{stderr}");
    // A check reads the weights that exist, and warns of those that do not.
    let fits = format!("phase.quantized.init={weights}");
    desk.says(&["recipe", "check", "tiny.toml", "--set", &fits]);
    let other = ["recipe", "check", "tiny.toml", "--set", &fits, "--set", "model.width_alpha=0.08"];
    assert!(desk.fails(&other).contains("another shape"));
    let said =
        desk.says(&["recipe", "check", "tiny.toml", "--set", "phase.full_precision.init=no.pth"]);
    assert!(said.contains("warning: phase \"full_precision\": init = no.pth"), "{said}");
    let itself = "phase.quantized.distillation={ teacher = 'quantized' }";
    assert!(desk.fails(&["recipe", "check", "tiny.toml", "--set", itself]).contains("itself"));
    let error = desk.fails(&["train", "tiny.toml", "--init", "absent.pth", "--set", "name=lost"]);
    assert!(error.contains("absent.pth") && !error.contains("resume"), "{error}");
    assert!(!desk.path("runs/lost-001").exists());
}

#[cfg(unix)]
#[test]
fn two_programs_do_not_write_in_one_run() {
    let desk = Desk::new(RECIPE);
    let mut command = desk.command(&["train", "tiny.toml", "--set", "phase.epochs=500"]);
    let mut child = command.stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    let run = desk.path("runs/tiny-001");
    wait_for_a_checkpoint(&run);
    for command in ["resume", "report"] {
        let error = desk.fails(&[command, "runs/tiny-001"]);
        assert!(error.contains(&format!("process {}", child.id())), "{error}");
        assert!(error.contains("train tiny.toml"), "{error}");
    }
    assert!(child.try_wait().unwrap().is_none());
    child.kill().unwrap();
    child.wait().unwrap();
    // The lock ended with its process.
    let error = desk.fails(&["report", "runs/tiny-001"]);
    assert!(error.contains("none of its phases is finished"), "{error}");
}

#[test]
fn a_queue_goes_on_after_a_failure_and_names_it() {
    let desk = Desk::new(RECIPE);
    // At this learning rate, the loss soon is not a number.
    let wild =
        RECIPE.replace("learning_rate = 0.005", "learning_rate = 1e30").replace("'tiny'", "'wild'");
    fs::write(desk.path("wild.toml"), wild).unwrap();
    let output = desk.quant(&[
        "queue",
        "wild.toml",
        "tiny.toml",
        "--retries",
        "1",
        "--set",
        "phase.epochs=1",
    ]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        error.contains("trying again") && error.contains("1 of 2 failed: wild.toml"),
        "{error}"
    );
    assert!(desk.path("runs/tiny-001/summary.json").is_file());
}

#[test]
fn recipes_that_come_with_the_program_are_sound() {
    let desk = Desk::new(RECIPE);
    let list = desk.says(&["recipe", "list"]);
    let names: Vec<&str> =
        list.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
    assert!(names.len() > 15);
    for name in ["shapes-lsq-w2a2", "imagenet-resnet18-n2uq-w2a2", "imagenet-mobilenet-react"] {
        assert!(names.contains(&name));
        assert!(desk.says(&["recipe", "check", name]).contains("epochs"));
        let shown = desk.says(&["recipe", "show", name]);
        fs::write(desk.path("shown.toml"), &shown).unwrap();
        assert_eq!(desk.says(&["recipe", "show", "shown.toml"]), shown);
    }
    for (name, text) in quant_cli::recipes::RECIPES {
        let recipe = quant_train::Recipe::parse(text, Path::new(name)).unwrap();
        assert_eq!(recipe.name, *name);
    }
}

#[test]
fn a_configuration_of_qtool_is_imported() {
    let desk = Desk::new(RECIPE);
    let text = "dataset=cifar10\nroot=$FASTDIR/cifar\nmodel=resnet20\n\
                keyword=\"cifar10,origin,cbsa,fix,lq\"\n\
                options=\"--fm_bit 2 --fm_enable --wt_bit 2 --wt_enable --lr 0.1\"\n";
    fs::write(desk.path("config.lq"), text).unwrap();
    let output = desk
        .command(&["recipe", "import", "config.lq", "-o", "lq.toml"])
        .env("FASTDIR", "/fast")
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("quant train lq.toml --data /fast/cifar"), "{said}");
    assert!(desk.says(&["recipe", "show", "lq.toml"]).contains("lq-nets"));
}

#[test]
fn an_import_prints_what_became_of_everything_and_what_to_type_next() {
    let desk = Desk::new(RECIPE);
    let text = "dataset='imagenet'\nroot=/images\nmodel='pytorch-resnet18'\n\
                keyword='imagenet,dorefa,lsq,save'\n\
                options=\"$options --pretrained best.pth -e -j2\"\n\
                options=\"$options --fm_bit 2 --fm_enable --wt_bit 2 --wt_enable \
                --fm_grad_type STE\"\n";
    fs::write(desk.path("config.lsq"), text).unwrap();
    let said = desk.says(&["recipe", "import", "config.lsq", "-o", "lsq.toml"]);
    for part in [
        "workers 2 ",
        "warning: keyword \"save\" is not one that QTool acts on",
        "warning: --fm_grad_type: \"STE\" has no effect with lsq",
        "to evaluate: quant eval best.pth --recipe lsq.toml --data /images",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    desk.says(&["recipe", "check", "lsq.toml"]);
}

#[test]
fn data_are_sharded_checked_and_trained_on() {
    let desk = Desk::new(RECIPE);
    let shapes = quant_data::dataset::shapes::ShapesConfig {
        side: 32,
        train_per_class: 4,
        val_per_class: 2,
        seed: 1,
    };
    let folder = shapes.render(desk.folder.path()).unwrap();
    let folder = folder.to_str().unwrap();
    assert!(desk.says(&["data", "shard", folder, "shards"]).contains("40 images in 1 file in"));
    let said = desk.says(&["data", "check", "shards", "--format", "shards"]);
    assert!(said.contains("training: 40 images, 10 classes, 0 unusable"), "{said}");
    let more = ["--set", "data={ kind = 'shards', input_size = 32 }", "--set", "phase.epochs=1"];
    desk.says(&[&["train", "tiny.toml", "--data", "shards"], &more[..]].concat());

    let image = fs::read_dir(Path::new(folder).join("val")).unwrap().next().unwrap().unwrap();
    fs::write(image.path().join("broken.jpg"), "no image").unwrap();
    // The report is printed as the result, and the error is one line.
    let output = desk.quant(&["data", "check", folder]);
    let [report, error] = [output.stdout, output.stderr].map(|x| String::from_utf8(x).unwrap());
    assert_eq!(output.status.code(), Some(1));
    assert!(report.contains("validation: 21 images, 10 classes, 1 unusable"), "{report}");
    assert!(report.contains("broken.jpg: not a usable image"), "{report}");
    assert_eq!(error, "error: 1 image is unusable\n");
}

#[test]
fn a_check_reads_tiny_imagenet_and_says_what_is_unusual() {
    let desk = Desk::new(RECIPE);
    let jpeg = quant_data::RgbImage::new(8, 8).to_jpeg(80).unwrap();
    let put = |path: &str| {
        let path = desk.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, &jpeg).unwrap();
    };
    for path in ["train/n01/images/0.JPEG", "train/n02/images/0.JPEG", "val/images/0.JPEG"] {
        put(&format!("tiny/{path}"));
    }
    fs::write(desk.path("tiny/val/val_annotations.txt"), "0.JPEG\tn02\t0\t0\t8\t8\n").unwrap();
    let said = desk.says(&["data", "check", "tiny"]);
    assert!(said.contains("training: 2 images, 2 classes, 0 unusable"), "{said}");
    assert!(said.contains("validation: 1 image, 2 classes, 0 unusable"), "{said}");
    assert!(said.contains("1 class has no images here: n01"), "{said}");

    let folder = desk.path("cifar-10-batches-bin");
    fs::create_dir(&folder).unwrap();
    for number in 1..6 {
        fs::write(folder.join(format!("data_batch_{number}.bin")), [number; 3073]).unwrap();
    }
    let check = ["data", "check", ".", "--format", "cifar10"];
    let error = desk.fails(&check);
    assert!(error.contains("missing: test_batch.bin"), "{error}");
    fs::write(folder.join("test_batch.bin"), [7; 3073]).unwrap();
    let said = desk.says(&check);
    assert!(said.contains("training: 5 images") && said.contains("50000 images"), "{said}");
}

#[cfg(unix)]
#[test]
fn a_run_waits_for_another_process() {
    let desk = Desk::new(RECIPE);
    let mut other = Command::new("sleep").arg("2").spawn().unwrap();
    let number = other.id().to_string();
    let reap = thread::spawn(move || other.wait().unwrap());
    let before = std::time::Instant::now();
    desk.says(&["train", "tiny.toml", "--after", &number, "--set", "phase.epochs=1"]);
    assert!(before.elapsed() > Duration::from_secs(2));
    reap.join().unwrap();
}

/// Waits until a run has a checkpoint.
fn wait_for_a_checkpoint(run: &Path) {
    for _ in 0..12_000 {
        if run.join("full_precision/checkpoints").is_dir() {
            return;
        }
        thread::sleep(Duration::from_millis(5));
    }
    panic!("no checkpoint after a minute");
}

/// Sends a signal, such as `TERM`, to a process.
#[cfg(unix)]
fn send(signal: &str, process: u32) {
    let sent = Command::new("kill").args([&format!("-{signal}"), &process.to_string()]).status();
    assert!(sent.unwrap().success());
}

#[cfg(unix)]
#[test]
fn signals_stop_a_run_after_its_step_and_it_goes_on_to_the_same_weights() {
    let desk = Desk::new(RECIPE);
    desk.says(&["train", "tiny.toml", "--set", "name=whole"]);
    for signal in ["INT", "TERM"] {
        let mut command = desk.command(&["train", "tiny.toml", "--set", &format!("name={signal}")]);
        let child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let run = desk.path(&format!("runs/{signal}-001"));
        wait_for_a_checkpoint(&run);
        send(signal, child.id());
        let output = child.wait_with_output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(75), "{signal}: {told}");
        assert!(told.contains("quant resume"), "{told}");
        desk.says(&["resume", run.to_str().unwrap()]);
        assert!(last(&run) == last(&desk.path("runs/whole-001")), "{signal}: the weights differ");
    }
}

#[cfg(unix)]
#[test]
fn a_second_interrupt_ends_the_program_at_once() {
    // One step takes longer than the time between the signals.
    let slow = ["--set", "model.width_alpha=1", "--set", "phase.batch_size=64"];
    let desk = Desk::new(RECIPE);
    let mut command = desk.command(&[&["train", "tiny.toml"][..], &slow[..]].concat());
    let mut child = command.stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    let run = desk.path("runs/tiny-001");
    for _ in 0..12_000 {
        if run.join("log.jsonl").is_file() {
            break;
        }
        thread::sleep(Duration::from_millis(5));
    }
    while child.try_wait().unwrap().is_none() {
        send("INT", child.id());
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

/// A run can be resumed after its process was killed at any moment, and its final weights are then
/// the same, bit for bit, as those of a run that was never killed.
#[cfg(unix)]
#[test]
fn fifty_kills_change_nothing() {
    let kills: usize = std::env::var("QUANT_FAULTS").map_or(50, |count| count.parse().unwrap());
    let desk = Desk::new(RECIPE);
    desk.says(&["train", "tiny.toml", "--set", "name=whole"]);
    // The run has 32 steps, with a checkpoint at every second step and at the end of each epoch.
    let mut command = desk.command(&["train", "tiny.toml"]);
    let mut child = command.stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    let run = desk.path("runs/tiny-001");
    let mut finished = false;
    let mut random = quant_data::random::Random::new(&[5]);
    for _ in 0..12_000 {
        if run.join("run.json").is_file() {
            break;
        }
        thread::sleep(Duration::from_millis(5));
    }
    for kill in 0..kills {
        thread::sleep(Duration::from_millis(20 + random.below(250) as u64));
        // Half of the kills are between the first byte of a file and its final name.
        for _ in 0..if kill % 2 == 0 { 2_000 } else { 0 } {
            if is_writing(&run) || child.try_wait().unwrap().is_some() {
                break;
            }
            thread::sleep(Duration::from_micros(100));
        }
        finished |= child.try_wait().unwrap().is_some_and(|status| status.success());
        child.kill().unwrap();
        child.wait().unwrap();
        let resume = ["resume", run.to_str().unwrap()];
        let mut command = desk.command(&resume);
        child = command.stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        if finished {
            // The run starts over, because a process that is killed must be training.
            child.kill().unwrap();
            child.wait().unwrap();
            assert!(last(&run) == last(&desk.path("runs/whole-001")), "the weights differ");
            fs::remove_dir_all(run.join("quantized")).unwrap();
            fs::remove_dir_all(run.join("full_precision")).unwrap();
            child =
                desk.command(&resume).stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
            finished = false;
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
    desk.says(&["resume", run.to_str().unwrap()]);
    assert!(last(&run) == last(&desk.path("runs/whole-001")), "the weights differ");
    let left = partial(&desk.path("runs"));
    assert!(left.is_empty(), "{left:?}");
}

/// Returns whether a folder has files or folders that are not complete yet. What goes away
/// meanwhile does not count.
fn is_writing(folder: &Path) -> bool {
    fs::read_dir(folder).into_iter().flatten().flatten().any(|entry| {
        entry.file_name().to_string_lossy().contains("partial") || is_writing(&entry.path())
    })
}

/// Returns the files and folders that were left incomplete.
fn partial(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if name.contains("partial") {
            found.push(entry.path());
        } else if entry.file_type().unwrap().is_dir() {
            found.extend(partial(&entry.path()));
        }
    }
    found
}

/// A limit on the size of files stands for a full disk.
#[cfg(unix)]
#[test]
fn a_full_disk_is_an_error_and_the_checkpoints_stay() {
    let desk = Desk::new(RECIPE);
    desk.says(&["train", "tiny.toml", "--set", "name=whole"]);
    desk.says(&["train", "tiny.toml"]);
    let run = desk.path("runs/tiny-001");
    // The run is put back to the middle of its second phase.
    let quantized = run.join("quantized");
    fs::remove_file(quantized.join("result.json")).unwrap();
    fs::remove_file(quantized.join("last.safetensors")).unwrap();
    let checkpoints = || {
        let entries = fs::read_dir(quantized.join("checkpoints")).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    assert_eq!(checkpoints(), ["step-000000022", "step-000000024"]);
    fs::remove_dir_all(quantized.join("checkpoints/step-000000024")).unwrap();
    // The limit is in blocks of 512 bytes, and is smaller than a network.
    let script = format!(
        "trap '' XFSZ; ulimit -f 100; exec {} resume {}",
        env!("CARGO_BIN_EXE_quant"),
        run.display()
    );
    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("step-000000024") && error.contains("File too large"), "{error}");
    assert_eq!(checkpoints(), ["step-000000022"]);
    desk.says(&["resume", run.to_str().unwrap()]);
    assert!(last(&run) == last(&desk.path("runs/whole-001")), "the weights differ");
}
