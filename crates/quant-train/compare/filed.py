"""Writes the small checkpoints of tests/pytorch: one state, filed as public projects file theirs.

    python crates/quant-train/compare/filed.py crates/quant-train/tests/pytorch

The state is that of two layers: `stem.0.weight` [2, 1, 1, 1] holds 1 and 2, `fc.weight` [2, 2]
holds 3 to 6, `fc.bias` [2] holds 7 and 8. Needs torch.
"""

import argparse
import sys
from collections import OrderedDict
from pathlib import Path

import numpy
import torch

folder = Path(sys.argv[1])


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 1, bias=False))
        self.fc = torch.nn.Linear(2, 2)

    def forward(self, x):
        return self.fc(self.stem(x).mean((2, 3)))


network = Net()
state = network.state_dict()
state["stem.0.weight"].copy_(torch.tensor([1.0, 2.0]).view(2, 1, 1, 1))
state["fc.weight"].copy_(torch.tensor([[3.0, 4.0], [5.0, 6.0]]))
state["fc.bias"].copy_(torch.tensor([7.0, 8.0]))


def behind(prefix, values):
    return OrderedDict((prefix + name, value) for name, value in values.items())


def save(name, value, **options):
    torch.save(value, folder / name, **options)


save("plain.pth", state)
save("legacy.pth", state, _use_new_zipfile_serialization=False)
save("net_module.pth", {"net": behind("module.", state), "acc": 93.1, "epoch": 199})
save(
    "model_is_text.pth",
    {"model": "resnet18", "model_state_dict": state, "optimizer_state_dict": {}},
)
save(
    "with_arguments.pth.tar",
    {
        "arch": "resnet18",
        "state_dict": behind("module.", state),
        "best_acc1": torch.tensor(70.1),
        "args": argparse.Namespace(lr=0.1, ids=[0]),
        "np": numpy.float64(3.5),
    },
)
save("compiled.pth", {"model": behind("_orig_mod.", state)})
save("ddp_compiled.pth", behind("module._orig_mod.", state))
averaged = OrderedDict((name, value + 1) for name, value in state.items())
save("averaged.pth", {"state_dict": state, "state_dict_ema": averaged})
optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
network(torch.ones(1, 1, 1, 1)).sum().backward()
for parameter in network.parameters():
    parameter.grad.zero_()
optimizer.step()
save("with_optimizer.pth", {"weights_of_run": state, "optimizer": optimizer.state_dict()})
save("whole_module.pth", network)
save("whole_parallel.pth", torch.nn.DataParallel(network))
halves = OrderedDict((name, value.to(torch.bfloat16)) for name, value in state.items())
save("bfloat16.pth", halves)
last = OrderedDict(
    (name, value.to(memory_format=torch.channels_last) if value.dim() == 4 else value)
    for name, value in state.items()
)
save("channels_last.pth", last)
switches = OrderedDict(state)
switches["stem.0.activation_post_process.fake_quant_enabled"] = torch.tensor([1], dtype=torch.uint8)
switches["stem.0.activation_post_process.observer_enabled"] = torch.tensor([True])
save("switches.pth", switches)
