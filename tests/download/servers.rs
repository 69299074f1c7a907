//! Servers that are not broken, just different.

use outcrop::source::digest::Digest;

use super::sim::{CHUNK, Fault, MEMORY, MIRROR, MOST_MEMORY, Scene, URL, most_memory_begins_anew};

#[test]
fn several_chunks_at_once_but_not_many() {
    let scene = Scene::new(1, 100_000);
    scene.sim.server.ms_a_piece.set(10.0); // slower than the disk, as networks are
    scene.loads();
    assert_eq!(scene.sim.server.n_requests(), 100);
    assert_eq!(scene.sim.server.most_open.get(), 6);
    let log = scene.sim.server.log.borrow();
    assert_eq!(log[0].strong_etag, None);
    assert!(log[1..].iter().all(|asked| asked.strong_etag.as_deref() == Some("\"one\"")));
    drop(log);
    let mut scene = Scene::new(1, 100_000);
    scene.spec.parallel = Some(2);
    scene.loads();
    assert_eq!(scene.sim.server.most_open.get(), 2);
}

#[test]
fn the_others_do_not_wait_for_the_first_chunk() {
    let scene = Scene::new(1, 100_000);
    scene.sim.server.ms_a_piece.set(1000.0);
    // Its headers are there, and of its pieces the first at most.
    assert!(scene.load_until(1500.0).is_none());
    assert_eq!(scene.sim.server.n_requests(), 4);
    assert_eq!(scene.sim.server.log.borrow()[1].strong_etag.as_deref(), Some("\"one\""));
}

#[test]
fn eight_chunks_are_in_memory_at_most_and_copies_of_three() {
    for seed in 0..40 {
        for (ms_a_piece, ms_a_put, ranges) in [(10.0, 4.0, true), (1.0, 4.0, true), (0.1, 50.0, true), (1.0, 4.0, false)] {
            let scene = Scene::new(seed, 100_000);
            scene.sim.server.ms_a_piece.set(ms_a_piece);
            scene.sim.server.ranges.set(ranges);
            scene.shelf.disk.borrow_mut().ms_a_put = ms_a_put;
            let before = MEMORY.get();
            most_memory_begins_anew();
            scene.loads();
            scene.is_kept();
            let most = (MOST_MEMORY.get() - before) as u64;
            // Besides them the piece that is just being taken.
            assert!(
                most <= (8 + 3) * CHUNK + 400,
                "{most} bytes at {ms_a_piece} ms a piece and {ms_a_put} a chunk written, ranges {ranges}"
            );
            assert_eq!(MEMORY.get(), before, "all of it is given back");
        }
    }
}

#[test]
fn a_server_without_ranges_sends_one_stream() {
    for seed in 0..60 {
        let scene = Scene::new(seed, 20_500);
        scene.sim.server.ranges.set(false);
        scene.sim.server.says_length.set(seed % 2 == 0);
        scene.loads();
        scene.is_kept();
        assert_eq!(scene.sim.server.n_requests(), 1);

        // A stream that breaks begins again, and what had come is passed over.
        let scene = Scene::new(seed, 20_500);
        scene.sim.server.ranges.set(false);
        scene.sim.server.says_length.set(seed % 2 == 0);
        *scene.sim.server.faults.borrow_mut() = vec![Some(Fault::Drop(0.3)), Some(Fault::Drop(0.2)), Some(Fault::Stall(0.7))];
        scene.loads();
        scene.is_kept();
        assert_eq!(scene.sim.server.n_requests(), 4, "seed {seed}");
        let loaded: Vec<_> = scene.progress.borrow().iter().map(|p| p.loaded).collect();
        assert!(loaded.is_sorted());
    }
}

