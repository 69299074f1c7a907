//! The self-check finds kernels that compute wrongly: sabotaged ones do nothing at all, which many a driver bug looks like.

mod common;

use common::oracle::Oracle;
use outcrop::backend::gpu::{Forms, Gpu, GpuOptions, MatmulForm, MatvecForm};
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
    for (name, kv) in [
        ("tiny-g2-Q4_K_M", KvType::F32),
        ("tiny-Q8_0", KvType::F16),
        ("tiny-64-Q4_K_M", KvType::Q8_0),
    ] {
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

/// Every form of the products passes where the device has what it needs; a wrong one is given up, and what runs then is right.
#[test]
fn a_wrong_form_is_given_up() {
    let with = |forms, sabotage: Option<&str>| GpuOptions {
        forms: Some(forms),
        sabotage: sabotage.map(str::to_owned),
        ..Default::default()
    };
    let base = Forms::default();
    let matvec = |matvec| Forms { matvec, ..base };
    let matmul = |matmul| Forms { matmul, ..base };
    for (forms, name) in [
        (matmul(MatmulForm::Serial), "matmul_serial"),
        (matmul(MatmulForm::F16), "matmul_f16"),
        (matvec(MatvecForm::Serial), "matvec_serial"),
        (matvec(MatvecForm::Subgroups), "matvec_subgroups"),
        (matvec(MatvecForm::Packed), "matvec_packed"),
    ] {
        let Some((model, checked)) = ready("tiny-Q4_K_M", KvType::F32, with(forms, None)) else {
            return;
        };
        checked.unwrap();
        assert_eq!(model.backend.forms(), forms, "{:?}", model.backend.dropped());
        drop(model);
        let (model, checked) = ready("tiny-Q4_K_M", KvType::F32, with(forms, Some(name))).expect("as before");
        checked.unwrap();
        let gpu = &model.backend;
        assert_eq!(gpu.forms(), Forms::default());
        let [dropped] = gpu.dropped() else {
            panic!("{:?}", gpu.dropped())
        };
        assert_eq!(dropped.form, name);
        assert!(dropped.why.contains("gave wrong results for "), "{}", dropped.why);
        assert!(
            gpu.unchecked().iter().all(|kernel| kernel.starts_with(name)),
            "{:?}",
            gpu.unchecked()
        );
    }
}

/// What is measured is what a device can run, the fastest is taken, and what is known is not measured again.
#[test]
fn forms_are_compared() {
    let options = GpuOptions {
        tune: Some(true),
        ..Default::default()
    };
    let Some((model, checked)) = ready("tiny-Q4_K_M", KvType::F32, options) else {
        return;
    };
    checked.unwrap();
    let gpu = &model.backend;
    let times = &gpu.tuning().times;
    // A slow device has no time for all; what it has measured it has compared.
    let in_time = gpu.tuning().took_ms < 1400.0;
    for name in ["matvec serial", "matvec base", "matmul serial", "matmul base"] {
        let seen = times.iter().any(|(form, ms)| form == name && *ms > 0.0);
        assert!(seen || !in_time, "{name}: {times:?}");
    }
    assert!(!times.is_empty());
    for (family, form) in gpu.forms().names() {
        let mine: Vec<_> = times.iter().filter(|(name, _)| name.starts_with(family)).collect();
        let name = format!("{family} {form}");
        let chosen = mine.iter().find(|(measured, _)| *measured == name);
        assert!(chosen.is_some() || !in_time, "{name} was chosen of {times:?}");
        // A few percent are no reason to leave what is preferred.
        assert!(
            chosen.is_none_or(|best| mine.iter().all(|(_, ms)| best.1 <= ms / 0.96)),
            "{name} of {times:?}"
        );
    }
    println!("{times:?} in {:.0} ms", gpu.tuning().took_ms);
    let known = GpuOptions {
        remembered: Some(gpu.forms()),
        ..Default::default()
    };
    let forms = gpu.forms();
    drop(model);
    let (model, checked) = ready("tiny-Q4_K_M", KvType::F32, known).expect("as before");
    checked.unwrap();
    assert_eq!(model.backend.forms(), forms);
    assert!(model.backend.tuning().times.is_empty());
}

/// Without a base form to fall back on the device is given up, and the error says what is wrong.
#[test]
fn a_wrong_base_kernel_is_found() {
    let options = GpuOptions {
        default_limits: true,
        forms: Some(Forms::default()),
        ..Default::default()
    };
    let Some((mut model, checked)) = ready("tiny-g2-Q4_K_M", KvType::F32, options) else {
        return;
    };
    checked.unwrap();
    let gpu = &mut model.backend;
    // One kernel of each kind: of `matvec_q4_k_8_norm` what stands before the type.
    let mut kinds: Vec<String> = gpu.kernel_names();
    let types = ["_q", "_f32", "_f16"];
    for kind in &mut kinds {
        kind.truncate(types.iter().filter_map(|ty| kind.find(ty)).min().unwrap_or(kind.len()));
    }
    kinds.sort();
    kinds.dedup();
    assert!(kinds.len() > 8, "{kinds:?}");
    for kind in kinds {
        gpu.sabotage(Some(&kind));
        match pollster::block_on(gpu.ready()) {
            Err(Error::Gpu { what }) => assert!(what.contains(&kind) && what.contains("wrong results"), "{kind}: {what}"),
            other => panic!("{kind} does nothing, and the check says {other:?}"),
        }
    }
    gpu.sabotage(None);
    pollster::block_on(gpu.ready()).unwrap();
}
