"""Measures ONNX Runtime and OpenVINO on the CPU: the latency of one image, in f32, bf16 and int8.

    python3 -m venv venv && venv/bin/pip install -r requirements.txt
    venv/bin/python engines.py --json engines.json

The networks have random weights; `engines_networks.py` describes them and their int8 form. Both
engines read the same ONNX files.

Each engine, and OpenVINO with each limit of the instruction set, has a process of its own. All
models of a network are loaded first. Then they are measured in turns, in several rounds, so that
whatever else the machine does falls on all of them alike. OpenVINO uses the latency hint and one
stream; other settings of both engines are their defaults.

OpenVINO obeys the environment variable ONEDNN_MAX_CPU_ISA in its convolutions and its int8
classifier. The f32 classifier is a product of MLAS, which chooses instructions by itself, and the
average pool may use AVX-512; `outside_isa` lists such exceptions. The names of kernels tell AVX2,
AVX-512 and AMX apart, but are the same with and without VNNI. ONNX Runtime computes with MLAS,
which has no switch for the instruction set: it is measured once, with all instructions that it
finds. It asks the system for AMX where the processor has it.

bf16 is measured without a limit only. With a limit, OpenVINO believes that the processor still has
bf16, and emulates it slowly.

The JSON file is an object with these fields:

- `processor`: the processor's name. `features`: those of its instruction sets that matter here.
- `versions`: the versions of `python`, `numpy`, `onnx`, `onnxruntime` and `openvino`.
- `seconds`: the time given to each measurement.
- `rows`: one object for each measurement.
  - `network`; `engine`, `onnxruntime` or `openvino`; `precision`, `f32`, `bf16` or `int8`.
  - `isa`: the limit, `all` where there is none. `threads`, `batch`.
  - `median_ms`, `minimum_ms`, and `runs`, the number of timed runs.
  - `convolutions`: their number in the graph that the engine executes, and `int8_convolutions`, how
    many of them are computed with int8. `kernels`: what computes convolutions and the classifier,
    as strings such as "16 x brgconv_avx512_amx_I8".
  - `outside_isa`: kernels that do not obey the limit, as strings of an operator and its kernel.
  - `cosine`: the cosine of the scores and those of ONNX Runtime in f32.
- `memory`: one object for each engine and precision, of a process that imports one engine, loads
  the first network and runs one image, with one thread.
  - `network`, `engine`, `precision`.
  - `peak_bytes`: the most memory that the process had. `imports_bytes`: the same at the time when
    Python, numpy and the engine were imported and no model was loaded.
  - `first_result_ms`: the time from the start of the process to the scores. `load_ms`: the part of
    it after the imports, which loads the model and runs it once.
"""

import argparse
import importlib.metadata
import itertools
import json
import math
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time

import numpy

import engines_networks

WORKER = str(pathlib.Path(__file__).with_name("engines_worker.py"))
ROUNDS = 5
# What a processor must have so that the limit is what it says.
ISAS = {
    "all": set(),
    "avx512_core_vnni": {"avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512_vnni"},
    "avx2_vnni": {"avx2", "avx_vnni"},
    "avx512_core": {"avx512f", "avx512bw", "avx512vl", "avx512dq"},
    "avx2": {"avx2"},
}
# x86-64 has one of the first two for bf16; Linux calls it bf16 on 64-bit ARM.
BF16 = {"avx512_bf16", "amx_bf16", "bf16"}
FEATURES = set().union(*ISAS.values(), BF16)
FEATURES |= {"fma", "avx512_fp16", "amx_tile", "amx_int8", "asimd", "asimddp", "i8mm", "sve"}


