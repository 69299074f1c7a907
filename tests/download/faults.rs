//! Anything may go wrong, at any moment.

use outcrop::source::{
    digest::Digest,
    download::ChunkDigests,
    progress::{Problem, Waiting},
};

use super::sim::{CHUNK, Collect, Fault, Scene, URL};

/// A network on which about one request in three fails.
fn rough(rng: &mut fastrand::Rng) -> Option<Fault> {
    let share = rng.f64();
    Some(match rng.u32(..30) {
        0 => Fault::NoAnswer,
        1 => Fault::Silence,
        2 => Fault::Status([500, 502, 503, 429, 408, 416][rng.usize(..6)]),
        3 => Fault::Whole,
        4 => Fault::WrongRange,
        5 | 6 => Fault::Drop(share),
        7 => Fault::Stall(share),
        8 => Fault::Short(share),
        9 => Fault::Compressed,
        _ => return None,
    })
}

#[test]
fn a_rough_network_ends_in_the_files_bytes() {
    let (mut most, mut sum) = (0.0f64, 0.0);
    for seed in 0..400 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let len = rng.usize(1..40_000);
        let scene = Scene::new(seed, len);
        *scene.sim.server.random.borrow_mut() = Some(Box::new(rough));
        let outcome = scene.loads();
        assert!(outcome.stored, "seed {seed}");
        scene.is_kept();
        let waste = scene.sim.server.sent.get() as f64 / len as f64;
        (most, sum) = (most.max(waste), sum + waste);
        let loaded: Vec<_> = scene.progress.borrow().iter().map(|p| p.loaded).collect();
        assert!(loaded.is_sorted(), "seed {seed}: nothing begins again from zero");
    }
    println!(
        "bytes sent over bytes of the file: {:.3} on average, at most {most:.2}",
        sum / 400.0
    );
    assert!(sum / 400.0 < 1.5);
}

#[test]
fn a_flipped_byte_is_caught_by_a_digest() {
    let (mut repaired, mut refused, mut flipped) = (0, 0, 0);
    for seed in 0..300 {
        let mut scene = Scene::new(seed, 20_500);
        scene.spec.sha256 = Some(scene.digest());
        *scene.sim.server.random.borrow_mut() = Some(Box::new(|rng: &mut fastrand::Rng| match rng.u32(..40) {
            0 => Some(Fault::Flip(rng.f64())),
            _ => rough(rng),
        }));
        let (outcome, sink) = scene.load();
        let flips = scene
            .sim
            .server
            .log
            .borrow()
            .iter()
            .filter(|asked| matches!(asked.fault, Some(Fault::Flip(_))))
            .count();
        flipped += usize::from(flips > 0);
        match outcome {
            Ok(_) => {
                assert!(sink.bytes == scene.file(), "seed {seed}");
                scene.is_kept();
                repaired += usize::from(flips > 0);
            }
            Err(e) => {
                assert_eq!(e.code(), "digest_mismatch", "seed {seed}: {e}");
                assert!(flips > 0);
                assert!(scene.shelf.disk.borrow().chunks.is_empty(), "what is wrong is not kept");
                refused += 1;
            }
        }
    }
    println!("{flipped} of 300 had a byte flipped: {refused} were refused, of {repaired} the byte was one that was not used");
    assert!(refused > 50);
}

#[test]
fn with_published_chunks_only_the_wrong_one_comes_again() {
    for seed in 0..50 {
        let mut scene = Scene::new(seed, 12_300);
        let sha256 = scene.file().chunks(CHUNK as usize).map(Digest::of).collect();
        scene.spec.chunks = Some(ChunkDigests { bytes: CHUNK, sha256 });
        *scene.sim.server.faults.borrow_mut() = vec![None, None, None, Some(Fault::Flip(0.5))];
        scene.loads();
        scene.is_kept();
        assert_eq!(scene.sim.server.n_requests(), 14, "13 chunks and one again");
        assert!(
            !scene.shelf.disk.borrow().manifests[URL].published,
            "of the whole nothing was published"
        );
    }
    // Whoever always sends something else is given up.
    let mut scene = Scene::new(1, 3000);
    scene.spec.chunks = Some(ChunkDigests {
        bytes: CHUNK,
        sha256: vec![Digest::of(b"else"); 3],
    });
    let (outcome, sink) = scene.load();
    assert_eq!(outcome.unwrap_err().code(), "digest_mismatch");
    assert!(sink.bytes.is_empty(), "nothing of it went on");
}