#[test]
fn where_ranges_do_not_even_get_an_answer_the_whole_file_is_asked_for() {
    let scene = Scene::new(9, 20_500);
    scene.sim.server.ranges_break.set(true);
    scene.loads();
    scene.is_kept();
    let ranges: Vec<_> = scene
        .sim
        .server
        .log
        .borrow()
        .iter()
        .map(|asked| asked.range.is_some())
        .collect();
    assert_eq!(
        ranges,
        [true, false, true, false],
        "both ways twice, since a first failure may be anything"
    );
    // A server that was away for a moment is asked for ranges all the same.
    let scene = Scene::new(9, 20_500);
    *scene.sim.server.faults.borrow_mut() = vec![Some(Fault::NoAnswer)];
    scene.loads();
    assert!(scene.sim.server.most_open.get() >= 2, "{}", scene.sim.server.most_open.get());
    // Nobody there at all is told soon.
    let scene = Scene::new(9, 20_500);
    *scene.sim.server.random.borrow_mut() = Some(Box::new(|_: &mut fastrand::Rng| Some(Fault::NoAnswer)));
    assert_eq!(scene.load().0.unwrap_err().code(), "network");
    assert!(scene.sim.time.now_ms() < 5_000.0, "{}", scene.sim.time.now_ms());
}

#[test]
fn sizes_of_every_kind() {
    for len in [0, 1, 999, 1000, 1001, 2000, 5999] {
        for (ranges, says) in [(true, true), (false, true), (false, false)] {
            let scene = Scene::new(len as u64, len);
            scene.sim.server.ranges.set(ranges);
            scene.sim.server.says_length.set(says);
            let outcome = scene.loads();
            assert_eq!(
                (outcome.bytes, outcome.sha256),
                (len as u64, Some(scene.digest())),
                "{len} {ranges} {says}"
            );
            assert!(len == 0 || outcome.stored);
        }
    }
}

#[test]
fn a_server_whose_headers_are_hidden_is_asked_for_its_length() {
    let scene = Scene::new(2, 20_500);
    scene.sim.server.hides.set(true);
    scene.loads();
    scene.is_kept();
    let log = scene.sim.server.log.borrow();
    let plain = log.iter().filter(|asked| asked.range.is_none()).count();
    assert_eq!((plain, log.len()), (1, 1 + 1 + 21), "a first part, the length, all parts");
    assert!(log.iter().all(|asked| asked.strong_etag.is_none()));
    drop(log);
    assert!(
        scene.sim.server.sent.get() < 20_500 + 3 * CHUNK,
        "the whole file is not sent for its length's sake"
    );
}

#[test]
fn signed_addresses_expire_and_are_asked_for_again() {
    let scene = Scene::new(3, 40_000);
    scene.sim.server.signs_for.set(Some(7));
    scene.loads();
    scene.is_kept();
    let log = scene.sim.server.log.borrow();
    let own = log.iter().filter(|asked| asked.url == URL).count();
    assert!(
        (5..20).contains(&own),
        "{own} of {} went to the model's own address",
        log.len()
    );
    assert!(log.len() < 80, "{}", log.len());
    drop(log);
    // Signatures that are good for one answer cost a refusal each.
    let scene = Scene::new(3, 40_000);
    scene.sim.server.signs_for.set(Some(0));
    scene.loads();
    assert!(scene.sim.server.n_requests() < 100, "{}", scene.sim.server.n_requests());
}

#[test]
fn a_missing_file_is_an_error_at_once() {
    for status in [404, 403, 410, 401] {
        let scene = Scene::new(4, 4_000);
        scene.sim.server.refuses.borrow_mut().insert(URL.into(), status);
        let error = scene.load().0.unwrap_err();
        assert_eq!(error.code(), "http_status");
        assert!(error.to_string().contains(&status.to_string()), "{error}");
        assert_eq!(scene.sim.server.n_requests(), 1);
    }
}