def processor():
    """The processor's name, and those of its features that matter here."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine(), []
    fields = dict(line.split(":", 1) for line in reversed(lines) if ":" in line)
    fields = {name.strip(): value.strip() for name, value in fields.items()}
    features = set(fields.get("flags", fields.get("Features", "")).split())
    return fields.get("model name", platform.machine()), sorted(features & FEATURES)


class Worker:
    """A process that runs one engine with a limit of the instruction set."""

    def __init__(self, engine, isa):
        self.engine, self.isa = engine, isa
        command = [sys.executable, WORKER, "serve", engine]
        pipe = subprocess.PIPE
        streams = {"stdin": pipe, "stdout": pipe, "text": True}
        self.process = subprocess.Popen(command, env=limited(isa), **streams)

    def ask(self, **command):
        line = ""
        try:
            self.process.stdin.write(json.dumps(command) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            pass
        if not line:
            sys.exit(f"{self.engine} ({self.isa}) failed at {command}; its message is above.")
        return json.loads(line)

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def limited(isa):
    """The environment of a process that is limited to an instruction set."""
    environment = dict(os.environ)
    environment.pop("ONEDNN_MAX_CPU_ISA", None)
    if isa != "all":
        environment["ONEDNN_MAX_CPU_ISA"] = isa.upper()
    return environment


def outside(isa, nodes):
    """The kernels of the executed graph that do not obey the limit."""
    if isa == "all":
        return []
    forbidden = ["amx", "mlas"] + (["avx512"] if isa.startswith("avx2") else [])
    return [
        f"{kind} {kernel}" for kind, kernel in nodes if any(word in kernel for word in forbidden)
    ]


def load(worker, network, paths, precisions, threads):
    """Loads the models of a network, and returns a row for each, without times."""
    rows = []
    for precision, count in itertools.product(precisions, threads):
        path = paths["int8" if precision == "int8" else "f32"]
        key = f"{precision}-{count}"
        bf16 = precision == "bf16"
        answer = worker.ask(do="load", model=key, path=path, threads=count, bf16=bf16)
        if bf16 and answer["floats"] != "bf16":
            continue
        row = {
            "network": network,
            "engine": worker.engine,
            "precision": precision,
            "isa": worker.isa,
            "threads": count,
            "batch": 1,
            "convolutions": answer["convolutions"],
            "int8_convolutions": answer["int8_convolutions"],
            "kernels": answer["kernels"],
            "outside_isa": outside(worker.isa, answer["nodes"]),
        }
        rows.append((worker, key, row, answer["scores"]))
    return rows


def check(row):
    """Says where a measurement is not what its name promises."""
    name = "{network} {engine} {precision} {isa}".format(**row)
    if row["precision"] == "int8" and row["int8_convolutions"] < row["convolutions"]:
        counts = "only {int8_convolutions} of {convolutions}".format(**row)
        print(f"warning: {name}: {counts} convolutions are computed with int8")
    if any(kernel.startswith("Convolution ") for kernel in row["outside_isa"]):
        print(f"warning: {name}: convolutions exceed the limit: {row['outside_isa']}")
    if row["cosine"] < (0.95 if row["precision"] == "int8" else 0.999):
        print(f"warning: {name}: the scores differ from f32: their cosine is {row['cosine']:.4f}")


def cosine(a, b):
    return sum(map(float.__mul__, a, b)) / math.hypot(*a) / math.hypot(*b)


def measure(workers, network, folder, bf16, options):
    """The rows of one network."""
    paths = engines_networks.write(network, folder)
    image = str(folder / "image.npy")
    numpy.save(image, engines_networks.random_image(network, 10))
    loaded = []
    for worker in workers:
        worker.ask(do="image", path=image)
        precisions = ["f32", "int8"]
        if bf16 and worker.engine == "openvino" and worker.isa == "all":
            precisions.insert(1, "bf16")
        loaded += load(worker, network, paths, precisions, options.threads)
    times = [[] for _ in loaded]
    for _ in range(ROUNDS):
        for (worker, key, _, _), row_times in zip(loaded, times):
            answer = worker.ask(do="measure", model=key, seconds=options.seconds / ROUNDS)
            row_times += answer["times"]
    # The first worker is ONNX Runtime's, and its first model is in f32.
    expected = loaded[0][3]
    for (_, _, row, scores), row_times in zip(loaded, times):
        row["median_ms"] = statistics.median(row_times)
        row["minimum_ms"] = min(row_times)
        row["runs"] = len(row_times)
        row["cosine"] = cosine(scores, expected)
        if row["threads"] == options.threads[0]:
            check(row)
    return [row for _, _, row, _ in loaded], paths, image


def first_result(engine, path, image):
    """Starts a process, runs one image, and returns what that took."""
    command = [sys.executable, WORKER, "once", engine, path, image]
    start = time.perf_counter()
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, env=limited("all"), text=True) as process:
        line = process.stdout.readline()
        seconds = time.perf_counter() - start
        rest = process.stdout.read()
    if process.returncode != 0:
        sys.exit(f"{engine} failed to run {path} once; its message is above.")
    return json.loads(line) | json.loads(rest) | {"first_result_ms": 1e3 * seconds}


def measure_memory(network, paths, image):
    rows = []
    pairs = list(itertools.product(("onnxruntime", "openvino"), ("f32", "int8")))
    results = [[] for _ in pairs]
    # The first round fills the file cache.
    for index in range(4):
        for (engine, precision), row_results in zip(pairs, results):
            result = first_result(engine, paths[precision], image)
            if index:
                row_results.append(result)
    for (engine, precision), row_results in zip(pairs, results):
        row = {"network": network, "engine": engine, "precision": precision}
        for name in row_results[0]:
            row[name] = statistics.median(result[name] for result in row_results)
        rows.append(row)
    return rows


def print_rows(rows):
    fields = ("network", "engine", "precision", "isa", "threads")
    print(f"{'network':<13} {'engine':<12} {'':<5} {'isa':<17} threads", end="")
    print("  median ms  minimum ms   runs  int8 convolutions  cosine")
    for row in rows:
        network, engine, precision, isa, threads = (row[name] for name in fields)
        print(f"{network:<13} {engine:<12} {precision:<5} {isa:<17} {threads:7}", end="")
        print(f"  {row['median_ms']:9.3f}  {row['minimum_ms']:10.3f}  {row['runs']:5}", end="")
        int8 = f"{row['int8_convolutions']} of {row['convolutions']}"
        print(f"  {int8:>17}  {row['cosine']:6.4f}")
    print("\nkernels of convolutions and of the classifier")
    for row in rows:
        if row["threads"] == rows[0]["threads"]:
            network, engine, precision, isa, _ = (row[name] for name in fields)
            print(f"{network:<13} {engine:<12} {precision:<5} {isa:<17} ", end="")
            print(", ".join(row["kernels"]))
    kernels = sorted({kernel for row in rows for kernel in row["outside_isa"]})
    if kernels:
        print(f"These do not obey the limit of the instruction set: {', '.join(kernels)}.")


def print_memory(rows):
    print(f"\n{'one image':<13} {'engine':<12} {'':<5}  peak MiB  after imports", end="")
    print("  first result ms  after imports")
    for row in rows:
        print(f"{row['network']:<13} {row['engine']:<12} {row['precision']:<5}", end="")
        print(f"  {row['peak_bytes'] / 2**20:8.1f}  {row['imports_bytes'] / 2**20:13.1f}", end="")
        print(f"  {row['first_result_ms']:15.1f}  {row['load_ms']:13.1f}")


def names(choices):
    """Reads a list of names that are separated by commas."""

    def read(text):
        for name in text.split(","):
            if name not in choices:
                known = ", ".join(choices)
                raise argparse.ArgumentTypeError(f"{name!r} is none of {known}")
        return list(dict.fromkeys(text.split(",")))

    return read


def counts(text):
    values = text.split(",")
    if not all(value.isdigit() and int(value) > 0 for value in values):
        raise argparse.ArgumentTypeError(f"{text!r} is no list of numbers such as 1,2")
    return list(dict.fromkeys(map(int, values)))


def arguments():
    parser = argparse.ArgumentParser(
        description="Measures ONNX Runtime and OpenVINO on the CPU, one image at a time."
    )
    networks = list(engines_networks.NETWORKS)
    parser.add_argument(
        "--networks", type=names(networks), default=networks, help=f"of {','.join(networks)}"
    )
    parser.add_argument("--threads", type=counts, default=[1, 2], help="such as 1,2 (default)")
    parser.add_argument(
        "--isa",
        type=names(ISAS),
        help=f"limits for OpenVINO, of {','.join(ISAS)}; `all` is no limit; default: each one "
        "that the processor has",
    )
    parser.add_argument(
        "--seconds", type=float, default=0.8, help="for each measurement (default 0.8)"
    )
    parser.add_argument("--json", help="the file to write")
    options = parser.parse_args()
    if not options.seconds > 0:
        parser.error("--seconds must be positive, such as 0.8")
    if options.json and not pathlib.Path(options.json).absolute().parent.is_dir():
        parser.error(f"--json {options.json}: there is no such folder to write the file in")
    return options


def main():
    options = arguments()
    name, features = processor()
    possible = [isa for isa, needed in ISAS.items() if needed <= set(features)]
    for isa in options.isa or possible:
        if isa not in possible:
            lacking = ", ".join(sorted(ISAS[isa] - set(features)))
            sys.exit(
                f"--isa {isa} needs {lacking}, which this processor lacks; "
                f"it can measure {','.join(possible)}."
            )
    bf16 = bool(BF16 & set(features))
    print(f"{name}: {' '.join(features)}")
    workers = [Worker("onnxruntime", "all")]
    workers += [Worker("openvino", isa) for isa in options.isa or possible]
    rows, memory = [], []
    with tempfile.TemporaryDirectory() as path:
        for network in options.networks:
            print(f"measuring {network} ...", file=sys.stderr)
            measured = measure(workers, network, pathlib.Path(path), bf16, options)
            network_rows, paths, image = measured
            rows += network_rows
            if not memory:
                memory = measure_memory(network, paths, image)
    for worker in workers:
        worker.close()
    print_rows(rows)
    print_memory(memory)
    packages = ("numpy", "onnx", "onnxruntime", "openvino")
    result = {
        "processor": name,
        "features": features,
        "versions": {"python": platform.python_version()}
        | {package: importlib.metadata.version(package) for package in packages},
        "seconds": options.seconds,
        "rows": rows,
        "memory": memory,
    }
    if options.json:
        # Written beside and renamed, so that the file is never half written.
        beside = pathlib.Path(options.json + ".tmp")
        beside.write_text(json.dumps(result, indent=1))
        beside.replace(options.json)


if __name__ == "__main__":
    main()
