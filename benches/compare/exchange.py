"""Compares exported networks with the engine that they come from.

    python exchange.py TRACE NET.qnet FORMAT NET.onnx [NET.qnet FORMAT NET.onnx ...]

TRACE is the program `target/release/examples/trace` (cargo build --release -p quant-onnx
--examples), and FORMAT is qonnx, onnx-int8 or onnx-compact: the format in which NET.onnx was
exported from NET.qnet. For a network that came the other way, `quant pack NET.onnx -o NET.qnet`,
FORMAT is from-qonnx or from-qcdq. The environment IMAGES sets the number of random images for each
network (default 4).

For each file and each program that runs it, a line says how many codes of quantizers were
compared, how many differ, and for how many images the best class is the same:

- QONNX files are executed by the package qonnx;
- the other files by ONNX Runtime, without and with its optimisation, and by OpenVINO.

Needs: pip install onnx onnxruntime openvino qonnx
"""

import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import onnx


def traced(trace, network, images, values=False):
    """Returns the engine's codes by the names of quantizers, or their values, and its scores."""
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        images.tofile(folder / "images.bin")
        subprocess.run([trace, network, folder / "images.bin", folder / "out"], check=True)
        out = folder / "out"
        codes = {}
        for line in (out / "names.txt").read_text().splitlines():
            at, name = line.split("\t")
            file = out / (f"{at}.values.bin" if values else f"{at}.bin")
            found = np.fromfile(file, np.float32 if values else np.uint8)
            codes.setdefault(name, []).append(found)
        scores = np.fromfile(out / "scores.bin", np.float32).reshape(len(images), -1)
        return codes, scores


def recorded(model):
    """Returns for each quantizer its name, the tensor of its codes, a factor and an offset."""
    for entry in model.metadata_props:
        if entry.key.startswith("codes:"):
            tensor, factor, offset = entry.value.rsplit(" ", 2)
            yield entry.key[len("codes:") :], tensor, float(factor), float(offset)


def by_qonnx(model, images):
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.core.onnx_exec import execute_onnx
    from qonnx.transformation.infer_shapes import InferShapes

    # The executor has no unsigned bytes as inputs: the first node makes floats of them anyway.
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = len(images)
    model.graph.output[0].type.tensor_type.shape.dim[0].dim_value = len(images)
    wrapper = ModelWrapper(model).transform(InferShapes())
    return execute_onnx(wrapper, {"image": images}, return_full_exec_context=True)


def with_outputs(model):
    """Returns the model with the tensors of codes as further outputs."""
    model = onnx.ModelProto.FromString(model.SerializeToString())
    known = {node.output[0]: node.op_type for node in model.graph.node}
    for _, tensor, _, _ in recorded(model):
        if tensor in known and all(tensor != output.name for output in model.graph.output):
            kind = onnx.TensorProto.FLOAT
            if known[tensor] in ("QuantizeLinear", "Clip"):
                kind = onnx.TensorProto.UINT8
            model.graph.output.append(onnx.helper.make_tensor_value_info(tensor, kind, None))
    return model


def by_onnxruntime(model, images, optimised):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    level = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimised else level.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"image": images})))


