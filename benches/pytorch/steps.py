"""Measures training steps of CIFAR ResNet-20 and ImageNet ResNet-18 in PyTorch.

The benchmarks `qat-overhead`, `imagenet` and, on a GPU, `conv` of quant-benches compare their own
times with the file written here: `quant-benches qat-overhead --pytorch FILE`.

    python3 -m venv venv && venv/bin/pip install -r requirements.txt
    venv/bin/python steps.py --threads 2 --json steps.json
    venv/bin/python steps.py --device cuda --batch 64 --bf16 --compile --json steps.json

On a GPU, tensors are in the order channels_last, and products of 32 bits may use TF32. The passes
of ResNet-18's convolutions are measured there too.

The quantizers are composed of tensor operations, from the papers' formulas: LSQ (Esser et al.
2020) by its clipping value, DoReFa (Zhou et al. 2016), PACT (Choi et al. 2018), XNOR-Net
(Rastegari et al. 2016) with a clipped estimator, and LQ-Nets (Zhang et al. 2018).
"""

import argparse
import json
import platform
import time

import torch
from torch import nn
from torch.nn import functional as F


def rounded(u):
    return u + (u.round() - u).detach()


class ClipQuantize(nn.Module):
    """Levels 0..n (or -n..n in steps of 2) of the clipping value, which is learned."""

    def __init__(self, bits, signed, learned):
        super().__init__()
        self.steps, self.signed = 2**bits - 1, signed
        self.clip_val = nn.Parameter(torch.tensor(1.0), requires_grad=learned)

    def forward(self, x):
        v = x / self.clip_val
        if self.signed:
            u = (v.clamp(-1, 1) + 1) / 2
            return (rounded(u * self.steps) / self.steps * 2 - 1) * self.clip_val
        return rounded(v.clamp(0, 1) * self.steps) / self.steps * self.clip_val


class Pact(nn.Module):
    def __init__(self, bits):
        super().__init__()
        self.steps = 2**bits - 1
        self.alpha = nn.Parameter(torch.tensor(8.0))

    def forward(self, x):
        y = torch.minimum(x.clamp(min=0), self.alpha)
        scale = self.steps / self.alpha.detach()
        return rounded(y * scale) / scale


class DorefaWeight(nn.Module):
    def __init__(self, bits):
        super().__init__()
        self.steps = 2**bits - 1

    def forward(self, w):
        t = w.tanh()
        u = t / (2 * t.abs().max()) + 0.5
        return 2 * rounded(u * self.steps) / self.steps - 1


class Sign(nn.Module):
    def __init__(self, weight):
        super().__init__()
        self.weight = weight

    def forward(self, x):
        clipped = x.clamp(-1, 1)
        sign = clipped + (torch.where(x >= 0, 1.0, -1.0) - clipped).detach()
        return sign * x.abs().mean((1, 2, 3), keepdim=True) if self.weight else sign


class LqNets(nn.Module):
    """Levels that are sums of a basis, which follows its least squares fit to the data."""

    def __init__(self, bits, signed):
        super().__init__()
        codes = torch.arange(2**bits)[:, None] >> torch.arange(bits) & 1
        self.register_buffer("codes", (2 * codes - 1 if signed else codes).float())
        self.register_buffer("basis", 0.5 * 2.0 ** torch.arange(bits))
        self.signed = signed

    def forward(self, x):
        with torch.autocast(x.device.type, enabled=False):
            return self.quantized(x.float())

    def quantized(self, x):
        levels, order = (self.codes @ self.basis).sort()
        index = torch.bucketize(x.detach(), (levels[1:] + levels[:-1]) / 2)
        if self.training:
            self.fit(x.detach(), self.codes[order][index])
        passed = x if self.signed else torch.where(x < levels[-1], x, levels[-1])
        return passed + (levels[index] - passed).detach()

    def fit(self, x, codes):
        codes, x = codes.reshape(-1, len(self.basis)), x.reshape(-1)
        squares, products = codes.T @ codes, codes.T @ x
        # Digits that are the same in all codes make the equations singular without the addition.
        squares = squares + 1e-4 * squares.trace() * torch.eye(len(products), device=x.device)
        fitted, _ = torch.linalg.solve_ex(squares, products)
        self.basis.mul_(0.9).add_(fitted, alpha=0.1)


