"""The networks that `engines.py` measures, as ONNX models with random weights.

Each network is built twice by the same function: in f32, and as int8 in QDQ form, where a pair of
QuantizeLinear and DequantizeLinear stands at each value that an engine shall hold as bytes. The
weights are int8, symmetric, with a scale for each output channel. Activations have one scale: they
are u8 after a ReLU and int8 elsewhere, and their zero point is zero. Biases are int32. All
convolutions are quantized, the first one included, and so is the classifier, whose scores are f32.
Both summands of a residual block are int8: ONNX Runtime adds bytes then, and OpenVINO adds within
the convolution.

Batch norm is folded into the convolutions, as engines do, so a convolution has a bias.
"""

import numpy
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 17


class Builder:
    """Adds layers to an ONNX graph. A value is the name of a tensor.

    `magnitudes` holds the largest magnitude of each activation; without it the graph is f32.
    """

    def __init__(self, side, magnitudes=None):
        # Both forms draw the same weights, because they draw them in the same order.
        self.random = numpy.random.default_rng(1)
        self.magnitudes = magnitudes
        self.nodes, self.tensors = [], []
        self.channels = {"image": 3}
        # The values that the QDQ form quantizes, and whether they are never negative.
        self.unsigned = {}
        self.input = [1, 3, side, side]
        self.image = self.quantized("image", False)

    def node(self, operator, inputs, output, **attributes):
        self.nodes.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output

    def tensor(self, name, values):
        self.tensors.append(numpy_helper.from_array(values, name))
        return name

    def quantized(self, value, unsigned):
        """The value, rounded to bytes and back in the QDQ form."""
        self.unsigned[value] = unsigned
        if self.magnitudes is None:
            return value
        scale = self.scale(value)
        kind = numpy.uint8 if unsigned else numpy.int8
        names = [
            self.tensor(value + ".scale", numpy.array(scale, numpy.float32)),
            self.tensor(value + ".zero", numpy.array(0, kind)),
        ]
        codes = self.node("QuantizeLinear", [value, *names], value + ".codes")
        result = self.node("DequantizeLinear", [codes, *names], value + ".values")
        self.channels[result] = self.channels[value]
        return result

    def scale(self, value):
        levels = 255 if self.unsigned[value] else 127
        return numpy.float32(max(self.magnitudes[value], 1e-6) / levels)

    def parameters(self, name, weight, x):
        """The names of a layer's weight and bias; in the QDQ form both are dequantized."""
        bias = self.random.normal(0, 0.1, weight.shape[0]).astype(numpy.float32)
        if self.magnitudes is None:
            return self.tensor(name + ".weight", weight), self.tensor(name + ".bias", bias)
        magnitude = numpy.abs(weight).reshape(len(weight), -1).max(1)
        steps = (magnitude / 127).astype(numpy.float32)
        codes = numpy.rint(weight / steps.reshape(-1, *[1] * (weight.ndim - 1)))
        products = steps * self.scale(x.removesuffix(".values"))
        sums = numpy.rint(bias / products).astype(numpy.int32)
        names = []
        parts = [("weight", codes.clip(-127, 127).astype(numpy.int8), steps)]
        parts.append(("bias", sums, products))
        for part, values, scales in parts:
            part = f"{name}.{part}"
            inputs = [
                self.tensor(part + ".codes", values),
                self.tensor(part + ".scale", scales),
                self.tensor(part + ".zero", numpy.zeros(len(scales), values.dtype)),
            ]
            names.append(self.node("DequantizeLinear", inputs, part, axis=0))
        return tuple(names)

    def convolution(self, name, x, outputs, kernel, stride=1, groups=1):
        inputs = self.channels[x] // groups
        deviation = (2 / (inputs * kernel * kernel)) ** 0.5
        weight = self.random.normal(0, deviation, (outputs, inputs, kernel, kernel))
        weight, bias = self.parameters(name, weight.astype(numpy.float32), x)
        self.channels[name] = outputs
        return self.node(
            "Conv",
            [x, weight, bias],
            name,
            kernel_shape=[kernel] * 2,
            strides=[stride] * 2,
            pads=[kernel // 2] * 4,
            group=groups,
        )

    def relu(self, x, limit=None):
        name = x + ".relu"
        self.channels[name] = self.channels[x]
        if limit is None:
            self.node("Relu", [x], name)
        else:
            limits = [("low", 0), ("high", limit)]
            bounds = [self.tensor(f"{name}.{n}", numpy.array(v, numpy.float32)) for n, v in limits]
            self.node("Clip", [x, *bounds], name)
        return self.quantized(name, True)

    def add(self, convolution, identity):
        name = convolution + ".sum"
        self.channels[name] = self.channels[convolution]
        summands = [self.quantized(convolution, False), identity]
        return self.relu(self.node("Add", summands, name))

    def keep_scale(self, x, output):
        """Gives the output the scale of `x`, so that an engine may move bytes as they are."""
        self.channels[output] = self.channels[x]
        if self.magnitudes is not None:
            self.magnitudes[output] = self.magnitudes[x.removesuffix(".values")]

    def pool(self, x):
        self.keep_scale(x, "pool")
        attributes = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}
        return self.quantized(self.node("MaxPool", [x], "pool", **attributes), True)

    def classifier(self, x, classes):
        inputs = self.channels[x]
        self.channels["mean"] = inputs
        mean = self.quantized(self.node("GlobalAveragePool", [x], "mean"), True)
        self.keep_scale(mean, "features")
        x = self.quantized(self.node("Flatten", [mean], "features", axis=1), True)
        weight = self.random.normal(0, inputs**-0.5, (classes, inputs)).astype(numpy.float32)
        weight, bias = self.parameters("classifier", weight, x)
        self.node("Gemm", [x, weight, bias], "scores", transB=1)
        self.classes = classes

    def model(self, outputs=()):
        """The ONNX model. Its outputs are the scores and the named f32 values."""
        shapes = {"scores": [1, self.classes]}
        tensors = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, shapes.get(name))
            for name in ("scores", *outputs)
        ]
        image = helper.make_tensor_value_info("image", TensorProto.FLOAT, self.input)
        graph = helper.make_graph(self.nodes, "network", [image], tensors, self.tensors)
        opset = helper.make_opsetid("", OPSET)
        return helper.make_model(graph, opset_imports=[opset], ir_version=8)


