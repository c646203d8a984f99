//! Configuration files of QTool become recipes.

use std::{collections::BTreeMap, path::Path};

use quant_core::{Method, Role};
use quant_train::{
    Recipe, TrainError,
    data::DataKind,
    loss::DistillationKind,
    optimizer::Optimizer,
    policy::Trigger,
    qtool::{
        config::ShellConfig,
        import::{Import, import},
    },
    schedule::Schedule,
};

const CONFIG: &str = r#"
    dataset=imagenet
    root=$FASTDIR/imagenet
    model=resnet18
    case="dorefa 2/2"
    keyword="imagenet,origin,cbsa,fix,dorefa,pact,label-smooth"
    pretrained=weights/resnet18.pth
    train_batch=128   # per step
    val_batch=50
    epochs=90
    options=""
    options="$options --lr 0.01 --lr_policy sgdr_step --lr_custom_step 30,60 --eta_min 1e-6"
    options="$options --wd 1e-4 --custom_decay_list clip_val --custom_decay 0.001 --nesterov --grad_clip 5"
    options="$options --fm_bit 2 --fm_enable --wt_bit 2 --wt_enable --stable 100 --fm_correlate 0.9"
    options="$options --iter-size 2 --warmup 10 --wakeup 20 --extra_epoch 3 --save_freq 5 --seed 7 --aa -j 4"
    options="$options --mixup_enable --distill_teacher t.safetensors --distill_loss_type hard"
    options="$options --policy my.policy --evaluate --device-ids 0 --nonsense 3"
"#;

fn read(text: &str) -> Result<Import, TrainError> {
    let outside = BTreeMap::from([("FASTDIR".to_owned(), "/data".to_owned())]);
    import(&ShellConfig::parse(text, &outside), |file| {
        assert_eq!(file, "my.policy");
        Ok("on epoch: 2\nby_index: all\nby_tag: wt\nlevel_num: 2\n".to_owned())
    })
}

#[test]
fn every_setting_finds_its_place() {
    let Import { recipe, data, outcomes, warnings } = read(CONFIG).unwrap();
    assert_eq!(
        (recipe.name.as_str(), recipe.seed, data.as_deref()),
        ("dorefa-2-2", 7, Some("/data/imagenet"))
    );
    assert_eq!((recipe.data.kind, recipe.data.input_size), (DataKind::ImageFolder, 224));
    assert_eq!((recipe.data.workers, recipe.data.eval_batch_size), (4, 50));
    assert_eq!(recipe.data.train.as_ref().unwrap().0.len(), 4);
    let phase = &recipe.phases[0];
    assert_eq!((phase.epochs, phase.extra_epochs, phase.batch_size), (90, 3, 128));
    assert_eq!((phase.ramp_batches, phase.frozen_batches, phase.keep_every), (20, 10, Some(5)));
    let accumulate = phase.accumulate.unwrap();
    assert_eq!((accumulate.batches, accumulate.sum), (2, true));
    assert_eq!(
        (phase.learning_rate, phase.clip_norm, phase.label_smoothing),
        (0.01, Some(5.0), 0.1)
    );
    let Schedule::SgdrStep { steps, eta_min, restarts, .. } = &phase.schedule else { panic!() };
    assert_eq!((steps.as_slice(), *eta_min, *restarts), (&[30, 60][..], 1e-6, false));
    assert_eq!(phase.optimizer, Optimizer::Sgd { momentum: 0.9, nesterov: true });
    assert_eq!(phase.groups.exceptions[0].weight_decay, Some(0.001));
    assert_eq!(phase.mixing.unwrap().mixup, Some(0.7));
    let distillation = phase.distillation.as_ref().unwrap();
    assert_eq!((distillation.kind, distillation.weight), (DistillationKind::Hard, 0.1));
    assert_eq!(phase.init.as_deref(), Some("weights/resnet18.pth"));
    let quantization = phase.quantization.as_ref().unwrap();
    let method = |role| quantization.of(role).map(|quantizer| (quantizer.method, quantizer.bits));
    assert_eq!(method(Role::Activation), Some((Method::Pact, Some(2))));
    assert_eq!(method(Role::Weight), Some((Method::Dorefa, Some(2))));
    assert_eq!(method(Role::Output), None);
    let warm_up = quantization.warm_up.as_ref().unwrap();
    assert_eq!((warm_up.steps, warm_up.correlate), (100, 0.9));
    assert_eq!(phase.policies[0].at, Trigger::Epoch(2));
    // Every setting has an outcome, but for the one that is not known.
    let became =
        |setting: &str| outcomes.iter().find(|o| o.setting == setting).map(|o| o.became.as_str());
    assert_eq!(became("train_batch"), Some("phase.batch_size"));
    assert!(became("evaluate").unwrap().contains("quant eval"));
    assert!(warnings.iter().any(|warning| warning.contains("nonsense")), "{warnings:?}");
    // What was written reads back.
    let again = Recipe::parse(&recipe.to_toml().unwrap(), Path::new("again.toml")).unwrap();
    assert_eq!(again, recipe);
}

#[test]
fn a_full_precision_configuration_has_no_quantizers() {
    let text = "dataset=cifar10\nmodel=resnet20\nkeyword=\"cifar10,origin,cbsa,fix\"\noptions=\"--lr 0.1\"";
    let recipe = read(text).unwrap().recipe;
    assert!(recipe.phases[0].quantization.is_none());
    assert_eq!((recipe.data.kind, recipe.data.input_size), (DataKind::Cifar10, 32));
    assert_eq!((recipe.phases[0].epochs, recipe.phases[0].batch_size, recipe.seed), (40, 256, 2));
}

#[test]
fn what_cannot_be_is_named() {
    for (from, to, part) in [
        ("dataset=imagenet", "dataset=mnist", "mnist"),
        ("--lr 0.01", "--lr fast", "lr"),
        ("--seed 7", "--seed seven", "--seed"),
        ("model=resnet18", "model=resnet19", "resnet19"),
        ("origin,cbsa", "origin,cbsx", "cbsx"),
        ("--aa", "--mean 1,2", "--mean"),
        ("--aa", "stray", "stray"),
        ("--fm_correlate 0.9", "--fm_correlate x", "fm_correlate"),
        ("--distill_loss_type hard", "--distill_loss_type loud", "loud"),
        ("--aa", "--opt_level O7", "O7"),
    ] {
        assert!(CONFIG.contains(from));
        let text = CONFIG.replace(from, to);
        let error = read(&text).unwrap_err().to_string();
        assert!(error.contains(part), "{to}: {error}");
    }
}

#[test]
fn the_guide_names_every_option() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/training.md");
    let guide = std::fs::read_to_string(path).unwrap();
    for (option, became) in quant_train::qtool::import::OPTIONS {
        assert!(guide.contains(&format!("| `--{option}` | {became} |\n")), "--{option}");
    }
}
