//! `cpu::Pool`: every share runs exactly once, whoever runs it; panics are passed on, never waited for; nothing is left behind.

use std::{
    collections::HashSet,
    hint::black_box,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::SeqCst},
        mpsc,
    },
    thread,
    time::Duration,
};

use outcrop::backend::cpu::Pool;

/// Fails instead of hanging.
fn in_time(test: impl FnOnce() + Send + 'static) {
    let (tell, told) = mpsc::channel();
    let thread = thread::spawn(move || {
        test();
        let _ = tell.send(());
    });
    match told.recv_timeout(Duration::from_secs(20)) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("the pool hangs"),
        _ => thread.join().unwrap_or_else(|payload| std::panic::resume_unwind(payload)),
    }
}

fn words(outcome: thread::Result<()>) -> String {
    let payload = outcome.expect_err("it must panic");
    let text = payload.downcast_ref::<&str>().map(|text| text.to_string());
    text.or_else(|| payload.downcast_ref::<String>().cloned())
        .expect("panics carry text")
}

#[test]
fn each_share_runs_once() {
    in_time(|| {
        for n in [1, 2, 3, 8] {
            let pool = Pool::new(n).unwrap();
            assert_eq!(pool.n_threads(), n);
            let counts: Vec<AtomicU32> = (0..n).map(|_| AtomicU32::new(0)).collect();
            for round in 1..=2000 {
                pool.run(|i| {
                    // Shares of unequal length, so that each of them is late at times.
                    (0..(i + round as usize) % 7 * 50).for_each(|x| {
                        black_box(x);
                    });
                    counts[i].fetch_add(1, SeqCst);
                });
                // `run` has returned: nothing is under way.
                assert!(
                    counts.iter().all(|count| count.load(SeqCst) == round),
                    "{counts:?} after {round} rounds of {n}"
                );
            }
        }
    });
}

#[test]
fn what_shares_write_is_seen_by_the_caller_and_by_the_next_shares() {
    in_time(|| {
        let pool = Pool::new(4).unwrap();
        let cells: Vec<Mutex<Vec<u64>>> = (0..4).map(|_| Mutex::new(vec![1; 1000])).collect();
        for _ in 0..500 {
            pool.run(|i| cells[i].lock().unwrap().iter_mut().for_each(|x| *x += 1));
        }
        let sum: u64 = cells.iter().map(|cell| cell.lock().unwrap().iter().sum::<u64>()).sum();
        assert_eq!(sum, 4 * 1000 * 501);
    });
}

/// Spins until `ready`, so that shares wait for what another thread does, as no kernel may.
fn wait_until(ready: impl Fn() -> bool) {
    while !ready() {
        thread::yield_now();
    }
}

#[test]
fn helpers_help_also_after_they_slept() {
    in_time(|| {
        let pool = Pool::new(3).unwrap();
        for pause in [0, 50, 0, 50] {
            thread::sleep(Duration::from_millis(pause));
            // Until the helpers had a turn each; the caller takes what they do not.
            let threads = Mutex::new(HashSet::new());
            for _ in 0..10_000 {
                pool.run(|_| {
                    threads.lock().unwrap().insert(thread::current().id());
                    thread::sleep(Duration::from_micros(200));
                });
                if threads.lock().unwrap().len() == 3 {
                    break;
                }
            }
            assert_eq!(threads.lock().unwrap().len(), 3);
        }
    });
}

#[test]
fn the_caller_sleeps_through_a_long_share_and_is_woken() {
    in_time(|| {
        let pool = Pool::new(2).unwrap();
        for _ in 0..5 {
            let begun = AtomicBool::new(false);
            let done = AtomicUsize::new(0);
            pool.run(|i| {
                if i == 0 {
                    // Not before the helper has taken its share: the caller is not to take it back.
                    wait_until(|| begun.load(SeqCst));
                } else {
                    begun.store(true, SeqCst);
                    thread::sleep(Duration::from_millis(30));
                }
                done.fetch_add(1, SeqCst);
            });
            assert_eq!(done.load(SeqCst), 2);
        }
    });
}

#[test]
fn a_share_that_no_helper_began_is_the_callers() {
    in_time(|| {
        let pool = Pool::new(2).unwrap();
        let (hold, held) = (AtomicBool::new(true), AtomicBool::new(false));
        let me = thread::current().id();
        // Of fifteen helpers some are late for a share that is nothing.
        let here = AtomicUsize::new(0);
        let crowd = Pool::new(16).unwrap();
        for _ in 0..200 {
            crowd.run(|i| {
                if i > 0 && thread::current().id() == me {
                    here.fetch_add(1, SeqCst);
                }
            });
        }
        assert!(here.load(SeqCst) > 0, "15 helpers were always quicker than one empty share");
        // And one that is held up in its own share is waited for.
        pool.run(|i| match i {
            0 => {
                wait_until(|| held.load(SeqCst));
                hold.store(false, SeqCst);
            }
            _ => {
                held.store(true, SeqCst);
                wait_until(|| !hold.load(SeqCst));
            }
        });
    });
}

#[test]
fn a_panic_is_passed_on_once_all_are_done_and_the_pool_goes_on() {
    in_time(|| {
        let pool = Pool::new(3).unwrap();
        for bad in 0..3 {
            let begun = AtomicUsize::new(0);
            let ended = AtomicUsize::new(0);
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                pool.run(|i| {
                    begun.fetch_add(1, SeqCst);
                    // All three run at once: a helper's panic is a helper's.
                    wait_until(|| begun.load(SeqCst) == 3);
                    if i == bad {
                        panic!("share {i} is bad");
                    }
                    thread::sleep(Duration::from_millis(20));
                    ended.fetch_add(1, SeqCst);
                });
            }));
            assert_eq!(words(outcome), format!("share {bad} is bad"));
            assert_eq!(ended.load(SeqCst), 2, "the others were left alone");
            let count = AtomicUsize::new(0);
            pool.run(|_| {
                count.fetch_add(1, SeqCst);
            });
            assert_eq!(count.load(SeqCst), 3);
        }
    });
}

#[test]
fn a_pool_of_one_is_a_call() {
    let (inline, one) = (Pool::inline(), Pool::new(1).unwrap());
    let me = thread::current().id();
    for pool in [inline, one] {
        let seen = Mutex::new(Vec::new());
        pool.run(|i| seen.lock().unwrap().push((i, thread::current().id())));
        assert_eq!((pool.n_threads(), seen.into_inner().unwrap()), (1, vec![(0, me)]));
    }
}

#[test]
fn dropping_ends_the_helpers() {
    in_time(|| {
        thread_local!(static LIVE: Tell = const { Tell });
        static ENDED: AtomicUsize = AtomicUsize::new(0);
        struct Tell;
        impl Drop for Tell {
            fn drop(&mut self) {
                ENDED.fetch_add(1, SeqCst);
            }
        }
        for pause in [0, 30] {
            ENDED.store(0, SeqCst);
            let pool = Pool::new(4).unwrap();
            let begun = AtomicUsize::new(0);
            pool.run(|i| {
                begun.fetch_add(1, SeqCst);
                wait_until(|| begun.load(SeqCst) == 4);
                if i > 0 {
                    LIVE.with(|_| {});
                }
            });
            // Asleep or still looking.
            thread::sleep(Duration::from_millis(pause));
            drop(pool);
            assert_eq!(ENDED.load(SeqCst), 3);
        }
        // Helpers that never had anything to do, perhaps not even begun.
        drop(Pool::new(8).unwrap());
    });
}
