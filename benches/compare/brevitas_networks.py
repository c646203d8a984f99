"""Exports the example networks of Brevitas, with random weights, as QONNX and as QCDQ.

    python brevitas_networks.py FOLDER [NAME ...]

The networks are those of the package `brevitas_examples`: its classifiers of small images
(TFC, LFC, CNV, ResNet-18) and MobileNet v1. Batch norms get random statistics, so that every node
has something to do. FOLDER gets NAME.qonnx.onnx and NAME.qcdq.onnx.

Needs, by pip install: brevitas==0.13.4 onnx onnxoptimizer qonnx torch==2.4.1
torchvision==0.19.1 "setuptools<70"
"""

import pathlib
import sys

import torch
from brevitas.export import export_onnx_qcdq, export_qonnx

SMALL = {
    "tfc-1w1a": ("tfc_1w1a", (1, 28, 28)),
    "lfc-1w1a": ("lfc_1w1a", (1, 28, 28)),
    "tfc-2w2a": ("tfc_2w2a", (1, 28, 28)),
    "cnv-1w1a": ("cnv_1w1a", (3, 32, 32)),
    "cnv-1w2a": ("cnv_1w2a", (3, 32, 32)),
    "cnv-2w2a": ("cnv_2w2a", (3, 32, 32)),
    "resnet18-4w4a": ("resnet18_4w4a", (3, 32, 32)),
}


def small(name):
    from brevitas_examples.bnn_pynq.models import model_with_cfg

    network, _ = model_with_cfg(name, pretrained=False)
    return network


def mobilenet():
    from brevitas_examples.imagenet_classification.models import model_with_cfg

    network, _ = model_with_cfg("quant_mobilenet_v1_4b", pretrained=None)
    return network


def randomise(network):
    """Gives batch norms the statistics of some random images, and random factors."""
    for module in network.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.uniform_(module.bias, -0.3, 0.3)


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(exist_ok=True)
    names = sys.argv[2:] or [*SMALL, "mobilenet-v1-4b"]
    for name in names:
        torch.manual_seed(1)
        if name in SMALL:
            network, shape = small(SMALL[name][0]), SMALL[name][1]
        else:
            network, shape = mobilenet(), (3, 224, 224)
        randomise(network)
        network.train()
        with torch.no_grad():
            for _ in range(3):
                network(torch.rand(8, *shape))
        network.eval()
        image = torch.rand(1, *shape)
        for kind, export in (("qonnx", export_qonnx), ("qcdq", export_onnx_qcdq)):
            path = folder / f"{name}.{kind}.onnx"
            try:
                export(network, args=image, export_path=str(path), opset_version=13)
                print(f"written: {path}")
            except Exception as error:
                print(f"{path}: {str(error).splitlines()[0]}")


main()
