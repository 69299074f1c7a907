//! How far a load is, how fast it goes and how long it will take: pure, with the clock handed in.

use std::collections::VecDeque;

use serde::Serialize;

/// What a load is doing. In the order in which they come; the first three exclude each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Bytes come from the network.
    Download,
    /// Bytes come from IndexedDB.
    Cache,
    /// Bytes come from a local file.
    File,
    /// The device takes the last bytes and gets its kernels ready.
    Upload,
    /// The first pass runs, which compiles what is not compiled yet.
    Compile,
    /// The model can be used.
    Ready,
}

/// What a download waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Waiting {
    /// The browser says that there is no network.
    Offline,
    /// The next try, after one that failed.
    Retry,
    /// The server asked for patience.
    Busy,
    /// Another tab is downloading the same file.
    OtherTab,
}

/// Why a model is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Problem {
    /// There is not enough space.
    Quota,
    /// The browser allows no storage here, or it broke.
    Blocked,
    /// Its address is good for this visit only.
    Temporary,
}

/// A progress event, in the words of the JS API.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// What is being done.
    pub phase: Phase,
    /// Bytes of the file so far: in the store or received. While it is read from the store, those that were read.
    pub loaded: u64,
    /// Bytes of the whole file, once known.
    pub total: Option<u64>,
    /// Over the last seconds; only while bytes are arriving.
    pub bytes_per_second: Option<f64>,
    /// Until the last byte, at that rate.
    pub seconds_left: Option<f64>,
    /// The bytes come from IndexedDB.
    pub from_cache: bool,
    /// The model is, or is about to be, in IndexedDB.
    pub stored: bool,
    /// What the visitor should know.
    pub note: Option<String>,
    /// Bytes that were in IndexedDB when this load began.
    pub resumed: u64,
    /// The visitor asked to stand still.
    pub paused: bool,
    /// Nothing arrives, and why.
    pub waiting: Option<Waiting>,
    /// Until the next try.
    pub retry_seconds: Option<f64>,
    /// Why the model is not kept; `note` says it in words.
    pub problem: Option<Problem>,
}

impl Progress {
    /// An event of which only this is known.
    pub fn at(phase: Phase, loaded: u64, total: Option<u64>) -> Self {
        Self {
            phase,
            loaded,
            total,
            bytes_per_second: None,
            seconds_left: None,
            from_cache: phase == Phase::Cache,
            stored: false,
            note: None,
            resumed: 0,
            paused: false,
            waiting: None,
            retry_seconds: None,
            problem: None,
        }
    }
}

/// A transfer's rate: its mean over a window of the last seconds, so that neither a stall nor a burst makes it jump.
#[derive(Debug)]
pub struct Meter {
    /// (time in ms, bytes until then), oldest first, at least [`SAMPLE_MS`] apart.
    samples: VecDeque<(f64, u64)>,
    now_ms: f64,
    loaded: u64,
}

/// Length of the window.
const WINDOW_MS: f64 = 5000.0;
/// Samples closer than this are merged: a fast disk delivers thousands of pieces a second.
const SAMPLE_MS: f64 = 100.0;
/// A rate over less time than this is noise.
const MIN_MS: f64 = 400.0;

impl Meter {
    /// Starts at `now_ms` with no bytes.
    pub fn new(now_ms: f64) -> Self {
        Self {
            samples: VecDeque::from([(now_ms, 0)]),
            now_ms,
            loaded: 0,
        }
    }

    /// Counts `bytes` more.
    pub fn add(&mut self, bytes: u64, now_ms: f64) {
        self.loaded += bytes;
        self.now_ms = now_ms.max(self.now_ms); // clocks of suspended tabs are known to step back
        let newest = self.samples.back().expect("never empty").0;
        if self.now_ms - newest >= SAMPLE_MS {
            self.samples.push_back((self.now_ms, self.loaded));
        }
        // The oldest sample kept is the last one *outside* the window, so that it is always spanned.
        while self.samples.len() > 2 && self.now_ms - self.samples[1].0 >= WINDOW_MS {
            self.samples.pop_front();
        }
    }