def resnet(builder, blocks, widths, bottleneck, x):
    for stage, (count, width) in enumerate(zip(blocks, widths)):
        for index in range(count):
            name = f"layer{stage + 1}.{index}"
            stride = 2 if index == 0 and stage > 0 else 1
            outputs = 4 * width if bottleneck else width
            identity = y = x
            if bottleneck:
                y = builder.relu(builder.convolution(name + ".conv1", y, width, 1))
                y = builder.relu(builder.convolution(name + ".conv2", y, width, 3, stride))
                y = builder.convolution(name + ".conv3", y, outputs, 1)
            else:
                y = builder.relu(builder.convolution(name + ".conv1", y, width, 3, stride))
                y = builder.convolution(name + ".conv2", y, width, 3)
            if stride > 1 or builder.channels[x] != outputs:
                identity = builder.convolution(name + ".downsample", x, outputs, 1, stride)
                identity = builder.quantized(identity, False)
            x = builder.add(y, identity)
    return x


def imagenet_resnet(builder, blocks, bottleneck):
    x = builder.relu(builder.convolution("conv1", builder.image, 64, 7, 2))
    x = resnet(builder, blocks, (64, 128, 256, 512), bottleneck, builder.pool(x))
    builder.classifier(x, 1000)


def resnet18(builder):
    """torchvision's graph."""
    imagenet_resnet(builder, (2, 2, 2, 2), False)


def resnet50(builder):
    """torchvision's graph, version 1.5: the 3x3 convolutions have the stride."""
    imagenet_resnet(builder, (3, 4, 6, 3), True)


def resnet20(builder):
    """He et al. (2016), for CIFAR, with 1x1 convolutions where the width changes."""
    x = builder.relu(builder.convolution("conv1", builder.image, 16, 3))
    x = resnet(builder, (3, 3, 3), (16, 32, 64), False, x)
    builder.classifier(x, 10)


def mobilenet_v1(builder):
    """Howard et al. (2017), width 1.0, with ReLU6."""
    x = builder.relu(builder.convolution("conv1", builder.image, 32, 3, 2), 6)
    layers = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)]
    layers += [(512, 1)] * 5 + [(1024, 2), (1024, 1)]
    for index, (outputs, stride) in enumerate(layers):
        inputs = builder.channels[x]
        name = f"layer{index + 1}"
        x = builder.convolution(name + ".depthwise", x, inputs, 3, stride, groups=inputs)
        x = builder.convolution(name + ".pointwise", builder.relu(x, 6), outputs, 1)
        x = builder.relu(x, 6)
    builder.classifier(x, 1000)


NETWORKS = {
    "resnet18": (resnet18, 224),
    "resnet50": (resnet50, 224),
    "mobilenet_v1": (mobilenet_v1, 224),
    "resnet20": (resnet20, 32),
}


def calibrate(network):
    """The largest magnitude of each activation over a few random images, found in f32."""
    # Only the calibration needs ONNX Runtime here.
    import onnxruntime

    build, side = NETWORKS[network]
    builder = Builder(side)
    build(builder)
    values = [value for value in builder.unsigned if value != "image"]
    model = builder.model(values).SerializeToString()
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    magnitudes = dict.fromkeys(builder.unsigned, 0.0)
    for seed in range(4):
        image = random_image(network, seed)
        results = [image, *session.run(values, {"image": image})]
        for value, result in zip(["image", *values], results):
            magnitudes[value] = max(magnitudes[value], float(numpy.abs(result).max()))
    return magnitudes


def random_image(network, seed):
    side = NETWORKS[network][1]
    random = numpy.random.default_rng(100 + seed)
    return random.normal(0, 1, (1, 3, side, side)).astype(numpy.float32)


def write(network, folder):
    """Writes the network in both forms, and returns the paths of the files by precision."""
    build, side = NETWORKS[network]
    paths = {}
    for precision, magnitudes in (("f32", None), ("int8", calibrate(network))):
        builder = Builder(side, magnitudes)
        build(builder)
        paths[precision] = str(folder / f"{network}-{precision}.onnx")
        onnx.save(builder.model(), paths[precision])
    return paths