#[test]
fn a_file_that_changes_is_begun_again_and_never_mixed() {
    for seed in 0..100 {
        let scene = Scene::new(seed, 30_000);
        let n = 2 + seed as usize % 20;
        scene.sim.server.changes_after.set(Some(n));
        let (outcome, _) = scene.load();
        assert_eq!(outcome.unwrap_err().code(), "file_changed", "seed {seed}");
        let disk = scene.shelf.disk.borrow();
        assert!(
            disk.chunks.is_empty() && disk.manifests.is_empty(),
            "nothing of the old one is left"
        );
        drop(disk);
        scene.loads();
        scene.is_kept();
    }
}

#[test]
fn a_server_that_is_gone_is_given_up_and_what_came_is_kept() {
    let scene = Scene::new(3, 30_000);
    *scene.sim.server.random.borrow_mut() = Some(Box::new(|_: &mut fastrand::Rng| Some(Fault::NoAnswer)));
    *scene.sim.server.faults.borrow_mut() = vec![None; 8];
    let (outcome, _) = scene.load();
    let error = outcome.unwrap_err();
    assert_eq!(error.code(), "network");
    assert!(error.to_string().contains("what arrived is kept"), "{error}");
    let minutes = scene.sim.time.now_ms() / 60_000.0;
    assert!((1.0..5.0).contains(&minutes), "{minutes}");
    assert!(
        scene
            .progress
            .borrow()
            .iter()
            .any(|p| p.waiting == Some(Waiting::Retry) && p.retry_seconds.is_some_and(|s| s > 0.0))
    );
    let kept = scene.shelf.disk.borrow().chunks.len() as u64;
    assert_eq!(kept, 8);
    *scene.sim.server.random.borrow_mut() = None;
    let outcome = scene.loads();
    assert_eq!(outcome.resumed, kept * CHUNK);
}

#[test]
fn without_a_network_it_waits_for_one() {
    let scene = Scene::new(4, 20_000);
    scene.sim.online.set(false);
    assert!(scene.load_until(600_000.0).is_none(), "ten minutes are not too long");
    let last = scene.progress.borrow().last().cloned().unwrap();
    assert_eq!(last.waiting, Some(Waiting::Offline));
    scene.sim.change(|sim| sim.online.set(true));
    scene.loads();
}

#[test]
fn a_busy_servers_word_is_kept() {
    let scene = Scene::new(5, 40_000);
    scene.sim.server.retry_after_ms.set(Some(40_000.0));
    // Not the chunk whose turn it is: for that one, nobody could ask for much more anyway.
    *scene.sim.server.faults.borrow_mut() = vec![None, None, None, None, Some(Fault::Status(429))];
    scene.loads();
    let log = scene.sim.server.log.borrow();
    let refused = log[4].at_ms;
    let in_between = log
        .iter()
        .filter(|asked| asked.at_ms > refused + 25.0 && asked.at_ms < refused + 40_000.0)
        .count();
    assert_eq!(in_between, 0, "nothing is asked meanwhile");
    assert!(
        scene
            .progress
            .borrow()
            .iter()
            .any(|p| p.waiting == Some(Waiting::Busy) && p.retry_seconds.is_some_and(|s| s > 30.0))
    );
}

