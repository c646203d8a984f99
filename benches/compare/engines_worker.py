"""A process that runs ONNX models on one engine, for `engines.py`.

`engines_worker.py serve ENGINE` reads commands from its standard input and answers each with a line
of JSON. `engines_worker.py once ENGINE MODEL IMAGE` runs one image, in a process that imports
nothing but the engine, and prints what that took.
"""

import collections
import json
import os
import sys
import tempfile
import time


class OnnxRuntime:
    """A model in ONNX Runtime, with its default optimizations."""

    CONVOLUTIONS = ("Conv", "FusedConv", "NhwcFusedConv", "ConvInteger", "QLinearConv")
    PRODUCTS = (*CONVOLUTIONS, "Gemm", "FusedGemm", "QGemm", "MatMul", "QLinearMatMul")

    # The floating-point type of what is not int8.
    floats = "f32"

    def __init__(self, path, threads, bf16=False):
        import onnxruntime

        self.path, self.onnxruntime = path, onnxruntime
        self.session = self.open(threads)

    def open(self, threads, written=None):
        options = self.onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        if written is not None:
            options.optimized_model_filepath = written
        session = self.onnxruntime.InferenceSession
        return session(self.path, options, providers=["CPUExecutionProvider"])

    def set_image(self, image):
        self.inputs = {"image": image}

    def run(self):
        return self.session.run(None, self.inputs)[0]

    def nodes(self):
        """The operators of the optimized graph, each as its type, kernel and whether it is int8."""
        import onnx

        with tempfile.TemporaryDirectory() as folder:
            written = os.path.join(folder, "optimized.onnx")
            self.open(1, written)
            graph = onnx.load(written).graph
        return [(node.op_type, node.op_type, node.op_type.startswith("Q")) for node in graph.node]


class OpenVino:
    """A model in OpenVINO: the latency hint, one stream."""

    CONVOLUTIONS = ("Convolution",)
    PRODUCTS = ("Convolution", "FullyConnected", "MatMul")

    def __init__(self, path, threads, bf16=False):
        import openvino

        config = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            "INFERENCE_NUM_THREADS": threads,
        }
        # Without a hint OpenVINO chooses bf16 where the processor has it. The operations that an
        # int8 model leaves in floating point are computed in f32 here.
        if not bf16:
            config["INFERENCE_PRECISION_HINT"] = "f32"
        self.model = openvino.Core().compile_model(path, "CPU", config)
        self.request = self.model.create_infer_request()
        self.floats = self.model.get_property("INFERENCE_PRECISION_HINT").get_type_name()

    def set_image(self, image):
        import openvino

        self.request.set_input_tensor(openvino.Tensor(image, shared_memory=True))

    def run(self):
        # Copies in Python took a third of the time of the smallest network.
        self.request.infer(share_outputs=True)
        return self.request.get_output_tensor(0).data

    def nodes(self):
        """The operators of the executed graph, each as its type, kernel and whether it is int8."""
        nodes = []
        for node in self.model.get_runtime_model().get_ops():
            info = node.get_rt_info()
            kind, kernel = (info[key].astype(str) for key in ("layerType", "primitiveType"))
            # The name of a kernel ends with its precision: I8 stands for u8.
            nodes.append((kind, kernel, kernel.lower().endswith(("_i8", "_u8"))))
        return nodes


ENGINES = {"onnxruntime": OnnxRuntime, "openvino": OpenVino}


def described(model):
    """What `engines.py` is told about a model after it was loaded."""
    nodes = model.nodes()
    convolutions = [int8 for kind, _, int8 in nodes if kind in model.CONVOLUTIONS]
    products = collections.Counter(kernel for kind, kernel, _ in nodes if kind in model.PRODUCTS)
    return {
        "floats": model.floats,
        "convolutions": len(convolutions),
        "int8_convolutions": sum(convolutions),
        "kernels": [f"{count} x {kernel}" for kernel, count in products.most_common()],
        "nodes": sorted({(kind, kernel) for kind, kernel, _ in nodes}),
    }


def timed(model, seconds):
    """Milliseconds of each run, for at least two runs."""
    # Threads of the engine that ran before may still wait for work actively.
    time.sleep(0.02)
    start = time.perf_counter()
    model.run()
    while time.perf_counter() - start < 0.01:
        model.run()
    times = []
    start = last = time.perf_counter()
    while last - start < seconds or len(times) < 2:
        model.run()
        now = time.perf_counter()
        times.append(1e3 * (now - last))
        last = now
    return times


def serve(engine):
    import numpy

    # An engine that prints must not disturb the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    models, image = {}, None
    for line in sys.stdin:
        command = json.loads(line)
        key = command.get("model")
        if command["do"] == "image":
            models, image = {}, numpy.load(command["path"])
            answer = {}
        elif command["do"] == "load":
            model = ENGINES[engine](command["path"], command["threads"], command["bf16"])
            model.set_image(image)
            models[key] = model
            answer = described(model) | {"scores": model.run().ravel().tolist()}
        else:
            answer = {"times": timed(models[key], command["seconds"])}
        print(json.dumps(answer), file=answers, flush=True)


def peak_memory():
    """The most memory that this process had at any time, in bytes."""
    try:
        with open("/proc/self/status") as status:
            lines = [line.split() for line in status if line.startswith("VmHWM")]
        return 1024 * int(lines[0][1])
    except (OSError, IndexError):
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else 1024 * peak


def once(engine, path, image):
    import numpy

    # The import is part of the engine's memory before the model is loaded.
    __import__(engine)
    imported, imports = time.perf_counter(), peak_memory()
    model = ENGINES[engine](path, 1)
    model.set_image(numpy.load(image))
    model.run()
    seconds = time.perf_counter() - imported
    print(json.dumps({"load_ms": 1e3 * seconds, "imports_bytes": imports}), flush=True)
    # `engines.py` takes the time at the first line, so the rest is not in its measurement.
    print(json.dumps({"peak_bytes": peak_memory()}), flush=True)


if __name__ == "__main__":
    {"serve": serve, "once": once}[sys.argv[1]](*sys.argv[2:])
