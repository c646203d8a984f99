//! torchvision's checkpoints, in every format, compute here what they compute in PyTorch.

use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor, TensorData};
use quant_core::qtool::QtoolOptions;
use quant_nn::{Network, StateDict, keywords::network};
use quant_train::WeightsFile;

fn folder() -> PathBuf {
    match std::env::var_os("QUANT_CHECKPOINTS") {
        Some(folder) => folder.into(),
        None => panic!("QUANT_CHECKPOINTS names no folder: see compare/checkpoints.py"),
    }
}

fn read(path: &Path) -> StateDict {
    WeightsFile::new(path).read().unwrap_or_else(|error| panic!("{error}"))
}

fn tensor(state: &StateDict, name: &str, device: &Device) -> Tensor<4> {
    let entry = state.get(name).unwrap_or_else(|| panic!("no {name}"));
    let mut shape = entry.shape.clone();
    shape.resize(4, 1);
    Tensor::from_data(TensorData::new(entry.values.clone(), shape), device)
}

#[test]
#[ignore = "needs files that compare/checkpoints.py writes with PyTorch"]
fn torchvisions_checkpoints_compute_what_they_do_in_pytorch() {
    let (folder, device) = (folder(), Device::flex());
    for name in ["resnet18", "resnet50", "resnext50_32x4d", "wide_resnet50_2"] {
        let expected = read(&folder.join(format!("{name}.expected.safetensors")));
        let images = tensor(&expected, "images", &device);
        let logits: Tensor<2> = tensor(&expected, "logits", &device).flatten(1, 3);
        for kind in ["zip.pth", "legacy.pth", "nested.pth.tar", "state.safetensors"] {
            let options = QtoolOptions::parse("imagenet", "--input_size 96");
            let options = options.unwrap_or_else(|error| panic!("{error}"));
            let config = network(&format!("pytorch-{name}"), &options);
            let config = config.unwrap_or_else(|error| panic!("{error}"));
            let fresh = config.init(&device).unwrap_or_else(|error| panic!("{error}"));
            let state = read(&folder.join(format!("{name}.{kind}")));
            let (ours, report): (Network, _) = state.load_into(fresh);
            assert!(report.is_complete(), "{name} {kind}: {report}");
            let difference = (ours.forward(images.clone()) - logits.clone()).square().sum();
            let error: f32 = (difference / logits.clone().square().sum()).sqrt().into_scalar();
            println!("{name} {kind}: relative error {error:.1e}");
            assert!(error < 1e-4, "{name} {kind}: {error}");
        }
    }
}
