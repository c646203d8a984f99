// Runs packed networks as WebAssembly. This module needs nothing of a page, and runs in Node too.

// A module that is valid where vectors of 128 bits are: a function that returns one.
const SIMD = [
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 8, 1, 6, 0, 65, 0, 253, 15,
  11,
];

/** Whether WebAssembly has SIMD128 here. */
export function hasSimd() {
  return WebAssembly.validate(Uint8Array.from(SIMD));
}

/** Fetches and compiles the engine from a folder: `variant` is "simd" or "plain". Both compute the
 * same bits. One engine makes any number of networks. */
export async function fetchEngine(folder, variant = hasSimd() ? "simd" : "plain") {
  const ending = typeof DecompressionStream === "undefined" ? "" : ".gz";
  let bytes = await fetchBytes(new URL(`engine-${variant}.wasm${ending}`, folder));
  // Some servers decompress the file, or have the browser do so.
  if (bytes[0] === 0x1f && bytes[1] === 0x8b) {
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    bytes = await new Response(stream).arrayBuffer();
  }
  return WebAssembly.compile(bytes);
}

/** Returns the bytes at an address. */
export async function fetchBytes(url) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url} cannot be loaded: ${response.status}`);
  return new Uint8Array(await response.arrayBuffer());
}

/** A packed network. Each has a memory of its own, which is freed with the object. */
export class Network {
  #exports;
  #decoder = new TextDecoder();

  /** Reads the bytes of a .qnet file. */
  static async load(engine, bytes) {
    return new Network(await WebAssembly.instantiate(engine), bytes);
  }

  constructor(instance, bytes) {
    this.#exports = instance.exports;
    const address = this.#call("file", bytes.length);
    if (address === 0) throw new Error(`there is no memory for ${bytes.length} bytes`);
    new Uint8Array(this.#exports.memory.buffer, address, bytes.length).set(bytes);
    if (this.#call("load") === 0) throw new Error(this.#text());
    this.bytes = bytes.length;
    this.height = this.#call("height");
    this.width = this.#call("width");
    this.channels = this.#call("channels");
    /** The length to which the shorter side of a picture is resized before the centre is cut out,
     * or 0 if it is only cut. */
    this.shorterSide = this.#call("shorter_side");
    this.#call("name");
    this.name = this.#text();
    this.classes = Array.from({ length: this.#call("classes") }, (_, index) => {
      this.#call("class_name", index);
      return this.#text();
    });
  }

  /** Returns the scores of an image: height * width * channels bytes, row by row, with the channels
   * of a pixel next to each other. */
  run(pixels) {
    const length = this.height * this.width * this.channels;
    if (pixels.length !== length) {
      throw new Error(`the image has ${pixels.length} bytes, and the network takes ${length}`);
    }
    new Uint8Array(this.#exports.memory.buffer, this.#call("pixels"), length).set(pixels);
    if (this.#call("run") === 0) throw new Error(this.#text());
    const scores = this.#call("scores");
    return new Float32Array(this.#exports.memory.buffer, scores, this.classes.length).slice();
  }

  /** Returns the number of bytes of memory that the network takes. */
  get memory() {
    return this.#exports.memory.buffer.byteLength;
  }

  #call(name, ...values) {
    try {
      return this.#exports[name](...values) >>> 0;
    } catch (error) {
      // A panic of the engine leaves its message.
      throw new Error(this.#text() || error.message, { cause: error });
    }
  }

  #text() {
    const { memory, text, text_length } = this.#exports;
    return this.#decoder.decode(new Uint8Array(memory.buffer, text() >>> 0, text_length()));
  }
}

/** Returns the highest scores as `[class, score]`, the highest first. */
export function best(network, scores, count) {
  const order = Array.from(scores.keys()).sort((a, b) => scores[b] - scores[a] || a - b);
  return order.slice(0, count).map((index) => [network.classes[index], scores[index]]);
}