#[test]
fn mirrors_take_over_under_one_digest_or_before_the_first_byte() {
    let of = |seed, digest: bool| {
        let mut scene = Scene::new(seed, 20_000);
        scene.spec.urls.push(MIRROR.into());
        scene.spec.sha256 = digest.then(|| scene.digest());
        scene
    };
    let asked = |scene: &Scene, url: &str| scene.sim.server.log.borrow().iter().filter(|asked| asked.url == url).count();
    // Before the first byte.
    for digest in [false, true] {
        let scene = of(5, digest);
        scene.sim.server.refuses.borrow_mut().insert(URL.into(), 404);
        scene.loads();
        scene.is_kept();
        assert_eq!((asked(&scene, URL), asked(&scene, MIRROR)), (1, 20));
        assert_eq!(scene.shelf.disk.borrow().manifests[URL].mirror.as_deref(), Some(MIRROR));
    }
    // In the middle, with a digest: the rest comes from the other one.
    let scene = of(6, true);
    scene.sim.server.ms_a_piece.set(20.0);
    assert!(scene.load_until(400.0).is_none());
    let kept = scene.shelf.disk.borrow().chunks.len();
    assert!(kept > 0 && kept < 20);
    scene.sim.server.refuses.borrow_mut().insert(URL.into(), 410);
    assert_eq!(scene.loads().resumed, kept as u64 * CHUNK);
    assert!(asked(&scene, MIRROR) <= 20 - kept);
    // .. without one: all begins again, there.
    let scene = of(6, false);
    scene.sim.server.ms_a_piece.set(20.0);
    assert!(scene.load_until(400.0).is_none());
    scene.sim.server.refuses.borrow_mut().insert(URL.into(), 410);
    assert_eq!(scene.load().0.unwrap_err().code(), "file_changed");
    assert!(scene.shelf.disk.borrow().chunks.is_empty());
    assert_eq!(asked(&scene, MIRROR), 0);
    assert_eq!(scene.loads().resumed, 0);
    assert_eq!(asked(&scene, MIRROR), 20);
}

#[test]
fn a_mirror_with_a_file_of_another_length_is_the_wrong_one() {
    let mut scene = Scene::new(10, 20_000);
    scene.spec.urls.push(MIRROR.into());
    scene.spec.sha256 = Some(scene.digest());
    scene.sim.server.shorter_at_the_mirror.set(true);
    // The first one stumbles until the mirror's turn comes.
    *scene.sim.server.faults.borrow_mut() = [vec![None; 5], vec![Some(Fault::NoAnswer); 12]].concat();
    scene.loads();
    scene.is_kept();
    let at_the_mirror = scene
        .sim
        .server
        .log
        .borrow()
        .iter()
        .filter(|asked| asked.url == MIRROR)
        .count();
    assert!((1..7).contains(&at_the_mirror), "{at_the_mirror}");
}

#[test]
fn a_digest_in_the_servers_own_words_counts_as_published() {
    let scene = Scene::new(7, 9_000);
    *scene.sim.server.linked_etag.borrow_mut() = Some(format!("\"{}\"", scene.digest()));
    assert!(scene.loads().checked);
    assert!(scene.shelf.disk.borrow().manifests[URL].published);
    let scene = Scene::new(7, 9_000);
    *scene.sim.server.linked_etag.borrow_mut() = Some(format!("\"{}\"", Digest::of(b"else")));
    assert_eq!(scene.load().0.unwrap_err().code(), "digest_mismatch");
    // One that contradicts the caller's is noticed before a byte is taken.
    let mut scene = Scene::new(7, 9_000);
    *scene.sim.server.linked_etag.borrow_mut() = Some(format!("\"{}\"", Digest::of(b"else")));
    scene.spec.sha256 = Some(scene.digest());
    assert_eq!(scene.load().0.unwrap_err().code(), "digest_mismatch");
    assert_eq!(scene.sim.server.sent.get(), 0);
}

#[test]
fn what_cannot_be_used_is_refused_in_words() {
    for (fault, word) in [(Fault::Compressed, "compressed"), (Fault::WrongRange, "was asked for")] {
        let scene = Scene::new(8, 9_000);
        *scene.sim.server.random.borrow_mut() = Some(Box::new(move |_: &mut fastrand::Rng| Some(fault)));
        let error = scene.load().0.unwrap_err();
        assert_eq!(error.code(), "bad_response");
        assert!(error.to_string().contains(word), "{error}");
        assert!(scene.sim.server.n_requests() < 10);
    }
    let mut scene = Scene::new(8, 9_000);
    (scene.spec.bytes, scene.spec.sha256) = (Some(9_001), Some(scene.digest()));
    assert_eq!(scene.load().0.unwrap_err().code(), "bad_response");
    // Without a digest the size is a hint: files at an address are replaced.
    scene.spec.sha256 = None;
    scene.loads();
}
