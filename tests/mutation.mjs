// Breaks one thing at a time and demands that a test notices: node tests/mutation.mjs [word ..]
//
// The mutants are in tests/mutations.mjs: a piece of an expression (Rust) or of a shader (WGSL) and what to put in its place. All of
// them are compiled into one build of a copy of the crate, as `if mutant(7) { broken } else { right }`, so that a mutant costs one
// run of one test and not a compilation. The environment variable OUTCROP_MUTANT picks the one that is alive.
//
// It is an error, not a pass, if the text to replace is not there exactly once, if the build fails, if a test fails with no mutant
// alive, if it runs too long, or if it fails for another reason than the one it exists for (a shader that does not compile, say).

import { execFileSync, spawn } from "node:child_process";
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

import { hook, mutants, tests } from "./mutations.mjs";

const root = resolve(dirname(fileURLToPath(import.meta.url)), "..");
const target = resolve(root, process.env.CARGO_TARGET_DIR ?? "target");
const copy = join(target, "mutation");
const LIMIT_MS = 180_000;

/** Ends the run with a message. */
function die(message) {
  console.error(`mutation: ${message}`);
  process.exit(1);
}

/** Where to change `text`, or -1: `from` occurs once, or right after the only `after` if that is given. */
function place(text, { from, after = "" }) {
  const start = text.indexOf(after);
  const unique = after || from;
  const once = text.indexOf(unique) >= 0 && text.indexOf(unique) === text.lastIndexOf(unique);
  return once ? text.indexOf(from, start + after.length) : -1;
}

/** `text` with the part at `place` replaced. */
function changed(text, edit, to) {
  const at = place(text, edit);
  return text.slice(0, at) + to + text.slice(at + edit.from.length);
}

// ---- the table ----

const words = process.argv.slice(2);
// Ids are places in the whole table, from 1 on; 0 is the crate as it stands.
const all = mutants.map((mutant, i) => ({
  ...mutant,
  id: i + 1,
  edits: (mutant.edits ?? [mutant]).map((edit) => ({ file: mutant.file, after: mutant.after, ...edit })),
}));
for (const mutant of all) {
  if (!(mutant.test in tests)) die(`${mutant.name}: no test called ${mutant.test}`);
  for (const edit of mutant.edits) {
    const path = join(root, edit.file);
    if (!existsSync(path)) die(`${mutant.name}: no file ${edit.file}`);
    if (place(readFileSync(path, "utf8"), edit) < 0) die(`${mutant.name}: not there, or not once, in ${edit.file}: ${edit.from}`);
    if (edit.from === edit.to) die(`${mutant.name}: changes nothing`);
  }
}
let chosen = all.filter((m) => words.length === 0 || words.some((w) => `${m.name} ${m.test}`.includes(w)));
if (chosen.length === 0) die(`no mutant matches ${words.join(" ")}`);

// ---- the copy ----

rmSync(copy, { recursive: true, force: true });
mkdirSync(copy, { recursive: true });
for (const name of ["Cargo.lock", "src", "shaders"]) cpSync(join(root, name), join(copy, name), { recursive: true });
for (const name of ["tests", "models"]) symlinkSync(join(root, name), join(copy, name));
// Tests need no cdylib, and linking one takes a while.
writeFileSync(join(copy, "Cargo.toml"), readFileSync(join(root, "Cargo.toml"), "utf8").replace('"cdylib", ', ""));

/** Rust: both are compiled. `parts` lie inside `from..to` of `text`, or are all of it, and may lie inside each other. */
function withMutants(text, from, to, parts) {
  let [out, at] = ["", from];
  const outer = parts.filter((a) => !parts.some((b) => b !== a && b.start <= a.start && a.end <= b.end && b.end - b.start > a.end - a.start));
  for (const [i, part] of outer.entries()) {
    if (i > 0 && part.start === outer[i - 1].start) continue;
    if (part.start < at) die(`${part.mutant.name} overlaps with another mutant`);
    const { start, end } = part;
    let code = withMutants(text, start, end, parts.filter((p) => p.start >= start && p.end <= end && p.end - p.start < end - start));
    for (const same of outer.filter((p) => p.start === start)) code = `(if !crate::mutant(${same.mutant.id}) { ${code} } else { ${same.to} })`;
    out += text.slice(at, start) + code;
    at = end;
  }
  return out + text.slice(at, to);
}

const texts = new Map();
const edits = all.flatMap((mutant) => mutant.edits.map((edit) => ({ ...edit, mutant })));
for (const file of new Set(edits.map((edit) => edit.file).filter((file) => file.endsWith(".rs")))) {
  const text = readFileSync(join(root, file), "utf8");
  const parts = edits
    .filter((edit) => edit.file === file)
    .map((edit) => ({ ...edit, start: place(text, edit), end: place(text, edit) + edit.from.length }))
    .sort((a, b) => a.start - b.start);
  texts.set(file, withMutants(text, 0, text.length, parts));
}

