"""Our CPU path beside llama.cpp's, both native: `./build.sh bench llama`.

    python bench/llama.py --ours target/release/examples/speed [--model M.gguf] [--threads 1,2] [--prompt 128] [--tokens 24]
                          [--repeats 5] [--web FILE] [--json FILE]

One file, the same threads, in turns; who begins changes with each round, the first round warms up and does not count, medians count.
Prefill is the tokens of the prompt over the time until the first token is there. Decode is what was written after that one, over the
time it took: tokens - 1. llama.cpp is given one token after another, as in its own llama-bench; which ones does not matter.

--web takes what `./build.sh bench cpu --json FILE` (or `bench wllama`) wrote on this machine, and puts its figures over
llama.cpp's. Those two were not measured in turns: they say as much as the machine was idle both times.
"""

import argparse
import ctypes
import json
import statistics
import subprocess
import sys
import time

import llama_cpp

RATES = ("prefill_tps", "decode_tps")


class Llama:
    """llama.cpp on the CPU, through its C interface: what is timed is its own work."""

    def __init__(self, path, n_threads, n_ctx):
        # It tells on stderr what it loads.
        self.quiet = llama_cpp.llama_log_callback(lambda level, text, data: None)
        llama_cpp.llama_log_set(self.quiet, ctypes.c_void_p())
        llama_cpp.llama_backend_init()
        of_model = llama_cpp.llama_model_default_params()
        of_model.n_gpu_layers = 0
        self.model = llama_cpp.llama_model_load_from_file(path.encode(), of_model)
        if not self.model:
            sys.exit(f"llama.cpp cannot load {path}")
        of_context = llama_cpp.llama_context_default_params()
        of_context.n_ctx = n_ctx
        of_context.n_batch = n_ctx
        of_context.n_threads = of_context.n_threads_batch = n_threads
        self.context = llama_cpp.llama_init_from_model(self.model, of_context)
        if not self.context:
            sys.exit(f"llama.cpp has no memory for {n_ctx} tokens")

    def decode(self, ids):
        array = (llama_cpp.llama_token * len(ids))(*ids)
        status = llama_cpp.llama_decode(self.context, llama_cpp.llama_batch_get_one(array, len(ids)))
        if status != 0:
            sys.exit(f"llama_decode failed: {status}")

    def run(self, prompt, tokens):
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self.context), True)
        begin = time.perf_counter()
        self.decode([(1 + 7919 * i) % 1000 for i in range(prompt)])
        first = time.perf_counter()
        for i in range(tokens - 1):
            self.decode([(3 + 31 * i) % 1000])
        end = time.perf_counter()
        return {"prefill_tps": prompt / (first - begin), "decode_tps": (tokens - 1) / (end - first)}

    def close(self):
        llama_cpp.llama_free(self.context)
        llama_cpp.llama_model_free(self.model)


class Ours:
    """examples/speed.rs with the model in it: it runs once for each line it is sent."""

    def __init__(self, program, path, n_threads, prompt, tokens):
        command = [program, "--backend", "cpu-int8", "--turns", "--model", path]
        command += ["--threads", str(n_threads), "--prompt", str(prompt), "--tokens", str(tokens)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self):
        try:
            self.process.stdin.write("\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            sys.exit("our program ended: what it said is above")
        report = json.loads(line)
        return {key: report[key] for key in RATES}

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def compare(args, n_threads):
    """Both engines in turns: their medians, their runs, and our rate over llama.cpp's."""
    llama = Llama(args.model, n_threads, args.prompt + args.tokens)
    ours = Ours(args.ours, args.model, n_threads, args.prompt, args.tokens)
    engines = [("ours", ours.run), ("llama", lambda: llama.run(args.prompt, args.tokens))]
    runs = {name: [] for name, _ in engines}
    for turn in range(args.repeats + 1):
        for name, run in engines if turn % 2 else engines[::-1]:
            rates = run()
            if turn > 0:
                runs[name].append(rates)
    ours.close()
    llama.close()
    result = {"threads": n_threads}
    for name, all_rates in runs.items():
        result[name] = {key: statistics.median(rates[key] for rates in all_rates) for key in RATES} | {"runs": all_rates}
    result["ratio"] = over(result["ours"], result["llama"])
    return result


def over(ours, theirs):
    return {key.removesuffix("_tps"): ours[key] / theirs[key] for key in RATES}


def web_rates(path, args):
    """The rates of a report of `bench cpu` or `bench wllama`, by the number of threads."""
    with open(path) as file:
        report = json.load(file)
    rates = {}
    for entry in report["results"] if isinstance(report, dict) else report:
        if (entry["prompt"], entry["tokens"]) != (args.prompt, args.tokens):
            print(f"{path}: {entry['prompt']} + {entry['tokens']} tokens, here {args.prompt} + {args.tokens}", file=sys.stderr)
        ours = entry.get("ours", entry)
        rates[ours["threads"]] = {key: ours[key] for key in RATES}
    return rates


def positive(text):
    """A whole number from 1 on, for argparse."""
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ours", required=True)
    parser.add_argument("--model", default="target/h-350m.gguf")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--prompt", type=positive, default=128)
    parser.add_argument("--tokens", type=positive, default=24)
    parser.add_argument("--repeats", type=positive, default=5)
    parser.add_argument("--web")
    parser.add_argument("--json")
    args = parser.parse_args()
    args.tokens = max(args.tokens, 2)

    web = web_rates(args.web, args) if args.web else {}
    results = [compare(args, positive(n)) for n in args.threads.split(",")]
    system = llama_cpp.llama_print_system_info().decode().strip(" |")
    llama = f"llama-cpp-python {llama_cpp.__version__}, {system}"
    print(f"{args.model}: {args.prompt} tokens read, {args.tokens} written, medians of {args.repeats}; {llama}")
    print(f"{'threads':>7} {'':8} {'ours':>10} {'llama.cpp':>10} {'ratio':>6}" + (f" {'web':>10} {'ratio':>6}" if web else ""))
    for result in results:
        n = result["threads"]
        if n in web:
            result["web"] = web[n] | {"ratio": over(web[n], result["llama"])}
        for key in RATES:
            what = key.removesuffix("_tps")
            line = f"{n:>7} {what:8} {result['ours'][key]:>10.2f} {result['llama'][key]:>10.2f} {result['ratio'][what]:>6.2f}"
            if n in web:
                line += f" {web[n][key]:>10.2f} {result['web']['ratio'][what]:>6.2f}"
            print(line)
    if args.json:
        report = {"model": args.model, "llama": llama, "prompt": args.prompt, "tokens": args.tokens, "repeats": args.repeats, "results": results}
        with open(args.json, "w") as file:
            json.dump(report, file, indent=2)
            file.write("\n")


if __name__ == "__main__":
    main()
