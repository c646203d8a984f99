// Checks the built page: node check.mjs FOLDER SCORES [CHROMIUM [SCREENSHOT.png]]
//
// FOLDER is what `build` wrote, and SCORES is the program `scores` of quant-infer. Every network
// runs here with and without SIMD128, and its scores have to be the native engine's, bit for bit.
// With CHROMIUM the page is loaded from a server, in both variants, and classifies a picture.

import { execFileSync, spawn } from "node:child_process";
import { createServer } from "node:http";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { extname, join } from "node:path";
import { deflateSync, gunzipSync } from "node:zlib";

const [folder, scoresProgram, chromium, screenshot] = process.argv.slice(2);
const temporary = mkdtempSync(join(tmpdir(), "quant-web-"));
const source = readFileSync(join(folder, "engine.js")).toString("base64");
const { Network } = await import(`data:text/javascript;base64,${source}`);

const networks = readFileSync(join(folder, "networks.txt"), "utf8")
  .split("\n")
  .filter((line) => line !== "")
  .map((line) => line.split("\t"))
  .map(([file, label]) => ({ file: join(folder, file), label }));

function fail(message) {
  throw new Error(message);
}

/** Bytes that look random, from a seed. */
function random(length, seed) {
  let state = seed;
  return Uint8Array.from({ length }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state >>> 24;
  });
}

/** Returns the bits of the native engine's scores. */
function native(file, pixels) {
  const path = join(temporary, "image");
  writeFileSync(path, pixels);
  const lines = execFileSync(scoresProgram, [file, path], { encoding: "utf8" }).trim().split("\n");
  return lines.map((line) => parseInt(line.split(" ")[0], 16));
}

/** Fails unless scores have these bits. */
function compare(scores, bits, what) {
  const found = Array.from(new Uint32Array(Float32Array.from(scores).buffer));
  if (found.length === 0 || `${found}` !== `${bits}`) {
    fail(`${what}: the scores ${scores} do not have the bits of the native engine`);
  }
}

/** Runs the WebAssembly in Node. */
async function inNode() {
  for (const variant of ["plain", "simd"]) {
    const compressed = readFileSync(join(folder, `engine-${variant}.wasm.gz`));
    const engine = await WebAssembly.compile(gunzipSync(compressed));
    for (const { file, label } of networks) {
      const bytes = readFileSync(file);
      const network = await Network.load(engine, bytes);
      const length = network.height * network.width * network.channels;
      for (const seed of [1, 2, 3]) {
        const pixels = random(length, seed);
        compare(network.run(pixels), native(file, pixels), `${label}, ${variant}, in Node`);
      }
      const before = network.memory;
      for (let run = 0; run < 50; run += 1) network.run(random(length, run));
      if (network.memory !== before) fail(`${label}: memory grows from image to image`);
      console.log(`${label}, ${variant}: equal in Node (${network.memory} bytes of memory)`);
    }
    await refuses(engine);
  }
}

/** Damaged files and wrong images are errors with a message. */
async function refuses(engine) {
  const bytes = Uint8Array.from(readFileSync(networks[0].file));
  const network = await Network.load(engine, bytes);
  const message = async (task) => {
    try {
      await task();
    } catch (error) {
      return error.message;
    }
    return fail("a wrong argument is accepted");
  };
  const image = await message(() => network.run(new Uint8Array(5)));
  if (!image.startsWith("the image has 5 bytes")) fail(image);
  bytes[bytes.length >> 1] ^= 1;
  const file = await message(() => Network.load(engine, bytes));
  if (!file.startsWith("the file ")) fail(file);
}

/** The checksum of PNG's chunks. */
function crc32(bytes) {
  let sum = ~0;
  for (const byte of bytes) {
    sum ^= byte;
    for (let bit = 0; bit < 8; bit += 1) sum = (sum >>> 1) ^ (sum & 1 ? 0xedb88320 : 0);
  }
  return ~sum >>> 0;
}