QUANTIZERS = {
    "full-precision": lambda: (None, None),
    "lsq-w2a2": lambda: (ClipQuantize(2, False, True), ClipQuantize(2, True, True)),
    "dorefa-w2a2": lambda: (ClipQuantize(2, False, False), DorefaWeight(2)),
    "pact-w2a2": lambda: (Pact(2), DorefaWeight(2)),
    "xnor-w1a1": lambda: (Sign(False), Sign(True)),
    "lq-nets-w2a2": lambda: (LqNets(2, False), LqNets(2, True)),
}

# The convolutions of ResNet-18: input channels, output channels, side, kernel size, stride.
CONVOLUTIONS = (
    (3, 64, 224, 7, 2),
    (64, 64, 56, 3, 1),
    (64, 128, 56, 3, 2),
    (64, 128, 56, 1, 2),
    (128, 128, 28, 3, 1),
    (128, 256, 28, 3, 2),
    (128, 256, 28, 1, 2),
    (256, 256, 14, 3, 1),
    (256, 512, 14, 3, 2),
    (256, 512, 14, 1, 2),
    (512, 512, 7, 3, 1),
)


class Conv(nn.Conv2d):
    def __init__(self, inputs, outputs, kernel, stride, method):
        super().__init__(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        self.activation, self.quantizer = QUANTIZERS[method]()

    def forward(self, x):
        w = self.weight
        if self.activation is not None:
            x, w = self.activation(x), self.quantizer(w)
        return F.conv2d(x, w, None, self.stride, self.padding)


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride, method):
        super().__init__()
        self.conv1, self.bn1 = Conv(inputs, outputs, 3, stride, method), nn.BatchNorm2d(outputs)
        self.conv2, self.bn2 = Conv(outputs, outputs, 3, 1, method), nn.BatchNorm2d(outputs)
        self.downsample = None
        if stride > 1:
            conv = Conv(inputs, outputs, 1, stride, method)
            self.downsample = nn.Sequential(conv, nn.BatchNorm2d(outputs))

    def forward(self, x):
        y = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        return (y + (x if self.downsample is None else self.downsample(x))).relu()


def resnet20(method):
    layers = [Conv(3, 16, 3, 1, "full-precision"), nn.BatchNorm2d(16), nn.ReLU()]
    inputs = 16
    for outputs in (16, 32, 64):
        for index in range(3):
            layers.append(Block(inputs, outputs, 2 if index == 0 and outputs > 16 else 1, method))
            inputs = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def resnet18(method):
    layers = [Conv(3, 64, 7, 2, "full-precision"), nn.BatchNorm2d(64), nn.ReLU()]
    layers.append(nn.MaxPool2d(3, 2, 1))
    inputs = 64
    for outputs in (64, 128, 256, 512):
        for index in range(2):
            layers.append(Block(inputs, outputs, 2 if index == 0 and outputs > 64 else 1, method))
            inputs = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 1000))


class Side:
    def __init__(self, model, arguments):
        self.model = model.to(arguments.device)
        self.device, self.bf16 = arguments.device, arguments.bf16
        if arguments.device != "cpu":
            self.model = self.model.to(memory_format=torch.channels_last)
        self.run = self.model
        if arguments.compile:
            self.run = torch.compile(self.model, dynamic=False)
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.SGD(parameters, 0.01, momentum=0.9, nesterov=True)
        self.seconds = []

    def seconds_of_step(self, images, labels, steps):
        wait(self.device)
        start = time.perf_counter()
        for _ in range(steps):
            self.optimizer.zero_grad()
            with torch.autocast(self.device, torch.bfloat16, enabled=self.bf16):
                loss = F.cross_entropy(self.run(images), labels)
            loss.backward()
            self.optimizer.step()
        wait(self.device)
        return (time.perf_counter() - start) / steps

