"""Compares exported networks with the engine that they come from.

    python exchange.py TRACE NET.qnet FORMAT NET.onnx [NET.qnet FORMAT NET.onnx ...]

TRACE is the program `target/release/examples/trace` (cargo build --release -p quant-onnx --examples),
and FORMAT is qonnx, onnx-int8 or onnx-compact: the format in which NET.onnx was exported from
NET.qnet. The environment IMAGES sets the number of random images for each network (default 4).

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


def traced(trace, network, images):
    """Returns the engine's codes by the names of quantizers, and its scores."""
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        images.tofile(folder / "images.bin")
        subprocess.run([trace, network, folder / "images.bin", folder / "out"], check=True)
        out = folder / "out"
        codes = {}
        for line in (out / "names.txt").read_text().splitlines():
            at, name = line.split("\t")
            codes.setdefault(name, []).append(np.fromfile(out / f"{at}.bin", np.uint8))
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


def main():
    trace, rest = sys.argv[1], sys.argv[2:]
    count = int(os.environ.get("IMAGES", "4"))
    print("| network | format | run by | codes | differ | same best class | scores apart |")
    print("|---|---|---|---|---|---|---|")
    for network, kind, path in zip(rest[::3], rest[1::3], rest[2::3]):
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