/** Returns a PNG file of pixels `[height, width, 3]`. */
function png(pixels, height, width) {
  const chunk = (name, data) => {
    const content = Buffer.concat([Buffer.from(name), data]);
    const [length, sum] = [Buffer.alloc(4), Buffer.alloc(4)];
    length.writeUInt32BE(data.length);
    sum.writeUInt32BE(crc32(content));
    return Buffer.concat([length, content, sum]);
  };
  const header = Buffer.alloc(13);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  header.set([8, 2, 0, 0, 0], 8);
  const rows = Array.from({ length: height }, (_, row) =>
    Buffer.concat([Buffer.of(0), pixels.subarray(row * width * 3, (row + 1) * width * 3)]));
  const start = Buffer.from([0x89, 0x50, 0x4e, 0x47, 13, 10, 26, 10]);
  const data = deflateSync(Buffer.concat(rows));
  return Buffer.concat([start, chunk("IHDR", header), chunk("IDAT", data),
                        chunk("IEND", Buffer.alloc(0))]);
}

/** A picture of `side` pixels, and the part in its centre that a network reads. */
function picture(side, { height, width }) {
  const pixels = random(side * side * 3, 9);
  // Halves are rounded to even numbers, as in training.
  const [top, left] = [height, width].map((size) => (side - size) / 2)
    .map((half) => (Number.isInteger(half) ? half : 2 * Math.round(half / 2)));
  const rows = Array.from({ length: height }, (_, row) => {
    const start = ((top + row) * side + left) * 3;
    return Buffer.from(pixels.subarray(start, start + width * 3));
  });
  return [png(pixels, side, side), Buffer.concat(rows)];
}

