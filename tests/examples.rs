//! The programs in examples/, run as people run them: their output against the oracle, and their complaints.

mod common;
#[path = "common/gguf_writer.rs"]
mod gguf_writer;
#[path = "common/split.rs"]
mod splitter;

use std::{
    env,
    io::{BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::Once,
};

use common::oracle::{Oracle, read_f32};

const DEMO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/models/demo/granite-demo-Q4_K_M.gguf");

/// The program, built if `cargo test` was told to build only this file.
fn example(name: &str) -> Command {
    static BUILD: Once = Once::new();
    // target/<profile>/deps/<this test>
    let profile = env::current_exe().unwrap().parent().unwrap().parent().unwrap().to_path_buf();
    BUILD.call_once(|| {
        let mut build = Command::new(env!("CARGO"));
        build
            .args(["build", "--quiet", "--examples", "--manifest-path"])
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"));
        build.arg("--target-dir").arg(profile.parent().unwrap());
        if profile.ends_with("release") {
            build.arg("--release");
        }
        assert!(build.status().unwrap().success(), "the examples do not build");
    });
    Command::new(profile.join("examples").join(name).with_extension(env::consts::EXE_EXTENSION))
}

/// A file of this test run alone.
fn scratch(name: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("examples-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    dir.join(name)
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn score_gives_the_exact_logits_and_greedy_ids() {
    let oracle = Oracle::open();
    let name = "tiny-64-Q4_K_M";
    let lengths = [1, 2, 3, 7, 64];
    let tokens = scratch("tokens.json");
    let prompts: Vec<&[u32]> = lengths.iter().map(|&n| &oracle.ids[..n]).collect();
    std::fs::write(&tokens, serde_json::to_vec(&prompts).unwrap()).unwrap();
    // (backend, tokens in a pass, type of keys and values, bound on the logits)
    for (backend, ubatch, kv, bound) in [
        ("reference", "7", "f32", 5e-4),
        ("cpu", "512", "f32", 5e-4),
        ("cpu", "5", "f16", 5e-2),
        // With 8-bit activations; llama.cpp's own are up to 1.15 off here.
        ("cpu-int8", "512", "f32", 2.0),
    ] {
        let out = scratch(&format!("{backend}-{ubatch}-{kv}.f32"));
        let output = example("score")
            .arg("--model")
            .arg(oracle.gguf_path(name))
            .arg("--tokens")
            .arg(&tokens)
            .arg("--out")
            .arg(&out)
            .args(["--backend", backend, "--ubatch", ubatch, "--kv", kv, "--greedy", "8"])
            .output()
            .unwrap();
        let greedy: Vec<Vec<u32>> = serde_json::from_str(&stdout(&output)).unwrap();
        let logits = read_f32(&out);
        let n_vocab = logits.len() / lengths.iter().sum::<usize>();
        assert_eq!(logits.len(), n_vocab * lengths.iter().sum::<usize>(), "whole rows");
        let mut row = 0;
        for (&n, greedy) in lengths.iter().zip(&greedy) {
            let golden = oracle.golden(name, n);
            for (&position, exact) in golden.positions.iter().zip(golden.logits.chunks(n_vocab)) {
                let ours = &logits[(row + position) * n_vocab..][..n_vocab];
                let worst = ours.iter().zip(exact).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(
                    worst <= bound,
                    "{backend}, {kv}, prompt of {n}, position {position}: off by {worst}"
                );
            }
            let sure = golden.margin.iter().position(|&m| m <= 2.0 * bound).unwrap_or(8).min(8);
            assert_eq!(greedy[..sure], golden.greedy[..sure], "{backend}, {kv}, prompt of {n}");
            assert_eq!(greedy.len(), 8);
            row += n;
        }
    }
}

#[test]
fn score_complains_in_one_line() {
    let oracle = Oracle::open();
    let model = oracle.gguf_path("tiny-Q8_0");
    let file = |name: &str, text: &str| {
        let path = scratch(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let (good, bad) = (file("good.json", "[[1,2]]"), file("bad.json", "[[1,2],[3,99999999]]"));
    let (empty, shape) = (file("empty.json", "[[]]"), file("shape.json", "{\"ids\": 1}"));
    let torn = scratch("torn.gguf");
    let bytes = std::fs::read(&model).unwrap();
    std::fs::write(&torn, &bytes[..bytes.len() / 2]).unwrap();
    let out = scratch("never.f32");
    let cases: [(&Path, &Path, &[&str], &str); 9] = [
        (&model, &good, &["--backend", "abacus"], "reference, cpu, cpu-int8 or gpu"),
        (&model, &good, &["--kv", "q8"], "f32, f16 or q8_0"),
        (&model, &good, &["--ubatch", "0"], "at least 1"),
        (&model, &bad, &[], "sequence 1"),
        (&model, &empty, &[], "sequence 0"),
        (&model, &shape, &[], "shape.json"),
        (&model, Path::new("nowhere.json"), &[], "nowhere.json"),
        (Path::new("nowhere.gguf"), &good, &[], "nowhere.gguf"),
        (&torn, &good, &[], "truncated"),
    ];
    for (model, tokens, more, says) in cases {
        let mut command = example("score");
        command
            .arg("--model")
            .arg(model)
            .arg("--tokens")
            .arg(tokens)
            .arg("--out")
            .arg(&out)
            .args(more);
        let output = command.output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{says}: {stderr}");
        assert!(
            stderr.contains(says) && stderr.lines().count() == 1,
            "should say {says:?} in one line: {stderr}"
        );
        assert!(output.stdout.is_empty() && !out.exists(), "{says}: no half results");
    }
}

#[test]
fn speed_of_the_cpu_at_once_and_in_turns() {
    let json = scratch("speed.json");
    let speed = || {
        let mut command = example("speed");
        command.args(["--backend", "cpu-int8", "--threads", "2", "--model", DEMO]);
        command.args(["--prompt", "9", "--tokens", "4", "--repeats", "1"]);
        command
    };
    let output = speed().arg("--json").arg(&json).output().unwrap();
    let table = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && table.contains("op of one token"), "{table}");
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    assert_eq!(
        (&report["threads"], &report["prompt"], &report["tokens"]),
        (&2.into(), &9.into(), &4.into())
    );

    let mut child = speed()
        .arg("--turns")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut input, mut lines) = (
        child.stdin.take().unwrap(),
        BufReader::new(child.stdout.take().unwrap()).lines(),
    );
    for _ in 0..2 {
        // The answer comes before the next turn is asked for.
        input.write_all(b"\n").unwrap();
        let report: serde_json::Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        assert!(
            report["prefill_tps"].as_f64() > Some(0.0) && report["decode_tps"].as_f64() > Some(0.0),
            "{report}"
        );
    }
    drop(input);
    assert!(child.wait().unwrap().success() && lines.next().is_none());

    for (args, says) in [
        (["--backend", "gpu"], "--turns is for the CPU"),
        (["--backend", "abacus"], "gpu, cpu-int8 or cpu"),
    ] {
        let output = example("speed").args(args).arg("--turns").output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(1) && stderr.contains(says), "{says}: {stderr}");
    }
}

/// By the name of any part; and without one of them it says which.
#[test]
fn chat_with_a_split_model() {
    let whole = std::fs::read(DEMO).unwrap();
    let n_tensors = outcrop::gguf::Gguf::from_bytes(&whole).unwrap().tensors.len();
    let parts = splitter::split(&whole, &[0, 40, n_tensors - 40]);
    let paths = splitter::write(&scratch("split"), "demo", &parts);
    let ask = |path: &Path| {
        let mut chat = example("chat");
        chat.arg("--model")
            .arg(path)
            .args(["--prompt", "What is the capital of France?"]);
        chat.output().unwrap()
    };
    for path in [&paths[0], &paths[2]] {
        assert_eq!(stdout(&ask(path)), "The capital of France is Paris.\n");
    }
    std::fs::remove_file(&paths[1]).unwrap();
    let output = ask(&paths[0]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.code() == Some(1) && stderr.contains("demo-00002-of-00003.gguf"),
        "{stderr}"
    );
}

#[test]
fn chat_answers_once() {
    let args = ["--model", DEMO, "--prompt", "What is the capital of France?"];
    let output = example("chat").args(args).output().unwrap();
    assert_eq!(stdout(&output), "The capital of France is Paris.\n");
    let report = String::from_utf8_lossy(&output.stderr);
    assert!(
        report.contains("prompt 15 tokens (0 reused)") && report.contains("reply 9 tokens"),
        "{report}"
    );
}

#[test]
fn chat_holds_a_conversation() {
    let mut child = example("chat")
        .args(["--model", DEMO])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let input = "My name is Ada.\n\nWhat is my name?\n/new\nWhat is the capital of France?\n";
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let replies = stdout(&output);
    let replies: Vec<&str> = replies.lines().collect();
    assert_eq!(replies.len(), 3, "{replies:?}");
    assert_eq!(replies[2], "The capital of France is Paris.");
    let report = String::from_utf8_lossy(&output.stderr);
    let reused: Vec<&str> = report.matches("(0 reused)").collect();
    assert_eq!(
        reused.len(),
        2,
        "the first turn and the one after /new start from nothing: {report}"
    );
}

/// Ctrl-C stops the reply and not the program: the next message is answered.
#[cfg(unix)]
#[test]
fn chat_stops_when_interrupted() {
    let mut child = example("chat")
        .args(["--model", DEMO, "--backend", "reference"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    stdin.write_all(b"Write a short poem about the sea.\n").unwrap();
    let mut first = [0];
    stdout.read_exact(&mut first).unwrap();
    let interrupt = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(interrupt.success());
    stdin.write_all(b"What is the capital of France?\n").unwrap();
    drop(stdin);
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).unwrap();
    let status = child.wait().unwrap();
    let mut report = String::new();
    child.stderr.take().unwrap().read_to_string(&mut report).unwrap();
    assert!(status.success(), "{status}: {report}");
    assert!(report.contains(", stopped]"), "{report}");
    assert!(rest.trim_end().ends_with("Paris."), "{rest:?}");
}

#[test]
fn chat_complains_in_one_line() {
    let text = scratch("text.gguf");
    std::fs::write(&text, "Not a model.").unwrap();
    let text = text.to_str().unwrap();
    let cases: [(&[&str], &str); 7] = [
        (&[], "--model is missing"),
        (&["--model", "nowhere.gguf"], "nowhere.gguf"),
        (&["--model", text], "not a GGUF file"),
        (&["--model", DEMO, "--temperature", "-1"], "temperature"),
        (&["--model", DEMO, "--backend", "abacus"], "reference, cpu, cpu-int8 or gpu"),
        (&["--model", DEMO, "--n-ctx", "4"], "the context holds 4"),
        (&["--model", DEMO, "--louder"], "--louder"),
    ];
    for (args, says) in cases {
        let output = example("chat").args(args).args(["--prompt", "Hello"]).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{says}: {stderr}");
        let complaint = BufReader::new(output.stderr.as_slice())
            .lines()
            .map_while(Result::ok)
            .last()
            .unwrap_or_default();
        assert!(
            complaint.starts_with("error: ") && complaint.contains(says),
            "should say {says:?}: {stderr}"
        );
    }
}
