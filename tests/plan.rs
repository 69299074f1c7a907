//! What a pass costs, counted from the recorded plan, without a GPU; and the stand-in headers that it is counted on.

use outcrop::{
    backend::{KvType, Want, gpu::Cost},
    bench::{self, Shape},
    gguf::{GgmlType, Gguf, HeaderReader},
};

fn header(shape: Shape) -> Gguf {
    HeaderReader::new(None).push(&shape.header()).unwrap().unwrap()
}

fn plan(n: u32, pos: u32, want: Want) -> bench::Plan {
    pollster::block_on(bench::plan(&header(Shape::HMicro), n, pos, KvType::F16, want)).unwrap()
}

/// Names, shapes, types and sizes are those of the files that llama.cpp's quantiser makes.
#[test]
fn stand_ins_have_the_published_shapes() {
    for shape in [Shape::HMicro, Shape::H350m] {
        let path = format!(
            "{}/tests/fixtures/shapes/{}-Q4_K_M.tsv",
            env!("CARGO_MANIFEST_DIR"),
            shape.name()
        );
        let mut expected: Vec<String> = std::fs::read_to_string(path)
            .unwrap()
            .lines()
            .skip(1)
            .map(Into::into)
            .collect();
        let mut found: Vec<String> = header(shape)
            .tensors
            .iter()
            .map(|t| {
                let ne: Vec<String> = t.ne.iter().map(u64::to_string).collect();
                format!("{}\t{}\t{}\t{}", t.name, ne.join(","), t.ty, t.size)
            })
            .collect();
        expected.sort();
        found.sort();
        assert_eq!(found.len(), expected.len(), "{}", shape.name());
        for (found, expected) in found.iter().zip(&expected) {
            assert_eq!(found, expected, "{}", shape.name());
        }
    }
}

/// 36 Mamba layers of 5; 4 attention layers of 6, two of which have v in another type; 2 slabs of the table, looked up and multiplied;
/// 2 stages of the argmax. A long context joins its spans in 4 more.
#[test]
fn a_token_of_h_micro() {
    let token = plan(1, 100, Want::Token).cost;
    assert_eq!(token.dispatches, 36 * 5 + 4 * 6 + 2 + 2 + 2 + 2);
    assert_eq!(plan(1, 5000, Want::Token).cost.dispatches, token.dispatches + 4);
    assert_eq!((token.passes, token.submits), (1, 1));
    // 1.934 GB of weights, and the state of 36 layers read and written: 151 MB.
    let moved = (token.bytes.weights + token.bytes.state) as f64;
    assert!((moved / 2.09e9 - 1.0).abs() < 0.02, "{moved}");
    let ssm = 36 * 64 * 64 * 128 * 4 * 2;
    assert!(
        token.bytes.state >= ssm && token.bytes.state < ssm + ssm / 20,
        "{}",
        token.bytes.state
    );
    assert!(token.bytes.activations < 16 << 20, "{}", token.bytes.activations);
    // 8 KiB a token in f16: keys and values of 8 heads of 64 in 4 layers.
    assert_eq!(
        plan(1, 1 << 16, Want::Token).cost.bytes.kv - plan(1, 1 << 15, Want::Token).cost.bytes.kv,
        8192 << 15
    );
}

/// In a Mamba layer conv and the recurrence in token order, or conv and four steps of the recurrence in chunks, instead of one step.
#[test]
fn a_batch_of_h_micro() {
    let batch = plan(31, 0, Want::Nothing).cost;
    assert_eq!(batch.dispatches, 36 * 6 + 4 * 6 + 2 + 2);
    let batch = plan(512, 0, Want::Nothing).cost;
    assert_eq!(batch.dispatches, 36 * 9 + 4 * 6 + 2 + 2);
    // Far into the context a batch's attention is a step for each of 8 heads.
    assert_eq!(plan(512, 100_000, Want::Nothing).cost.dispatches, batch.dispatches + 4 * 7);
    assert_eq!(batch.passes, batch.submits);
}

/// The default limits: a model that needs more would fail in a browser only.
#[test]
fn nothing_exceeds_default_limits() {
    for (n, pos) in [(1, 0), (1, (1 << 17) - 1), (8, 0), (16, 100), (17, 0), (256, 1000), (512, 0)] {
        let plan = plan(n, pos, Want::Token);
        let Cost {
            storage_buffers_max,
            binding_bytes_max,
            ..
        } = plan.cost;
        assert!(storage_buffers_max <= 8, "{n} tokens: {storage_buffers_max} storage buffers");
        assert!(
            binding_bytes_max <= 128 << 20,
            "{n} tokens: a binding of {binding_bytes_max} bytes"
        );
        for shader in &plan.shaders {
            let bytes = workgroup_bytes(&shader.source);
            assert!(bytes <= 16 << 10, "{}: {bytes} bytes of workgroup memory", shader.name);
        }
    }
}

fn workgroup_bytes(source: &str) -> u32 {
    let module = naga::front::wgsl::parse_str(source).unwrap();
    let layouts = module.to_ctx();
    module
        .global_variables
        .iter()
        .filter(|(_, v)| v.space == naga::AddressSpace::WorkGroup)
        .map(|(_, v)| module.types[v.ty].inner.size(layouts).next_multiple_of(16))
        .sum()
}

/// Every type in a stand-in is one of Q4_K_M's.
#[test]
fn stand_ins_are_q4_k_m() {
    for shape in Shape::ALL {
        let gguf = header(shape);
        assert!(
            gguf.tensors
                .iter()
                .all(|t| matches!(t.ty, GgmlType::F32 | GgmlType::Q4_K | GgmlType::Q6_K))
        );
        assert_eq!(Shape::from_name(shape.name()), Some(shape));
    }
}

/// Shapes are constants of a pipeline, and a browser takes from milliseconds to a second to make one.
#[test]
fn products_have_few_pipelines() {
    for (n, most) in [(1, 7), (8, 7 + 1), (256, 7 + 1)] {
        let shaders = plan(n, 0, Want::Token).shaders;
        let products: Vec<_> = shaders
            .iter()
            .map(|s| &s.name)
            .filter(|name| name.starts_with("mat") || name.starts_with("few"))
            .collect();
        assert_eq!(products.len(), most, "{products:?}");
    }
}
