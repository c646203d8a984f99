// Runs the equality test of WebAssembly in Node: node run.mjs FILE.wasm [SEEDS]

import { readFileSync } from "node:fs";

const [file, seeds = "500"] = process.argv.slice(2);
const { instance } = await WebAssembly.instantiate(readFileSync(file));
const { compare, reset, sets } = instance.exports;
let valid = 0;
for (let seed = 0; seed < Number(seeds); seed += 1) {
  reset();
  const result = compare(seed);
  if (result > 1) {
    console.error(`seed ${seed}: the engine differs from the reference (${result})`);
    process.exit(1);
  }
  valid += result === 0;
}
if (valid < 0.8 * Number(seeds)) {
  console.error(`only ${valid} of ${seeds} random models are valid`);
  process.exit(1);
}
console.log(`${valid} random models are equal to the reference, with ${sets()} instruction set(s)`);
