// Runs in the page: onnxruntime-web's `MatMulNBits` and our kernels on one device, taking turns.
import { matMulNBits } from './onnx.mjs';
import { error, nBits, q4_0, q4_k, random, split } from './weights.mjs';

// The driver serves it from node_modules; its builds differ in who writes the shaders.
const build = new URLSearchParams(location.search).get('build');
/** @type {typeof import('onnxruntime-web')} */
const ort = await import(new URL(`/ort/ort.${build}.bundle.min.mjs`, location.href).href);
ort.env.wasm.numThreads = 1;
ort.env.wasm.wasmPaths = '/ort/';

/**
 * A dispatch of ours, as `cargo run --example shaders TYPE N K TOKENS` prints it.
 * @typedef {object} Dispatch
 * @property {string} name
 * @property {string} source
 * @property {boolean[]} readOnly
 * @property {Record<string, number>} [constants]
 * @property {[number, number, number]} groups
 * @property {number[]} params
 * @property {number[]} run
 * @property {number} weightBytes
 * @property {[number, number, number][]} planes
 */

/**
 * @typedef {object} Job
 * @property {number} k
 * @property {number} n
 * @property {number} tokens
 * @property {number} copies products a submit, each with weights of its own
 * @property {number} rounds
 * @property {Partial<Record<'Q4_0' | 'Q4_K', Dispatch>>} ours
 */

/**
 * One engine, ready: `run` submits all products and waits; `read` gives the first one's result.
 * @typedef {{ name: string, kernel: string, run: () => Promise<void>, read: () => Promise<Float32Array>, free: () => void, blocks: import('./weights.mjs').Blocks }} Side
 */

/** @param {GPUDevice} device @param {GPUBuffer} buffer @param {number} bytes */
async function readBack(device, buffer, bytes) {
  const staging = device.createBuffer({ size: bytes, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST });
  const encoder = device.createCommandEncoder();
  encoder.copyBufferToBuffer(buffer, 0, staging, 0, bytes);
  device.queue.submit([encoder.finish()]);
  await staging.mapAsync(GPUMapMode.READ);
  const values = new Float32Array(staging.getMappedRange().slice(0));
  staging.destroy();
  return values;
}

const STORAGE = () => GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;

/** @param {Job} job @param {Float32Array<ArrayBuffer>} x @param {number} seed @returns {Promise<[Side, GPUDevice]>} */
async function theirs({ k, n, tokens, copies }, x, seed) {
  const next = random(seed);
  const blocks = Array.from({ length: copies }, () => q4_0(n, k, next));
  const model = matMulNBits({ k, n, tokens, weights: blocks.map(nBits) });
  const session = await ort.InferenceSession.create(model, { executionProviders: ['webgpu'], preferredOutputLocation: 'gpu-buffer' });
  const device = /** @type {GPUDevice} */ (await ort.env.webgpu.device);
  const buffer = (/** @type {number} */ size) => device.createBuffer({ size, usage: STORAGE() });
  const input = buffer(x.byteLength);
  device.queue.writeBuffer(input, 0, x);
  const outputs = session.outputNames.map(() => buffer(tokens * n * 4));
  const feeds = { x: ort.Tensor.fromGpuBuffer(input, { dataType: 'float32', dims: [tokens, k] }) };
  const fetches = Object.fromEntries(
    outputs.map((y, i) => [`y${i}`, ort.Tensor.fromGpuBuffer(y, { dataType: 'float32', dims: [tokens, n] })]),
  );
  const side = {
    name: 'onnxruntime-web',
    kernel: 'MatMulNBits',
    run: async () => {
      await session.run(feeds, fetches);
      await device.queue.onSubmittedWorkDone();
    },
    read: () => readBack(device, outputs[0], tokens * n * 4),
    free: () => {
      void session.release();
      for (const b of [input, ...outputs]) b.destroy();
    },
    blocks: blocks[0],
  };
  return [side, device];
}

/**
 * @param {GPUDevice} device @param {Job} job @param {'Q4_0' | 'Q4_K'} type @param {Dispatch} dispatch
 * @param {Float32Array<ArrayBuffer>} x @param {number} seed @returns {Promise<Side>}
 */
