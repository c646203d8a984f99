"""Writes torchvision checkpoints with random weights, and what PyTorch computes with them.

    python crates/quant-train/compare/checkpoints.py /tmp/checkpoints
    export QUANT_CHECKPOINTS=/tmp/checkpoints
    cargo test --release --workspace --test checkpoints -- --ignored

Needs torch, torchvision and safetensors.
"""

import sys
from pathlib import Path

import torch
import torchvision
from safetensors.torch import save_file

folder = Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)
torch.manual_seed(1)
images = torch.randn(2, 3, 96, 96)
for name in ["resnet18", "resnet50", "resnext50_32x4d", "wide_resnet50_2"]:
    network = getattr(torchvision.models, name)(weights=None)
    network.train()
    for _ in range(3):  # running statistics that are not the first ones
        network(torch.randn(4, 3, 96, 96))
    network.eval()
    with torch.no_grad():
        logits = network(images)
    save_file({"images": images, "logits": logits}, folder / f"{name}.expected.safetensors")
    state = network.state_dict()
    torch.save(state, folder / f"{name}.zip.pth")
    torch.save(state, folder / f"{name}.legacy.pth", _use_new_zipfile_serialization=False)
    parallel = {f"module.{key}": value for key, value in state.items()}
    nested = {"epoch": 3, "arch": name, "state_dict": parallel}
    torch.save(nested, folder / f"{name}.nested.pth.tar")
    save_file(state, folder / f"{name}.state.safetensors")
    print(name, logits.abs().mean().item())
