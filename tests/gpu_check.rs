//! The self-check finds kernels that compute wrongly: sabotaged ones do nothing at all, which many a driver bug looks like.

mod common;

use common::oracle::Oracle;
use outcrop::backend::gpu::{Gpu, GpuOptions};
use outcrop::backend::{Backend, KvType};
use outcrop::gguf::Gguf;
use outcrop::model::{Loader, Model};
use outcrop::{Error, Result};

/// Declares a model of the oracle on a device and makes it ready; the check needs none of its weights.
fn ready(model: &str, kv: KvType, options: GpuOptions) -> Option<(Model<Gpu>, Result<()>)> {
    let gpu = common::gpu::open(options)?;
    let path = Oracle::open().gguf_path(model);
    let gguf = Gguf::from_bytes(&std::fs::read(path).expect("the model")).expect("the header");
    let mut loader = Loader::new(&gguf, gpu).expect("a loader");
    loader.prepare(512, kv).expect("a plan");
    let mut model = loader.without_weights();
    let checked = pollster::block_on(model.backend.ready());
    Some((model, checked))
}

/// Healthy devices pass, and every kernel that the model takes has been looked at.
#[test]
fn all_kernels_are_checked() {
    for (name, kv) in [("tiny-g2-Q4_K_M", KvType::F32), ("tiny-Q8_0", KvType::F16)] {
        let Some((model, checked)) = ready(name, kv, GpuOptions::default()) else {
            return;
        };
        checked.unwrap();
        let gpu = &model.backend;
        assert!(gpu.kernel_names().len() > 10);
        assert_eq!(gpu.unchecked(), Vec::<String>::new(), "{name}");
        assert!(gpu.dropped().is_empty(), "{:?}", gpu.dropped());
    }
}

/// Without a base form to fall back on the device is given up, and the error says what is wrong.
#[test]
fn a_wrong_base_kernel_is_found() {
    let base = |sabotage: Option<&str>| GpuOptions {
        default_limits: true,
        sabotage: sabotage.map(str::to_owned),
        ..Default::default()
    };
    let name = "tiny-g2-Q4_K_M";
    let Some((model, checked)) = ready(name, KvType::F32, base(None)) else {
        return;
    };
    checked.unwrap();
    // One kernel of each kind: of `matvec_q4_k_8_norm` what stands before the type.
    let mut kinds: Vec<String> = model.backend.kernel_names();
    let types = ["_q", "_f32", "_f16"];
    for kind in &mut kinds {
        kind.truncate(types.iter().filter_map(|ty| kind.find(ty)).min().unwrap_or(kind.len()));
    }
    kinds.sort();
    kinds.dedup();
    assert!(kinds.len() > 8, "{kinds:?}");
    drop(model);
    for kind in kinds {
        let (_, checked) = ready(name, KvType::F32, base(Some(&kind))).expect("as before");
        match checked {
            Err(Error::Gpu { what }) => assert!(what.contains(&kind) && what.contains("wrong results"), "{kind}: {what}"),
            other => panic!("{kind} does nothing, and the check says {other:?}"),
        }
    }
}