async function ours(device, { k, n, tokens, copies }, type, dispatch, x, seed) {
  const next = random(seed);
  const buffer = (/** @type {number} */ size, /** @type {ArrayBufferView<ArrayBuffer> | undefined} */ data = undefined, usage = STORAGE()) => {
    const made = device.createBuffer({ size, usage });
    if (data) device.queue.writeBuffer(made, 0, data);
    return made;
  };
  const uniform = (/** @type {number[]} */ bytes) =>
    buffer(256, Uint8Array.from(bytes), GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST);
  const blocks = Array.from({ length: copies }, () => (type === 'Q4_0' ? q4_0 : q4_k)(n, k, next));
  const [input, arena, output] = [buffer(x.byteLength, x), buffer(16), buffer(tokens * n * 4)];
  const [params, run] = [uniform(dispatch.params), uniform(dispatch.run)];
  const entry = (/** @type {number} */ binding, /** @type {GPUBufferBindingType} */ type) => ({
    binding,
    visibility: GPUShaderStage.COMPUTE,
    buffer: { type },
  });
  const layout = device.createBindGroupLayout({
    entries: [...dispatch.readOnly.map((r, i) => entry(i, r ? 'read-only-storage' : 'storage')), entry(8, 'uniform'), entry(9, 'uniform')],
  });
  const pipeline = await device.createComputePipelineAsync({
    layout: device.createPipelineLayout({ bindGroupLayouts: [layout] }),
    compute: { module: device.createShaderModule({ code: dispatch.source }), entryPoint: 'main', constants: dispatch.constants },
  });
  const weights = blocks.map((b) => buffer(dispatch.weightBytes, split(b, dispatch)));
  const outputs = weights.map((_, i) => (i ? buffer(tokens * n * 4) : output));
  const groups = weights.map((w, i) =>
    device.createBindGroup({
      layout,
      entries: [w, input, arena, outputs[i]]
        .map((b, binding) => ({ binding, resource: { buffer: b } }))
        .concat([
          { binding: 8, resource: { buffer: params } },
          { binding: 9, resource: { buffer: run } },
        ]),
    }),
  );
  return {
    name: type,
    kernel: dispatch.name,
    run: async () => {
      const encoder = device.createCommandEncoder();
      const pass = encoder.beginComputePass();
      pass.setPipeline(pipeline);
      for (const group of groups) {
        pass.setBindGroup(0, group);
        pass.dispatchWorkgroups(...dispatch.groups);
      }
      pass.end();
      device.queue.submit([encoder.finish()]);
      await device.queue.onSubmittedWorkDone();
    },
    read: () => readBack(device, output, tokens * n * 4),
    free: () => {
      for (const b of [input, arena, params, run, ...weights, ...outputs]) b.destroy();
    },
    blocks: blocks[0],
  };
}

/** A session that stays: with the last one onnxruntime-web gives its device up. @type {Promise<[Side, GPUDevice]> | undefined} */
let kept;

/** @param {Job} job */
async function measure(job) {
  await (kept ??= theirs({ k: 32, n: 32, tokens: 1, copies: 1, rounds: 0, ours: {} }, new Float32Array(32), 1));
  const next = random(99);
  const x = Float32Array.from({ length: job.tokens * job.k }, () => next() / 2 ** 31 - 1);
  const [peer, device] = await theirs(job, x, 1);
  const sides = [peer];
  for (const [type, dispatch] of Object.entries(job.ours))
    sides.push(await ours(device, job, /** @type {'Q4_0' | 'Q4_K'} */ (type), dispatch, x, type === 'Q4_0' ? 1 : 2));
  const times = sides.map(() => /** @type {number[]} */ ([]));
  for (const side of sides) await side.run(); // compiles, allocates
  for (let round = 0; round < job.rounds; round++) {
    for (let turn = 0; turn < sides.length; turn++) {
      const i = (round + turn) % sides.length;
      const began = performance.now();
      await sides[i].run();
      times[i].push((performance.now() - began) / job.copies);
    }
  }
  const results = [];
  for (const [i, side] of sides.entries()) {
    const y = await side.read();
    results.push({ name: side.name, kernel: side.kernel, ms: times[i], nmse: error(side.blocks, x, y, job.k, job.n) });
    side.free();
  }
  return { adapter: [device.adapterInfo.vendor, device.adapterInfo.architecture].join(' '), results };
}

Object.assign(globalThis, { measure });
