//! How long to wait before the next try, and when to give up. Pure, with chance handed in.

/// The first wait, in ms; it doubles with each miss.
const FIRST_MS: f64 = 500.0;
/// The longest.
const MOST_MS: f64 = 30_000.0;
/// Misses in a row, without one new byte, after which a download ends: two minutes or so. What arrived is kept.
const MOST_MISSES: u32 = 10;
/// The same while no server has ever answered: an address that is wrong, or a host that lets no other site in, should be told soon.
const MOST_AT_FIRST: u32 = 4;
/// A server that asks for more patience than this is not coming back for this visit.
pub const MOST_RETRY_AFTER_MS: f64 = 600_000.0;

/// The tries of one chunk.
#[derive(Debug, Clone, Default)]
pub struct Patience {
    misses: u32,
}

impl Patience {
    /// Bytes came: whatever went wrong before is over.
    pub fn progress(&mut self) {
        self.misses = 0;
    }

    /// A try failed: ms to wait before the next, or `None` if it is time to give up, which is sooner if nobody was `heard` of yet. `chance` is from 0 up to 1: many tabs that lost one server
    /// at the same moment must not come back at the same moment.
    pub fn miss(&mut self, heard: bool, chance: f64) -> Option<f64> {
        self.misses += 1;
        let most = (FIRST_MS * f64::from(1 << (self.misses - 1).min(16))).min(MOST_MS);
        let misses = if heard { MOST_MISSES } else { MOST_AT_FIRST };
        (self.misses < misses).then_some(most * (0.5 + chance / 2.0))
    }
}

/// `Retry-After`: seconds, or a date in ms since 1970 that `parse_date` understands; in ms from now.
pub fn retry_after_ms(text: &str, now_ms: f64, parse_date: impl FnOnce(&str) -> Option<f64>) -> Option<f64> {
    let text = text.trim();
    let ms = match text.parse::<u32>() {
        Ok(seconds) => f64::from(seconds) * 1000.0,
        Err(_) => parse_date(text).filter(|ms| ms.is_finite())? - now_ms,
    };
    Some(ms.clamp(0.0, MOST_RETRY_AFTER_MS))
}

/// How many requests are open at once: four at first, up to six while all goes well, half as many after trouble.
///
/// More than six open no further connection over HTTP/1.1; fewer than four leave a long line half empty.
#[derive(Debug, Clone)]
pub struct Breadth {
    limit: u32,
    most: u32,
    good: u32,
}

/// Chunks without trouble after which one more request is opened.
const GOOD_CHUNKS: u32 = 8;

impl Breadth {
    /// Four, or as many as asked for.
    pub fn new(asked: Option<u32>) -> Self {
        match asked {
            Some(n) => Self {
                limit: n.max(1),
                most: n.max(1),
                good: 0,
            },
            None => Self {
                limit: 4,
                most: 6,
                good: 0,
            },
        }
    }

    /// Requests that may be open now.
    pub fn limit(&self) -> usize {
        self.limit as usize
    }

    /// A chunk came through.
    pub fn good(&mut self) {
        self.good += 1;
        if self.good >= GOOD_CHUNKS && self.limit < self.most {
            self.limit += 1;
            self.good = 0;
        }
    }

    /// A connection broke, stalled or was refused for now.
    pub fn trouble(&mut self) {
        self.limit = (self.limit / 2).max(1);
        self.good = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_with_chance_up_to_a_limit_and_then_end() {
        let mut patience = Patience::default();
        let waits: Vec<_> = std::iter::from_fn(|| patience.miss(true, 0.999)).map(f64::round).collect();
        assert_eq!(
            waits,
            [500.0, 1000.0, 1999.0, 3998.0, 7996.0, 15992.0, 29985.0, 29985.0, 29985.0]
        );
        assert_eq!(Patience::default().miss(true, 0.0), Some(250.0), "half of it at least");
        let mut new = Patience::default();
        assert_eq!((0..9).filter_map(|_| new.miss(false, 0.0)).count(), 3, "nobody there at all");
        patience.progress();
        assert_eq!(patience.miss(true, 0.0), Some(250.0), "one byte, and it begins again");
    }

    #[test]
    fn a_server_may_name_seconds_or_a_date() {
        let date = |text: &str| (text == "then").then_some(5000.0);
        assert_eq!(retry_after_ms(" 3 ", 0.0, date), Some(3000.0));
        assert_eq!(retry_after_ms("then", 1000.0, date), Some(4000.0));
        assert_eq!(retry_after_ms("then", 9000.0, date), Some(0.0), "past already");
        assert_eq!(retry_after_ms("4000000000", 0.0, date), Some(MOST_RETRY_AFTER_MS));
        for bad in ["", "-1", "soon", "99999999999"] {
            assert_eq!(retry_after_ms(bad, 0.0, date), None, "{bad}");
        }
    }

    #[test]
    fn breadth_grows_slowly_and_halves_at_once() {
        let mut breadth = Breadth::new(None);
        assert_eq!(breadth.limit(), 4);
        (0..100).for_each(|_| breadth.good());
        assert_eq!(breadth.limit(), 6);
        let limits: Vec<_> = (0..4)
            .map(|_| {
                breadth.trouble();
                breadth.limit()
            })
            .collect();
        assert_eq!(limits, [3, 1, 1, 1]);
        (0..7).for_each(|_| breadth.good());
        assert_eq!(breadth.limit(), 1);
        breadth.good();
        assert_eq!(breadth.limit(), 2);
        let mut asked = Breadth::new(Some(2));
        (0..100).for_each(|_| asked.good());
        assert_eq!(asked.limit(), 2);
    }
}