#[test]
fn a_full_disk_stops_the_storing_and_nothing_else() {
    for seed in 0..40 {
        let scene = Scene::new(seed, 20_000);
        scene.shelf.disk.borrow_mut().quota = Some(7_500);
        let outcome = scene.loads();
        assert!(!outcome.stored);
        assert_eq!(outcome.problem, Some(Problem::Quota));
        let last = scene.progress.borrow().last().cloned().unwrap();
        assert_eq!((last.stored, last.problem), (false, Some(Problem::Quota)));
        assert!(last.note.unwrap().contains("not kept"));
        assert_eq!(scene.shelf.disk.borrow().chunks.len(), 7, "what was stored stays");
        assert!(!scene.shelf.disk.borrow().manifests[URL].complete);
        // With room again, only what is missing is fetched.
        scene.shelf.disk.borrow_mut().quota = None;
        scene.sim.server.log.borrow_mut().clear();
        assert!(scene.loads().stored);
        scene.is_kept();
        assert_eq!(scene.sim.server.n_requests(), 13);
    }
}

#[test]
fn room_is_asked_for_before_the_first_byte() {
    for (bytes, resumed) in [(Some(20_000), false), (None, false), (None, true)] {
        let mut scene = Scene::new(9, 20_000);
        scene.spec.bytes = bytes;
        if resumed {
            scene.shelf.disk.borrow_mut().quota = Some(4_500);
            scene.loads();
            scene.shelf.disk.borrow_mut().quota = None;
            scene.progress.borrow_mut().clear();
        }
        let (kept, rest) = if resumed { (4_000, 16_000) } else { (0, 20_000) };
        scene.sim.room.set(Some(rest - 1));
        let outcome = scene.loads();
        let (first, last) = {
            let all = scene.progress.borrow();
            let told = all.iter().find(|progress| progress.problem.is_some());
            (told.cloned().expect("it is told"), all.last().cloned().unwrap())
        };
        assert_eq!(
            (first.loaded, first.stored, first.problem),
            (kept, false, Some(Problem::Quota))
        );
        assert!(first.note.unwrap().contains("not enough space"));
        // Browsers are careful in what they say: what fits in the end is stored all the same, and that is told too.
        assert!(outcome.stored && outcome.problem.is_none() && outcome.why.is_none());
        assert_eq!((last.stored, last.problem, last.note), (true, None, None));
        scene.is_kept();

        let enough = Scene::new(9, 20_000);
        enough.sim.room.set(Some(20_000));
        enough.loads();
        assert!(enough.progress.borrow().iter().all(|progress| progress.problem.is_none()));
    }
}

#[test]
fn storing_goes_on_once_something_was_deleted() {
    let scene = Scene::new(7, 40_000);
    scene.shelf.disk.borrow_mut().quota = Some(5_000);
    scene.sim.server.ms_a_piece.set(200.0);
    let world = super::sim::SimWorld(scene.sim.clone());
    let mut sink = Collect::default();
    let freed = std::cell::Cell::new(false);
    let full_at = std::cell::Cell::new(u64::MAX);
    let mut report = |progress: outcrop::source::progress::Progress| {
        if progress.problem == Some(Problem::Quota) {
            full_at.set(full_at.get().min(progress.loaded));
        }
        // Some chunks come meanwhile.
        if progress.loaded >= full_at.get().saturating_add(10_000) && !freed.replace(true) {
            scene.shelf.disk.borrow_mut().quota = None;
            scene.sim.freed.set(true);
        }
    };
    let load = outcrop::source::download::receive(&world, Ok(&scene.shelf), &scene.spec, &mut report, &mut sink);
    let outcome = super::sim::run_until(&scene.sim.time, f64::INFINITY, load).unwrap().unwrap();
    assert!(sink.bytes == scene.file() && freed.get());
    let n = scene.shelf.disk.borrow().chunks.len();
    assert!(n > 20 && n < 40, "{n} chunks: those that came while it was full are missing");
    assert!(!outcome.stored);
}

#[test]
fn what_is_no_model_is_never_stored() {
    let scene = Scene::new(8, 9_000);
    let refuse = Collect {
        refuse: true,
        ..Collect::default()
    };
    let (outcome, _) = scene.load_into(refuse, f64::INFINITY).unwrap();
    assert_eq!(outcome.unwrap_err().code(), "not_gguf");
    assert_eq!(scene.shelf.disk.borrow().n_puts, 0);
    assert_eq!(scene.sim.server.open.get(), 0);
}