def median(values):
    return sorted(values)[len(values) // 2]


def convolutions(batch, rounds, arguments):
    """Returns the seconds of each pass of each convolution."""
    dtype = torch.bfloat16 if arguments.bf16 else torch.float32
    rows = {}

    def random(*shape):
        tensor = torch.rand(*shape, device=arguments.device, dtype=dtype)
        return tensor.to(memory_format=torch.channels_last)

    for inputs, outputs, side, kernel, stride in CONVOLUTIONS:
        after = -(-side // stride)
        x, w = random(batch, inputs, side, side), random(outputs, inputs, kernel, kernel)
        g = random(batch, outputs, after, after)
        strides, padding = (stride, stride), (kernel // 2, kernel // 2)

        def backward(*mask):
            return torch.ops.aten.convolution_backward(
                g, x, w, None, strides, padding, (1, 1), False, (0, 0), 1, (*mask, False)
            )

        passes = {
            "forward": lambda: F.conv2d(x, w, None, strides, padding),
            "gradient of x": lambda: backward(True, False),
            "gradient of w": lambda: backward(False, True),
        }
        for name, run in passes.items():
            seconds = []
            for index in range(rounds + 1):
                wait(arguments.device)
                start = time.perf_counter()
                for _ in range(10):
                    run()
                wait(arguments.device)
                if index:
                    seconds.append((time.perf_counter() - start) / 10)
            rows[f"conv {inputs}-{outputs} {side} k{kernel} s{stride}, {name}"] = median(seconds)
    return rows


def wait(device):
    if device != "cpu":
        torch.cuda.synchronize()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--batch", type=int, help="of ResNet-18 and of convolutions; by default 16")
    parser.add_argument("--bf16", action="store_true", help="products in bf16, by autocast")
    parser.add_argument("--compile", action="store_true", help="by torch.compile")
    arguments = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    # All networks run the same code of nn.Sequential, which is compiled for each of them.
    torch._dynamo.config.recompile_limit = 64
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(1)
    cifar = {method: Side(resnet20(method), arguments) for method in QUANTIZERS}
    methods = ("full-precision", "lsq-w2a2")
    if arguments.device != "cpu":
        methods = QUANTIZERS
    imagenet = {"imagenet-" + method: Side(resnet18(method), arguments) for method in methods}
    batch = arguments.batch or 16
    tasks = [(cifar, 128, 32, 10, arguments.rounds), (imagenet, batch, 224, 1000, 5)]
    rows = {}
    for sides, count, side, classes, rounds in tasks:
        images = torch.rand(count, 3, side, side, device=arguments.device)
        if arguments.device != "cpu":
            images = images.to(memory_format=torch.channels_last)
        labels = torch.arange(count, device=arguments.device) % classes
        # The first round warms up. On a GPU, a round is ten steps, as in quant-benches.
        steps = 1 if arguments.device == "cpu" else 10
        for index in range(rounds + 1):
            for name in sides:
                seconds = sides[name].seconds_of_step(images, labels, steps if index else 1)
                if index:
                    sides[name].seconds.append(seconds)
        rows.update((name, median(sides[name].seconds)) for name in sides)
    if arguments.device != "cpu":
        rows.update(convolutions(batch, arguments.rounds, arguments))
    result = {
        "version": torch.__version__,
        "machine": platform.machine(),
        "device": arguments.device,
        "bf16": arguments.bf16,
        "compiled": arguments.compile,
        "threads": arguments.threads,
        "batch": batch,
        "seconds": rows,
    }
    print(json.dumps(result, indent=2))
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(result, file)


if __name__ == "__main__":
    main()