// WGSL: each broken file as a whole.
const arms = all
  .filter(({ edits }) => edits[0].file.endsWith(".wgsl"))
  .map(({ id, edits }) => {
    const file = edits[0].file;
    const broken = edits.reduce((text, edit) => changed(text, edit, edit.to), readFileSync(join(root, file), "utf8"));
    writeFileSync(join(copy, `mutant-${id}.wgsl`), broken);
    return `    if mutant(${id}) && text == include_str!("../${file}") { return include_str!("../mutant-${id}.wgsl"); }`;
  });
if (arms.length > 0) {
  const text = texts.get(hook.file) ?? readFileSync(join(copy, hook.file), "utf8");
  if (place(text, hook) < 0) die(`not there, or not once, in ${hook.file}: ${hook.from}`);
  texts.set(hook.file, changed(text, hook, hook.to));
}

for (const [file, text] of texts) writeFileSync(join(copy, file), text);
writeFileSync(
  join(copy, "src/lib.rs"),
  `#![allow(warnings, clippy::all)]
${readFileSync(join(copy, "src/lib.rs"), "utf8")}
/// Whether the mutant of this number is alive.
#[inline]
pub fn mutant(id: u32) -> bool {
    static ALIVE: std::sync::LazyLock<u32> = std::sync::LazyLock::new(|| {
        std::env::var("OUTCROP_MUTANT").ok().and_then(|id| id.parse().ok()).unwrap_or(0)
    });
    *ALIVE == id
}
/// A piece of a shader, broken if its mutant is alive.
pub fn mutated_shader(text: &'static str) -> &'static str {
${arms.join("\n")}
    text
}
`,
);

// ---- the build ----

const used = [...new Set(chosen.map((m) => m.test))];
const targets = [...new Set(used.map((name) => tests[name].target))];
const flags = targets.flatMap((t) => (t === "lib" ? ["--lib"] : ["--test", t]));
let messages;
try {
  messages = execFileSync("cargo", ["test", "--locked", "--no-run", "--message-format=json-render-diagnostics", ...flags], {
    cwd: copy,
    env: { ...process.env, CARGO_TARGET_DIR: target },
    encoding: "utf8",
    maxBuffer: 1 << 28,
    stdio: ["ignore", "pipe", "inherit"],
  });
} catch {
  die("the build with all mutants in it failed");
}
const programs = new Map();
for (const line of messages.split("\n").filter((l) => l.startsWith("{"))) {
  const message = JSON.parse(line);
  if (message.executable && message.profile?.test) {
    programs.set(message.target.kind.includes("test") ? message.target.name : "lib", message.executable);
  }
}

// ---- the runs ----

/** Runs a test with a mutant alive. */
function run(test, id) {
  const { target: name, filter } = tests[test];
  return new Promise((done) => {
    const began = Date.now();
    const child = spawn(programs.get(name), ["--exact", "--show-output", filter], {
      cwd: copy,
      env: { ...process.env, CARGO_MANIFEST_DIR: copy, OUTCROP_MUTANT: String(id), RUST_BACKTRACE: "0" },
      stdio: ["ignore", "pipe", "pipe"],
    });
    let output = "";
    let late = false;
    const timer = setTimeout(() => ((late = true), child.kill("SIGKILL")), LIMIT_MS);
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (data) => (output += data));
    child.on("close", (code) => {
      clearTimeout(timer);
      done({ code, output, late, seconds: (Date.now() - began) / 1000 });
    });
  });
}

/** Does jobs, as many at a time as there are cores; their failures. */
async function each(jobs, f) {
  const failures = [];
  const queue = jobs.slice();
  const worker = async () => {
    for (let job = queue.shift(); job; job = queue.shift()) {
      const failure = await f(job);
      if (failure) failures.push(failure);
    }
  };
  await Promise.all(Array.from({ length: availableParallelism() }, worker));
  return failures;
}

const tail = (output) => output.trim().split("\n").slice(-30).join("\n");

const broken = await each(used, async (test) => {
  const { code, output, seconds } = await run(test, 0);
  if (code !== 0) return `${test} fails without a mutant:\n${tail(output)}`;
  if (!/test result: ok\. 1 passed/.test(output)) return `${test}: no test is called ${tests[test].filter}`;
  const skipped = /SKIPPED.*/.exec(output);
  if (skipped) {
    console.log(`${skipped[0]} (and the mutants of ${test})`);
    chosen = chosen.filter((mutant) => mutant.test !== test);
    return null;
  }
  console.log(`${test} passes without a mutant (${seconds.toFixed(1)} s)`);
});
if (broken.length > 0) die(broken.join("\n"));

const survivors = await each(chosen, async (mutant) => {
  const { code, output, late, seconds } = await run(mutant.test, mutant.id);
  const verdict = late
    ? `ran longer than ${LIMIT_MS / 1000} s`
    : code === 0
      ? "SURVIVED"
      : tests[mutant.test].says.test(output)
        ? null
        : `failed for another reason:\n${tail(output)}`;
  console.log(`${verdict ? "BAD   " : "caught"} ${mutant.name} (${mutant.test}, ${seconds.toFixed(1)} s)`);
  return verdict && `${mutant.name} (${mutant.test}): ${verdict}`;
});
if (survivors.length > 0) die(`${survivors.length} of ${chosen.length} mutants:\n${survivors.join("\n")}`);
rmSync(copy, { recursive: true });
console.log(`${chosen.length} mutants, all caught.`);