/** A file server, as simple as there are. Returns it and its address. */
async function serve() {
  const types = { ".html": "text/html", ".js": "text/javascript" };
  const server = createServer((request, response) => {
    const name = new URL(request.url, "http://localhost").pathname;
    try {
      const body = readFileSync(join(folder, name === "/" ? "index.html" : name));
      const type = types[extname(name === "/" ? ".html" : name)] ?? "application/octet-stream";
      response.writeHead(200, { "Content-Type": name === "/" ? "text/html" : type }).end(body);
    } catch {
      response.writeHead(404).end();
    }
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return [server, `http://127.0.0.1:${server.address().port}/`];
}

/** Starts Chromium, and returns it with a function that sends it a command. */
function start() {
  const child = spawn(
    chromium,
    ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--hide-scrollbars",
     `--user-data-dir=${join(temporary, "profile")}`, "about:blank"],
    { stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"] },
  );
  const waiting = new Map();
  let [count, text] = [0, ""];
  child.stdio[4].setEncoding("utf8").on("data", (data) => {
    const messages = (text + data).split("\0");
    text = messages.pop();
    for (const message of messages.map((message) => JSON.parse(message))) {
      const { resolve, reject } = waiting.get(message.id) ?? {};
      if (message.error) reject?.(new Error(message.error.message));
      else resolve?.(message.result);
    }
  });
  child.on("error", (error) => console.error(`${chromium} cannot be started: ${error.message}`));
  child.on("close", () => {
    for (const { reject } of waiting.values()) reject(new Error("Chromium ended"));
  });
  const send = (method, params, sessionId) =>
    new Promise((resolve, reject) => {
      count += 1;
      waiting.set(count, { resolve, reject });
      child.stdio[3].write(`${JSON.stringify({ id: count, method, params, sessionId })}\0`);
    });
  return [child, send];
}

const RESULT =
  "({ label: result.label, pixels: [...result.pixels], scores: [...result.scores] })";

/** Draws a line, which the page has to classify. */
async function draws(page, evaluate, done) {
  const before = await evaluate(RESULT);
  await evaluate("document.getElementById('clear').click()");
  await done();
  const box = await evaluate(
    "(({ x, y }) => ({ x, y }))(document.getElementById('drawing').getBoundingClientRect())");
  const mouse = (type, at) => page("Input.dispatchMouseEvent", {
    type, x: box.x + at, y: box.y + at, button: "left", buttons: 1, clickCount: 1,
  });
  await mouse("mousePressed", 40);
  await mouse("mouseMoved", 200);
  await mouse("mouseReleased", 200);
  await done();
  const { label, pixels, scores } = await evaluate(RESULT);
  const { file } = networks.find((network) => network.label === label);
  compare(scores, native(file, Uint8Array.from(pixels)), "a drawing, in Chromium");
  const colors = new Set(pixels);
  if (`${pixels}` === `${before.pixels}` || colors.size < 4) fail("the page has no drawing");
}

/** Loads the page in Chromium, in both variants, and gives it a picture. */
async function inChromium() {
  const [server, address] = await serve();
  const [child, send] = start();
  try {
    const { targetId } = await send("Target.createTarget", { url: "about:blank" });
    const { sessionId } = await send("Target.attachToTarget", { targetId, flatten: true });
    const page = (method, params) => send(method, params, sessionId);
    const evaluate = async (expression) => {
      const { result, exceptionDetails } = await page("Runtime.evaluate", {
        expression, awaitPromise: true, returnByValue: true,
      });
      if (exceptionDetails) fail(exceptionDetails.exception?.description ?? expression);
      return result.value;
    };
    /** Waits until the page has classified its picture. */
    const done = async (condition = "true") => {
      for (let tries = 0; tries < 300; tries += 1) {
        const state = await evaluate("document.body?.dataset.state ?? ''");
        if (state === "failed") fail(await evaluate("document.body.children.error.textContent"));
        if (state === "done" && (await evaluate(condition))) return;
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
      fail("the page does not end");
    };
    const choose = async (index) => {
      const radio = `document.querySelectorAll("input[name=network]")[${index}]`;
      if (await evaluate(`${radio}.checked`)) return;
      await evaluate("globalThis.result = undefined");
      await evaluate(`${radio}.click()`);
      await done("!!globalThis.result");
    };
    /** Chooses a file for the page. */
    const give = async (path) => {
      const { root } = await page("DOM.getDocument", {});
      const query = { nodeId: root.nodeId, selector: "#file" };
      const { nodeId } = await page("DOM.querySelector", query);
      await page("DOM.setFileInputFiles", { nodeId, files: [path] });
    };
    await page("Page.enable", {});
    await page("Emulation.setDeviceMetricsOverride", {
      width: 780, height: 500, deviceScaleFactor: 1, mobile: false,
    });
    for (const variant of ["plain", "simd"]) {
      await page("Page.navigate", { url: `${address}?engine=${variant}` });
      await done(`location.search === "?engine=${variant}" && !!globalThis.result`);
      for (const [index, { file, label }] of networks.entries()) {
        const engine = await WebAssembly.compile(readFileSync(join(folder, "engine-plain.wasm")));
        const network = await Network.load(engine, readFileSync(file));
        if (network.channels !== 3) continue;
        const side = network.shorterSide || network.height;
        const [bytes, pixels] = picture(side, network);
        const path = join(temporary, `picture-${index}.png`);
        writeFileSync(path, bytes);
        await choose(index);
        await evaluate("globalThis.result = undefined");
        await give(path);
        await done("!!globalThis.result");
        const result = await evaluate(RESULT);
        if (result.label !== label) fail(`${result.label} is chosen instead of ${label}`);
        if (Buffer.compare(Buffer.from(result.pixels), pixels) !== 0) {
          fail(`${label}: the page does not read the pixels of the picture`);
        }
        compare(result.scores, native(file, pixels), `${label}, ${variant}, in Chromium`);
        const time = await evaluate(
          `document.getElementById("networks").rows[${index + 1}].cells[2].textContent`);
        console.log(`${label}, ${variant}: equal in Chromium (${time} per image)`);
      }
    }
    await draws(page, evaluate, done);
    await evaluate("document.body.dataset.state = 'busy'");
    await give(process.argv[1]);
    const message = await done().catch((error) => error.message);
    if (!message?.endsWith("is not a picture that this browser reads")) {
      fail(`a file that is no picture: ${message}`);
    }
    // Browsers that cannot decompress files load them whole.
    const source = "delete globalThis.DecompressionStream";
    await page("Page.addScriptToEvaluateOnNewDocument", { source });
    await page("Page.navigate", { url: address });
    await done(`location.search === "" && !!globalThis.result`);
    console.log("drawing, a file that is no picture, and whole engines: as expected in Chromium");
    if (screenshot) {
      for (let index = networks.length - 1; index >= 0; index -= 1) {
        await choose(index);
      }
      const { data } = await page("Page.captureScreenshot", { format: "png" });
      writeFileSync(screenshot, Buffer.from(data, "base64"));
    }
  } finally {
    const ended = new Promise((resolve) => child.once("exit", resolve));
    if (child.exitCode === null) {
      send("Browser.close", {}).catch(() => {});
      const kill = setTimeout(() => child.kill("SIGKILL"), 5000);
      await ended;
      clearTimeout(kill);
    }
    server.closeAllConnections();
    server.close();
  }
}

try {
  await inNode();
  if (chromium) await inChromium();
} finally {
  rmSync(temporary, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 });
}
