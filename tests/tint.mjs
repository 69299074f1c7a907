// Compiles every shader that the GPU backend can compose with Tint, on a device that has WebGPU's default limits and no optional
// feature: naga, which the native tests use, is another compiler than Chrome's.
//
// Dawn for Node runs on Chromium's SwiftShader here (Mesa's lavapipe lacks what Dawn asks for). Without any adapter the test prints
// SKIPPED, which CI does not forgive. Shaders that want a feature are compiled by Dawn's null adapter, which has them all and only
// lacks what comes after Tint.

import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { create, globals } from "webgpu";

const swiftshader = "/usr/lib/chromium/vk_swiftshader_icd.json";
if (existsSync(swiftshader)) process.env.VK_ICD_FILENAMES = swiftshader;
Object.assign(globalThis, globals);

const json = execFileSync("cargo", ["run", "--quiet", "--locked", "--example", "shaders"], { maxBuffer: 1 << 28 });
const shaders = JSON.parse(json.toString());

const gpu = create([]); // kept: Dawn dies with it, adapters and devices or not
const adapter = await gpu.requestAdapter();
if (!adapter) {
  console.log("SKIPPED: Dawn finds no adapter (Chromium's SwiftShader is not installed)");
  process.exit(process.env.CI ? 1 : 0);
}
const plain = await adapter.requestDevice(); // no requiredLimits: the defaults, whatever the adapter has
const all = create(["backend=null"]); // kept like gpu
const requiredFeatures = [...new Set(shaders.flatMap((s) => s.features))];
const featured = await (await all.requestAdapter()).requestDevice({ requiredFeatures });
const entry = (binding, type) => ({ binding, visibility: GPUShaderStage.COMPUTE, buffer: { type } });

/** What is wrong with a shader, in words; or nothing. */
async function check({ name, source, constants, features, readOnly }) {
  const device = features.length > 0 ? featured : plain;
  const module = device.createShaderModule({ label: name, code: source });
  const layout = device.createBindGroupLayout({
    entries: [
      ...readOnly.map((read, i) => entry(i, read ? "read-only-storage" : "storage")),
      entry(8, "uniform"),
      entry(9, "uniform"),
    ],
  });
  const descriptor = {
    label: name,
    layout: device.createPipelineLayout({ bindGroupLayouts: [layout] }),
    compute: { module, entryPoint: "main", constants },
  };
  // Created together, compiled on as many threads as there are cores.
  const [{ messages }, error] = await Promise.all([
    module.getCompilationInfo(),
    device.createComputePipelineAsync(descriptor).then(() => null, (e) => e),
  ]);
  const problems = messages.map((m) => `  ${m.lineNum}:${m.linePos} ${m.type}: ${m.message}`);
  return error || problems.length > 0 ? [name, ...problems, error ? `  ${error.message}` : ""].join("\n") : "";
}

for (const device of [plain, featured]) device.pushErrorScope("validation");
const failed = (await Promise.all(shaders.map(check))).filter((words) => words);
for (const device of [plain, featured]) {
  const stray = await device.popErrorScope();
  if (stray) failed.push(stray.message);
}
console.log(`${shaders.length} shaders, ${failed.length} refused by Tint`);
if (failed.length > 0) console.error(failed.join("\n"));
process.exit(failed.length > 0 ? 1 : 0);
