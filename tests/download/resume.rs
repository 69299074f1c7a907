//! What is in the store is not asked for again, unless it went bad.

use std::{cell::RefCell, collections::BTreeSet};

use futures_util::future::join;
use outcrop::source::{
    digest::Digest,
    download::{
        receive,
        world::{Elsewhere, World},
    },
    manifest::Manifest,
    progress::{Phase, Progress, Waiting},
};

use super::sim::{CHUNK, Collect, Fault, Scene, SimWorld, URL, run_until};

#[test]
fn a_crash_at_any_moment_costs_the_chunks_in_flight_and_no_more() {
    let mut resumed_some = 0;
    for seed in 0..300 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let scene = Scene::new(seed, rng.usize(2_000..60_000));
        scene.sim.server.ms_a_piece.set(1.0 + rng.f64() * 20.0);
        let mut crashes = 0;
        loop {
            let kept: BTreeSet<u64> = scene.shelf.disk.borrow().chunks.keys().map(|(_, i)| u64::from(*i)).collect();
            scene.sim.server.log.borrow_mut().clear();
            let until = scene.sim.time.now_ms() + 20.0 + rng.f64() * 400.0;
            let done = scene.load_until(until);
            let asked: BTreeSet<u64> = scene.sim.server.chunks_asked().into_iter().collect();
            assert!(
                asked.is_disjoint(&kept),
                "seed {seed}: {kept:?} were there, {asked:?} were asked for"
            );
            if let Some(first) = scene.progress.borrow().first() {
                let file = scene.file();
                let chunks = file.chunks(CHUNK as usize).zip(0..);
                let there: u64 = chunks
                    .filter(|(_, i)| kept.contains(i))
                    .map(|(chunk, _)| chunk.len() as u64)
                    .sum();
                assert_eq!(first.resumed, there);
                assert!(
                    first.loaded == first.resumed || first.phase == Phase::Cache,
                    "the bar begins where it stopped"
                );
            }
            resumed_some += usize::from(!kept.is_empty());
            if let Some((outcome, sink)) = done {
                assert!(outcome.unwrap().stored && sink.bytes == scene.file());
                break;
            }
            crashes += 1;
            assert!(crashes < 2000, "seed {seed}");
        }
        scene.is_kept();
    }
    assert!(resumed_some > 500, "{resumed_some}");
}

#[test]
fn a_stored_file_needs_no_server() {
    let scene = Scene::new(1, 25_000);
    let first = scene.loads();
    assert_eq!(
        (first.phase, first.resumed, first.sha256),
        (Phase::Download, 0, Some(scene.digest()))
    );
    scene.sim.online.set(false);
    scene.sim.server.log.borrow_mut().clear();
    let second = scene.loads();
    assert_eq!((second.phase, second.stored, second.resumed), (Phase::Cache, true, 25_000));
    assert_eq!(second.sha256, Some(scene.digest()));
    assert_eq!(scene.sim.server.n_requests(), 0);
    assert!(
        scene
            .progress
            .borrow()
            .iter()
            .all(|p| p.from_cache && p.total == Some(25_000))
    );
    assert!(scene.shelf.disk.borrow().manifests[URL].used_ms > scene.shelf.disk.borrow().manifests[URL].created_ms);
}

#[test]
fn chunks_that_went_bad_come_again_alone() {
    for seed in 0..200 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let scene = Scene::new(seed, 25_300);
        scene.loads();
        let mut bad = BTreeSet::new();
        for _ in 0..rng.usize(1..5) {
            let i = rng.u32(..26);
            bad.insert(u64::from(i));
            let mut disk = scene.shelf.disk.borrow_mut();
            let chunk = disk.chunks.entry((URL.into(), i)).or_default();
            match rng.u32(..3) {
                0 => *chunk = vec![],
                1 => chunk.truncate(10),
                _ => chunk.iter_mut().for_each(|byte| *byte = byte.wrapping_add(1)),
            }
            if rng.bool() && chunk.is_empty() {
                disk.chunks.remove(&(URL.into(), i));
            }
        }
        scene.sim.server.log.borrow_mut().clear();
        scene.loads();
        scene.is_kept();
        let asked = scene.sim.server.chunks_asked();
        assert_eq!(asked, bad.iter().copied().collect::<Vec<_>>(), "seed {seed}");
    }
}