def by_openvino(model, images):
    import openvino

    core = openvino.Core()
    compiled = core.compile_model(
        core.read_model(model.SerializeToString()), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    found = compiled(images)
    return {name: found[output] for output in compiled.outputs for name in output.get_names()}


def compare(model, images, found, codes, scores):
    """Returns the number of codes, of those that differ, and of images with the same best class."""
    compared = differ = missing = 0
    seen = {}
    for name, tensor, factor, offset in recorded(model):
        index = seen.setdefault(name, 0)
        seen[name] += 1
        if tensor not in found and tensor != "image/bytes":
            missing += 1
            continue
        theirs = images.astype(np.float32) if tensor == "image/bytes" else found[tensor]
        theirs = theirs.astype(np.float32) * np.float32(factor) + np.float32(offset)
        ours = codes[name][index]
        if ours.size == 0:
            # The engine took this quantizer into the thresholds of another step.
            missing += 1
            continue
        if theirs.size != ours.size:
            # The file pads before it quantizes.
            sides = theirs.shape
            channels = sides[1]
            inner = ours.size // (len(images) * channels)
            pads = next(
                (h, w)
                for h in range(8)
                for w in range(8)
                if (sides[2] - 2 * h) * (sides[3] - 2 * w) == inner
            )
            rows, columns = pads
            theirs = theirs[:, :, rows : sides[2] - rows, columns : sides[3] - columns]
        compared += ours.size
        differ += int((theirs.ravel() != ours).sum())
    best = int((found["scores"].argmax(1) == scores.argmax(1)).sum())
    apart = float(np.abs(found["scores"] - scores).max())
    return compared, differ, best, apart, missing


def by_image(model, images, wanted):
    """Runs a file of others image by image, and returns the values that its layers read.

    The result has the scores, and for each layer's name the values of its input. A quantizer that
    stands alone has the name of the tensor that it computes.
    """
    constants = {tensor.name for tensor in model.graph.initializer}
    makers = {node.output[0]: node for node in model.graph.node}
    layers = {}
    for node in model.graph.node:
        if node.op_type in ("Conv", "Gemm", "MatMul"):
            weight = node.input[1]
            while weight in makers and makers[weight].input:
                weight = makers[weight].input[0]
            for end in (".weight", ".values", ".integers"):
                weight = weight.removesuffix(end)
            layers[node.name if weight + ".weight" not in constants else weight] = node.input[0]
    layers.update({name: name for name in wanted if name in makers and name not in layers})
    kept = [i for i in model.graph.input if i.name not in constants]
    name = kept[0].name
    scores = model.graph.output[0].name
    whole = onnx.ModelProto.FromString(model.SerializeToString())
    is_qonnx = any(node.domain.startswith("qonnx") for node in model.graph.node)
    if is_qonnx:
        from qonnx.core.modelwrapper import ModelWrapper
        from qonnx.core.onnx_exec import execute_onnx
        from qonnx.transformation.infer_shapes import InferShapes

        wrapper = ModelWrapper(whole).transform(InferShapes())
        runs = [execute_onnx(wrapper, {name: image[None]}, True) for image in images]
    else:
        import onnxruntime

        for tensor in layers.values():
            if tensor != name and tensor not in constants:
                whole.graph.output.append(onnx.helper.make_tensor_value_info(tensor, 1, None))
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.graph_optimization_level = (
            onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        )
        session = onnxruntime.InferenceSession(whole.SerializeToString(), options)
        outputs = [output.name for output in session.get_outputs()]
        runs = [dict(zip(outputs, session.run(outputs, {name: i[None]}))) for i in images]
    found = {"scores": np.concatenate([run[scores] for run in runs])}
    for layer, tensor in layers.items():
        if tensor in runs[0]:
            found[layer] = np.concatenate([run[tensor].ravel() for run in runs])
    return found


def compare_from(trace, network, kind, path, count):
    """Prints the line of a network that was packed from a file of others."""
    model = onnx.load(path)
    constants = {tensor.name for tensor in model.graph.initializer}
    image = [i for i in model.graph.input if i.name not in constants][0]
    sides = [side.dim_value for side in image.type.tensor_type.shape.dim][1:]
    images = np.random.default_rng(1).integers(0, 256, [count, *sides], np.uint8)
    codes, scores = traced(trace, network, images, values=True)
    found = by_image(model, images.astype(np.float32) * np.float32(1 / 255), codes)
    compared = differ = 0
    for layer, ours in codes.items():
        if layer in found and found[layer].size == ours[0].size:
            ours, theirs = ours[0], found[layer]
            compared += ours.size
            # The values of two codes are further apart than that.
            step = np.abs(ours).max() / 512 + 1e-12
            differ += int((np.abs(ours - theirs) > step).sum())
    missing = len([layer for layer in codes if layer not in found])
    best = int((found["scores"].argmax(1) == scores.argmax(1)).sum())
    apart = float(np.abs(found["scores"] - scores).max())
    name = pathlib.Path(network).stem
    note = f" ({missing} quantizers not seen)" if missing else ""
    program = "qonnx" if kind == "from-qonnx" else "ONNX Runtime, not optimised"
    line = f"{compared:,}{note} | {differ:,} | {best} of {count} | {apart:.2g}"
    print(f"| {name} | {kind} | {program} | {line} |", flush=True)


def main():
    trace, rest = sys.argv[1], sys.argv[2:]
    count = int(os.environ.get("IMAGES", "4"))
    print("| network | format | run by | codes | differ | same best class | scores apart |")
    print("|---|---|---|---|---|---|---|")
    for network, kind, path in zip(rest[::3], rest[1::3], rest[2::3]):
        if kind.startswith("from-"):
            compare_from(trace, network, kind, path, count)
            continue
        model = onnx.load(path)
        onnx.checker.check_model(model)
        sides = [side.dim_value for side in model.graph.input[0].type.tensor_type.shape.dim][1:]
        images = np.random.default_rng(1).integers(0, 256, [count, *sides], np.uint8)
        codes, scores = traced(trace, network, images)
        whole = with_outputs(model)
        programs = {
            "ONNX Runtime, not optimised": lambda: by_onnxruntime(whole, images, False),
            "ONNX Runtime": lambda: by_onnxruntime(whole, images, True),
            "OpenVINO": lambda: by_openvino(whole, images),
        }
        if kind == "qonnx":
            programs = {"qonnx": lambda: by_qonnx(model, images)}
        for program, run in programs.items():
            name = pathlib.Path(network).stem
            try:
                found = run()
            except Exception as error:
                text = str(error).splitlines()[0][:150]
                print(f"| {name} | {kind} | {program} | does not run: {text} |", flush=True)
                continue
            compared, differ, best, apart, missing = compare(model, images, found, codes, scores)
            note = f" ({missing} quantizers not seen)" if missing else ""
            line = f"{compared:,}{note} | {differ:,} | {best} of {count} | {apart:.2g}"
            print(f"| {name} | {kind} | {program} | {line} |", flush=True)


main()