    /// Bytes per second; `None` until there is enough to go by.
    pub fn rate(&self) -> Option<f64> {
        let &(start_ms, start) = self.samples.front().expect("never empty");
        let span_ms = self.now_ms - start_ms;
        (span_ms >= MIN_MS).then(|| (self.loaded - start) as f64 / span_ms * 1000.0)
    }

    /// Seconds until `left` more bytes at the present rate; `None` while that is unknown or nothing arrives.
    pub fn seconds_left(&self, left: u64) -> Option<f64> {
        match self.rate()? {
            rate if rate > 0.0 => Some(left as f64 / rate),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Adds `bytes` every `step_ms` from `from_ms` on, `n` times; the time of the last.
    fn run(meter: &mut Meter, from_ms: f64, step_ms: f64, n: u32, bytes: u64) -> f64 {
        for i in 1..=n {
            meter.add(bytes, from_ms + step_ms * f64::from(i));
        }
        from_ms + step_ms * f64::from(n)
    }

    #[test]
    fn a_steady_transfer_has_its_rate_and_its_end() {
        let mut meter = Meter::new(1000.0);
        assert_eq!((meter.rate(), meter.seconds_left(10)), (None, None));
        let t = run(&mut meter, 1000.0, 10.0, 20, 1000);
        assert_eq!(meter.rate(), None, "200 ms say nothing");
        run(&mut meter, t, 10.0, 980, 1000);
        let rate = meter.rate().unwrap();
        assert!((rate - 100_000.0).abs() < 100.0, "{rate}");
        let left = meter.seconds_left(1_000_000).unwrap();
        assert!((left - 10.0).abs() < 0.1, "{left}");
        assert_eq!(meter.seconds_left(0), Some(0.0));
    }

    #[test]
    fn a_change_of_speed_shows_within_the_window_but_not_at_once() {
        let mut meter = Meter::new(0.0);
        let t = run(&mut meter, 0.0, 10.0, 1000, 1000); // 100 kB/s for 10 s
        let t = run(&mut meter, t, 10.0, 50, 3000); // 300 kB/s for half a second
        let rate = meter.rate().unwrap();
        assert!(rate > 100_000.0 && rate < 140_000.0, "{rate}");
        run(&mut meter, t, 10.0, 600, 3000);
        let rate = meter.rate().unwrap();
        assert!((rate - 300_000.0).abs() < 3000.0, "{rate}");
    }

    #[test]
    fn a_stall_lowers_the_rate_and_ends_the_estimate() {
        let mut meter = Meter::new(0.0);
        let t = run(&mut meter, 0.0, 10.0, 500, 1000);
        meter.add(0, t + 2500.0);
        let rate = meter.rate().unwrap();
        assert!(rate < 70_000.0, "{rate}");
        meter.add(0, t + 30_000.0);
        meter.add(0, t + 40_000.0);
        assert_eq!((meter.rate(), meter.seconds_left(1 << 40)), (Some(0.0), None));
    }

    #[test]
    fn samples_are_few() {
        let mut meter = Meter::new(0.0);
        (0..10_000).for_each(|i| meter.add(1, f64::from(i))); // ten seconds, a piece every ms
        assert!(
            meter.samples.len() <= (WINDOW_MS / SAMPLE_MS) as usize + 2,
            "{}",
            meter.samples.len()
        );
    }

    #[test]
    fn a_clock_that_steps_back_does_no_harm() {
        let mut meter = Meter::new(5000.0);
        run(&mut meter, 5000.0, 100.0, 20, 1000);
        meter.add(1000, 0.0);
        assert!(meter.rate().unwrap() > 0.0);
    }

    #[test]
    fn events_have_the_names_that_pages_know() {
        let progress = Progress {
            stored: true,
            waiting: Some(Waiting::OtherTab),
            problem: Some(Problem::Quota),
            ..Progress::at(Phase::Cache, 1, Some(2))
        };
        assert_eq!(
            serde_json::to_string(&progress).unwrap(),
            r#"{"phase":"cache","loaded":1,"total":2,"bytesPerSecond":null,"secondsLeft":null,"fromCache":true,"stored":true,"note":null,"resumed":0,"paused":false,"waiting":"other-tab","retrySeconds":null,"problem":"quota"}"#
        );
    }
}