#[test]
fn a_bad_chunk_of_a_file_that_changed_means_a_new_start() {
    let scene = Scene::new(2, 9_000);
    scene.loads();
    scene.shelf.disk.borrow_mut().chunks.get_mut(&(URL.into(), 4)).unwrap()[3] ^= 1;
    scene.sim.server.file.borrow_mut()[0] ^= 1;
    *scene.sim.server.etag.borrow_mut() = Some("\"two\"".into());
    assert_eq!(scene.load().0.unwrap_err().code(), "file_changed");
    scene.loads();
    scene.is_kept();

    // Even where the server does not say so, another file's chunk is not put among these.
    *scene.sim.server.etag.borrow_mut() = None;
    scene.shelf.disk.borrow_mut().manifests.get_mut(URL).unwrap().etag = None;
    scene.shelf.disk.borrow_mut().chunks.get_mut(&(URL.into(), 4)).unwrap()[3] ^= 1;
    scene.sim.server.file.borrow_mut()[4_500] ^= 1;
    assert_eq!(scene.load().0.unwrap_err().code(), "file_changed");
    scene.loads();
}

#[test]
fn stored_alone_means_stored_alone() {
    let mut scene = Scene::new(3, 9_000);
    scene.spec.stored_only = true;
    assert_eq!(scene.load().0.unwrap_err().code(), "not_stored");
    scene.spec.stored_only = false;
    scene.loads();
    scene.spec.stored_only = true;
    scene.loads();
    scene.shelf.disk.borrow_mut().chunks.get_mut(&(URL.into(), 4)).unwrap()[3] ^= 1;
    scene.sim.server.log.borrow_mut().clear();
    let error = scene.load().0.unwrap_err();
    assert_eq!(error.code(), "storage");
    assert!(error.to_string().contains("damaged"), "{error}");
    assert_eq!(scene.sim.server.n_requests(), 0);
}

#[test]
fn a_store_of_the_first_version_is_read_and_gets_its_digests() {
    let scene = Scene::new(4, 9_500);
    let mut old = Manifest::new(URL, CHUNK, 0.0);
    (old.schema, old.length, old.complete, old.etag) = (1, Some(9_500), true, Some("\"one\"".into()));
    for (i, chunk) in scene.file().chunks(CHUNK as usize).enumerate() {
        scene
            .shelf
            .disk
            .borrow_mut()
            .chunks
            .insert((URL.into(), i as u32), chunk.to_vec());
    }
    scene.shelf.disk.borrow_mut().manifests.insert(URL.into(), old.clone());
    assert_eq!(scene.loads().phase, Phase::Cache);
    scene.is_kept();
    assert_eq!(scene.sim.server.n_requests(), 0);

    // A torn one goes on.
    old.complete = false;
    scene.shelf.disk.borrow_mut().manifests.insert(URL.into(), old);
    scene.shelf.disk.borrow_mut().chunks.remove(&(URL.into(), 9));
    scene.loads();
    scene.is_kept();
    assert_eq!(scene.sim.server.chunks_asked(), [9]);
}

#[test]
fn a_digest_that_is_not_met_leaves_nothing() {
    let mut scene = Scene::new(5, 9_000);
    scene.spec.sha256 = Some(Digest::of(b"another file"));
    assert_eq!(scene.load().0.unwrap_err().code(), "digest_mismatch");
    assert!(scene.shelf.disk.borrow().chunks.is_empty());
    scene.spec.sha256 = None;
    assert!(!scene.loads().checked);
    // A stored file that is not what is wanted now is fetched anew; one that is need not be.
    scene.spec.sha256 = Some(scene.digest());
    scene.sim.server.log.borrow_mut().clear();
    assert!(scene.loads().checked);
    assert_eq!(scene.sim.server.n_requests(), 0);
}

#[test]
fn without_a_version_or_a_digest_a_torn_download_begins_again() {
    for digest in [false, true] {
        let mut scene = Scene::new(8, 30_000);
        *scene.sim.server.etag.borrow_mut() = None;
        scene.spec.sha256 = digest.then(|| scene.digest());
        scene.sim.server.ms_a_piece.set(20.0);
        assert!(scene.load_until(500.0).is_none());
        let kept = scene.shelf.disk.borrow().chunks.len() as u64;
        assert!(kept > 3);
        assert_eq!(scene.loads().resumed, if digest { kept * CHUNK } else { 0 });
        scene.is_kept();
    }
}

#[test]
fn a_manifest_that_lies_does_no_harm() {
    let lies: [fn(&mut Manifest); 6] = [
        |m| m.length = Some(1),
        |m| m.length = Some(1 << 50),
        |m| m.chunk_bytes = 1 << 53,
        |m| m.chunk_bytes = 7,
        |m| m.id = outcrop::source::manifest::ModelId::from_url("https://other.example/"),
        |m| m.hashes = vec![Some(Digest::of(b"else")); 3],
    ];
    for (i, lie) in lies.into_iter().enumerate() {
        let scene = Scene::new(9, 9_500);
        scene.loads();
        lie(scene.shelf.disk.borrow_mut().manifests.get_mut(URL).unwrap());
        for _ in 0..2 {
            if scene.load().0.is_ok() {
                break;
            }
        }
        scene.loads();
        scene.is_kept();
        assert_eq!(scene.shelf.disk.borrow().manifests.len(), 1, "lie {i}");
    }
}

#[test]
fn another_tabs_download_is_watched_and_then_used() {
    let scene = Scene::new(6, 9_000);
    let file = scene.file();
    scene.sim.leased_until_ms.set(5_000.0);
    scene.sim.elsewhere.set(Some(Elsewhere {
        loaded: 4_000,
        total: Some(9_000),
        bytes_per_second: Some(1000.0),
    }));
    assert!(scene.load_until(4_000.0).is_none());
    let seen = scene.progress.borrow().last().cloned().unwrap();
    assert_eq!(
        (seen.waiting, seen.loaded, seen.total),
        (Some(Waiting::OtherTab), 4_000, Some(9_000))
    );
    assert_eq!(scene.sim.server.n_requests(), 0);
    // It ends well elsewhere ..
    let mut manifest = Manifest::new(URL, CHUNK, 0.0);
    (manifest.length, manifest.complete) = (Some(9_000), true);
    manifest.sha256 = Some(scene.digest());
    for (i, chunk) in file.chunks(CHUNK as usize).enumerate() {
        manifest.set_hash(i, Digest::of(chunk));
        scene
            .shelf
            .disk
            .borrow_mut()
            .chunks
            .insert((URL.into(), i as u32), chunk.to_vec());
    }
    scene.shelf.disk.borrow_mut().manifests.insert(URL.into(), manifest);
    assert_eq!(scene.loads().phase, Phase::Cache);
    assert_eq!(scene.sim.server.n_requests(), 0);
    // .. or that tab dies, and this one goes on with what there is.
    scene.shelf.disk.borrow_mut().manifests.get_mut(URL).unwrap().complete = false;
    (5..9).for_each(|i| drop(scene.shelf.disk.borrow_mut().chunks.remove(&(URL.into(), i))));
    scene.sim.leased_until_ms.set(scene.sim.time.now_ms() + 3_000.0);
    assert_eq!(scene.loads().resumed, 5_000);
    assert_eq!(scene.sim.server.chunks_asked(), [5, 6, 7, 8]);
}

#[test]
fn nothing_is_asked_while_it_is_paused() {
    let scene = Scene::new(7, 60_000);
    scene.sim.server.ms_a_piece.set(30.0);
    let world = SimWorld(scene.sim.clone());
    let mut sink = Collect::default();
    let (sim, time) = (&scene.sim, &scene.sim.time);
    let progress = RefCell::new(Vec::new());
    let mut report = |event: Progress| progress.borrow_mut().push(event);
    let load = receive(&world, Ok(&scene.shelf), &scene.spec, &mut report, &mut sink);
    let visitor = async {
        world.sleep(700.0).await;
        sim.change(|sim| sim.paused.set(true));
        world.sleep(100.0).await;
        assert_eq!(sim.server.open.get(), 0, "transfers end");
        let before = (sim.server.n_requests(), sim.server.sent.get());
        world.sleep(3_600_000.0).await;
        assert_eq!((sim.server.n_requests(), sim.server.sent.get()), before);
        sim.change(|sim| sim.paused.set(false));
    };
    let (outcome, ()) = run_until(time, f64::INFINITY, join(load, visitor)).unwrap();
    assert!(outcome.unwrap().stored && sink.bytes == scene.file());
    assert!(
        sim.server.sent.get() < 60_000 + 8 * 400,
        "pieces that had come were not asked for again"
    );
    let progress = progress.into_inner();
    assert!(progress.iter().any(|p| p.paused && p.bytes_per_second.is_none()));
    assert!(!progress.last().unwrap().paused);
}

#[test]
fn whoever_aborts_leaves_no_transfer_open_and_keeps_what_came() {
    for seed in 0..50 {
        let scene = Scene::new(seed, 60_000);
        scene.sim.server.ms_a_piece.set(20.0);
        *scene.sim.server.faults.borrow_mut() = vec![None, Some(Fault::Stall(0.5))];
        let world = SimWorld(scene.sim.clone());
        let mut sink = Collect::default();
        let mut report = |_| {};
        let load = receive(&world, Ok(&scene.shelf), &scene.spec, &mut report, &mut sink);
        let mut load = std::pin::pin!(load);
        assert!(run_until(&scene.sim.time, 300.0 + 10.0 * seed as f64, load.as_mut()).is_none());
        scene.sim.change(|sim| sim.aborted.set(true));
        let begun_ms = scene.sim.time.now_ms();
        let outcome = run_until(&scene.sim.time, f64::INFINITY, load).unwrap();
        assert_eq!(outcome.unwrap_err().code(), "aborted");
        assert!(scene.sim.time.now_ms() - begun_ms < 50.0, "at once");
        assert_eq!(scene.sim.server.open.get(), 0);
        scene.sim.aborted.set(false);
        let kept = scene.shelf.disk.borrow().chunks.len() as u64;
        assert_eq!(scene.loads().resumed, kept * CHUNK);
    }
}
